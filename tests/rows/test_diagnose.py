"""The value that made a database refuse a chunk."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_parallel_provider.rows.block import Block
from airflow_parallel_provider.rows.diagnose import diagnose
from airflow_parallel_provider.values.json_text import JsonText
from airflow_parallel_provider.values.kinds import Kind
from airflow_parallel_provider.values.table_shape import TableColumn, TableShape

HALF = "a text that is not valid Unicode"
NUL = "a text with a NUL character"


def found(kind: Kind, *values: Any, takes_nul: bool = True, **column: Any) -> str | None:
    shape = TableShape("t", None, (TableColumn("v", kind, "x", **column),))
    return diagnose(Block(("v",), [(value,) for value in values]), shape, "chunk 7", takes_nul=takes_nul)


@pytest.mark.parametrize(
    "value",
    [
        {"t": "\ud83d"},
        {"\ud83d": 1},
        ["fine", ["\udc00"]],
        ({"a": [{"b": "cut \ud83d"}]},),
        '["\\ud83d"]',
        JsonText('"\\ud83d"'),
    ],
)
def test_half_a_surrogate_pair_within_json_has_a_row(value: Any) -> None:
    text = found(Kind.JSON, {"t": "fine"}, value)

    assert text is not None
    assert text.startswith(f"table 't', column 'v' (json) cannot take {HALF} (half a surrogate pair) (chunk 7, row 1)")


@pytest.mark.parametrize("value", [{"t": "a\x00b"}, {"a\x00b": 1}, [["\x00"]], JsonText('["\\u0000"]')])
def test_nul_within_json_is_wrong_where_texts_have_none(value: Any) -> None:
    assert found(Kind.JSON, value) is None
    assert NUL in (found(Kind.JSON, value, takes_nul=False) or "")


def test_json_may_be_nested_deeply() -> None:
    value: Any = ["\ud83d"]
    for _ in range(100_000):
        value = [value]

    assert HALF in (found(Kind.JSON, value) or "")


@pytest.mark.parametrize(
    ("kind", "value", "column", "expected"),
    [
        (Kind.TEXT, None, {"nullable": False}, "None (it is NOT NULL)"),
        (Kind.TEXT, "abc", {"length": 2}, "a text of more than 2 characters"),
        (Kind.BYTES, b"abc", {"length": 2}, "more than 2 bytes"),
        (Kind.INT, 2**31, {"bits": 32}, "an integer beyond 32 bit"),
    ],
)
def test_value_that_the_column_cannot_take(kind: Kind, value: Any, column: dict[str, Any], expected: str) -> None:
    assert f"cannot take {expected}" in (found(kind, value, **column) or "")


def test_nothing_looks_wrong() -> None:
    assert found(Kind.JSON, {"a": [1, None, "x"]}, [], None, 5, "x", takes_nul=False) is None
