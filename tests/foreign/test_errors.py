"""Errors as text: the author's own line, and a traceback that stays short whatever the error holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from airflow_parallel_provider.foreign.errors import TRACEBACK_LENGTH, error_text, message_text, traceback_text
from airflow_parallel_provider.foreign.frames import location_of

HERE = Path(__file__).name


def caught(function: Callable[[], Any]) -> BaseException:
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("it raised nothing")


def _line_of(text: str) -> int:
    """The number of the line of this file that has this comment."""
    lines = Path(__file__).read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.endswith(f"# {text}"))


def parse() -> Any:
    return json.loads("{nothing")  # parses


def chain() -> None:
    try:
        json.loads("nothing")
    except ValueError as error:
        raise KeyError("no airport") from error  # wraps


def sort() -> Any:
    return sorted([1, 2], key=lambda each: 1 / 0)  # divides


def test_the_place_is_the_authors_own_line_not_that_of_a_library() -> None:
    """In an earlier version it was ``decoder.py:353``."""
    assert location_of(caught(parse).__traceback__) == f"{HERE}:{_line_of('parses')}"


@pytest.mark.parametrize(("function", "comment"), [(chain, "wraps"), (sort, "divides")])
def test_chains_and_callbacks_of_libraries_lead_to_the_author_too(function: Any, comment: str) -> None:
    assert location_of(caught(function).__traceback__) == f"{HERE}:{_line_of(comment)}"


def test_code_of_a_notebook_is_the_authors() -> None:
    code = compile("import json\ndef cell(item):\n    return json.loads(item)\n", "<ipython-input-3-abc>", "exec")
    scope: dict[str, Any] = {}
    exec(code, scope)

    assert location_of(caught(lambda: scope["cell"]("{")).__traceback__) == "<ipython-input-3-abc>:3"


def test_generated_code_is_named_only_without_a_file() -> None:
    scope: dict[str, Any] = {}
    exec("def made(item):\n    return item.missing\n", scope)

    assert location_of(caught(lambda: scope["made"](1)).__traceback__).startswith(HERE)
    assert location_of(caught(lambda: scope["made"](1)).__traceback__.tb_next.tb_next) == "<string>:2"  # type: ignore[union-attr]


def test_without_a_frame_of_the_author_a_library_is_named() -> None:
    trace = caught(lambda: json.loads("{")).__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next

    assert location_of(trace).startswith("decoder.py:")


def test_a_traceback_has_the_chain_the_notes_and_the_members_of_a_group() -> None:
    def function() -> None:
        error = ExceptionGroup("three", [ValueError("a"), KeyError("b")])
        error.add_note("while the sky was blue")
        raise error from OSError("no disk")

    text = traceback_text(caught(function))

    assert text.index("OSError: no disk") < text.index("direct cause") < text.index("ExceptionGroup: three")
    for part in ("while the sky was blue", "1: ValueError: a", "2: KeyError: 'b'", "raise error from OSError"):
        assert part in text


def test_a_long_message_does_not_push_the_frames_out() -> None:
    def function() -> None:
        raise ValueError("x" * 10**6)

    text = traceback_text(caught(function))

    assert "raise ValueError" in text
    assert len(text) <= TRACEBACK_LENGTH


def test_deep_recursion_still_shows_the_authors_line() -> None:
    def deep() -> Any:
        return json.loads("[" * 100_000)  # nests

    error = caught(deep)

    assert location_of(error.__traceback__) == f"{HERE}:{_line_of('nests')}"
    assert "nests" in traceback_text(error)


def test_a_chain_without_end_ends() -> None:
    first, second = ValueError("one"), ValueError("two")
    first.__cause__, second.__cause__ = second, first

    assert traceback_text(first).count("ValueError") == 2


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError(), ""),
        (ValueError("a"), "a"),
        (ValueError(1, "a"), "(1, 'a')"),
        (ValueError([1]), "[1]"),
        (ValueError(Decimal("1.5")), "1.5"),
        (KeyError("a"), "'a'"),
        (OSError(2, "gone", "x.csv"), "[Errno 2] gone: 'x.csv'"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), "'utf-8' codec can't decode byte 0xff in position 0: bad"),
    ],
    ids=repr,
)
def test_messages_are_those_of_str(error: Exception, text: str) -> None:
    assert message_text(error) == str(error) == text


def test_an_error_is_named_with_its_type() -> None:
    assert error_text(ValueError("a\x00")) == "ValueError: a\\x00"
