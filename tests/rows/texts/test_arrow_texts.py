"""Columns of texts parsed as a whole: the values of the slow way, or no values."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_parallel_provider.errors import SchemaMismatch
from airflow_parallel_provider.rows.arrow_rows import ArrowRows
from airflow_parallel_provider.rows.block import Block
from airflow_parallel_provider.rows.fit import fit_block
from airflow_parallel_provider.rows.texts.arrow_texts import lines_of, parsed_texts, with_lines
from airflow_parallel_provider.values.kinds import Kind
from airflow_parallel_provider.values.table_shape import TableColumn, TableShape
from tests.support.given import examples

pa = pytest.importorskip("pyarrow")

COLUMNS = [
    TableColumn("x", Kind.INT, None, parse_texts=True),
    TableColumn("x", Kind.INT, None, parse_texts=True, bits=16),
    TableColumn("x", Kind.INT, None, parse_texts=True, bits=24),
    TableColumn("x", Kind.INT, None, parse_texts=True, bits=32, unsigned=True),
    TableColumn("x", Kind.FLOAT, None, parse_texts=True),
    TableColumn("x", Kind.FLOAT, None, parse_texts=True, bits=32),
    TableColumn("x", Kind.FLOAT, None, parse_texts=True, scale=2),
    TableColumn("x", Kind.DECIMAL, None, parse_texts=True),
    TableColumn("x", Kind.DECIMAL, None, parse_texts=True, precision=5, scale=2),
    TableColumn("x", Kind.DECIMAL, None, parse_texts=True, precision=4, scale=4),
    TableColumn("x", Kind.DECIMAL, None, parse_texts=True, digits=15),
    TableColumn("x", Kind.BOOL, None, parse_texts=True),
    TableColumn("x", Kind.DATE, None, parse_texts=True),
    TableColumn("x", Kind.DATETIME, None, parse_texts=True),
    TableColumn("x", Kind.DATETIMETZ, None, parse_texts=True),
    TableColumn("x", Kind.TIME, None, parse_texts=True),
    TableColumn("x", Kind.TEXT, None, parse_texts=True),
    TableColumn("x", Kind.INT, None),
    TableColumn("x", Kind.INT, None, parse_texts=True, bits=8),
]


def shape_of(column: TableColumn) -> TableShape:
    return TableShape("t", None, (column,))


def fitted(rows: Any, column: TableColumn) -> list[Any] | str:
    """The values, as text too, as 1.50 is not 1.5 unless the column says how many digits there are; or why not."""
    try:
        return [
            (value, str(value).lstrip("-") if column.scale is None else "")
            for (value,) in fit_block(Block(("x",), rows), shape_of(column), {}, "here")
        ]
    except SchemaMismatch as error:
        return str(error)


numbers = st.from_regex(r"[+-]?[0-9]{1,20}([.][0-9]{0,6})?(e[0-9])?", fullmatch=True)
DAY, TIME = "[0-2][0-9]{3}-[01][0-9]-[0-3][0-9]", "[0-2][0-9]:[0-5][0-9]:[0-6][0-9]([.][0-9]{1,7})?"
moments = st.from_regex(f"{DAY}([ T]{TIME}(Z|[+-][0-2][0-9]:[0-9]{{2}})?)?", fullmatch=True)
odd = st.sampled_from(["", " ", " 1", "true", "No", "T", "1", "0", "12.50", "0x1", "nan", "1\n", "2026-12-01", "10:00"])
texts = st.lists(st.one_of(st.none(), numbers, moments, odd), min_size=1, max_size=4)


@examples(600)
@given(st.sampled_from(COLUMNS), texts)
def test_parsed_values_are_those_of_the_slow_way(column: TableColumn, values: list[str | None]) -> None:
    table = pa.table({"x": pa.array(values, pa.string())})
    slow = fitted([(value,) for value in values], column)

    parsed = parsed_texts(table, shape_of(column))

    assert fitted(ArrowRows(parsed), column) == slow
    if pa.types.is_string(parsed.schema.field("x").type):
        assert parsed.equals(table)


@pytest.mark.parametrize(
    ("column", "values", "arrow"),
    [
        (COLUMNS[0], ["1", "-2", ""], "int64"),
        (COLUMNS[1], ["1"], "int16"),
        (COLUMNS[3], ["1"], "uint32"),
        (COLUMNS[4], ["1.5"], "double"),
        (COLUMNS[7], ["1.50", "2.00"], "decimal128(38, 2)"),
        (COLUMNS[8], ["1.5", "2"], "decimal128(5, 2)"),
        (COLUMNS[11], ["t", "0"], "bool"),
        (COLUMNS[12], ["2026-12-01"], "date32[day]"),
        (COLUMNS[13], ["2026-12-01 10:00:00.5"], "timestamp[us]"),
        (COLUMNS[14], ["2026-12-01T10:00:00+02:00"], "timestamp[us, tz=UTC]"),
        (COLUMNS[14], ["2026-12-01T10:00:00"], "timestamp[us, tz=UTC]"),
    ],
)
def test_plain_columns_are_parsed_as_a_whole(column: TableColumn, values: list[str], arrow: str) -> None:
    parsed = parsed_texts(pa.table({"x": values}), shape_of(column))

    assert str(parsed.schema.field("x").type) == arrow


@pytest.mark.parametrize(
    ("column", "values"),
    [
        (COLUMNS[1], ["1", "40000"]),
        (COLUMNS[4], ["0.1234567890123456789"]),
        (COLUMNS[7], ["1.5", "2.00"]),
        (COLUMNS[8], ["1.555"]),
        (COLUMNS[14], ["2026-12-01T10:00:00", "2026-12-01T10:00:00Z"]),
        (COLUMNS[16], ["1"]),
        (COLUMNS[17], ["1"]),
    ],
)
def test_other_columns_stay_texts(column: TableColumn, values: list[str]) -> None:
    table = pa.table({"x": values})

    assert parsed_texts(table, shape_of(column)).equals(table)


@pytest.mark.parametrize("lines", [None, [4, 7, 8]])
def test_tables_know_their_lines(lines: list[int] | None) -> None:
    table = pa.table({"x": ["1", "2", "3"]})
    assert lines_of(table) is None

    table = with_lines(table, 4, lines)

    assert list(lines_of(table) or ()) == (lines or [4, 5, 6])
    parsed = parsed_texts(table, shape_of(COLUMNS[0]))
    assert list(lines_of(parsed) or ()) == (lines or [4, 5, 6])
    assert lines_of(with_lines(table, 4, [1, 2, 3]).slice(1)) is None  # nobody says which
