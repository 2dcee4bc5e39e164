"""Cleaned text: every store takes it, and nothing in it acts on a terminal or a page."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_parallel_provider.foreign.text import clean, encodable, one_line
from tests.support.given import quick

anything = st.text(st.characters(codec=None, exclude_categories=()), max_size=60)  # with surrogates and controls


@quick
@given(anything)
def test_clean_text_can_be_stored_and_shown_anywhere(text: str) -> None:
    found = clean(text)

    found.encode()
    assert not {each for each in found if unicodedata.category(each) in ("Cc", "Cs")} - {"\n", "\t"}
    assert clean(found) == found


@quick
@given(anything, st.integers(1, 40))
def test_no_text_is_longer_than_said(text: str, limit: int) -> None:
    assert len(clean(text, limit)) <= limit
    assert len(one_line(text, limit)) <= limit


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\x00b", "a\\x00b"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("half \ud83d", "half \\ud83d"),
        ("user\u202efdp.exe", "user\\u202efdp.exe"),
        ("user\u2066fdp\u2069", "user\\u2066fdp\\u2069"),
        ("one\u2028two\u2029three", "one\\u2028two\\u2029three"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("Zürich, 東京, \U0001f600, שלום", "Zürich, 東京, \U0001f600, שלום"),
    ],
)
def test_what_is_unsafe_is_written_as_python_writes_it(text: str, expected: str) -> None:
    assert clean(text) == expected


def test_what_an_author_logs_keeps_its_colors_and_can_be_stored() -> None:
    assert encodable("\x1b[31mred\x1b[0m \x00 \ud83d Zürich\n") == "\x1b[31mred\x1b[0m \\x00 \\ud83d Zürich\n"


def test_one_line_is_one() -> None:
    assert one_line(" two\n  lines\tand \x1b[31mred", 30) == "two lines and \\x1b[31mred"


class Loud(str):
    """A text that says something else of itself."""

    __slots__ = ()

    def __str__(self) -> str:
        raise SystemExit

    def __getitem__(self, _: object) -> str:
        raise SystemExit

    def __len__(self) -> int:
        raise SystemExit


def test_the_methods_of_a_texts_class_are_not_called() -> None:
    assert type(clean(Loud("quiet"), 3)) is str
    assert clean(Loud("quiet"), 3) == "qu…"
