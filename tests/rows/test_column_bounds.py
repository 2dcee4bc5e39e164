"""Bounds held against a whole column: they are left out only where every single value would have kept to them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_parallel_provider.errors import SchemaMismatch
from airflow_parallel_provider.rows.block import Block
from airflow_parallel_provider.rows.column_bounds import without_bounds
from airflow_parallel_provider.rows.fit import fit_block
from airflow_parallel_provider.values.kinds import Kind
from airflow_parallel_provider.values.table_shape import TableColumn, TableShape
from tests.support.given import quick

COLUMNS = [
    TableColumn("x", Kind.INT, None, bits=16),
    TableColumn("x", Kind.INT, None, bits=32, unsigned=True),
    TableColumn("x", Kind.INT, None),
    TableColumn("x", Kind.DECIMAL, None, precision=5, scale=2),
    TableColumn("x", Kind.DECIMAL, None, precision=3, scale=3),
    TableColumn("x", Kind.DECIMAL, None, precision=3),
    TableColumn("x", Kind.FLOAT, None, bits=32),
]
values = st.one_of(
    st.none(), st.integers(-40_000, 40_000), st.integers(), st.booleans(), st.floats(),
    st.decimals(-1_000, 1_000, places=2), st.decimals(allow_nan=True),
)  # fmt: skip


def one_by_one(column: TableColumn, rows: list[Any]) -> Any:
    """What becomes of each value alone."""
    found = []
    for row in rows:
        try:
            found.append(fit_block(Block(("x",), [(row,)]), TableShape("t", None, (column,)), {}, "")[0])
        except SchemaMismatch:
            return None
    return found


@quick
@given(st.sampled_from(COLUMNS), st.lists(values, min_size=1, max_size=4))
def test_a_column_is_what_its_values_are(column: TableColumn, rows: list[Any]) -> None:
    try:
        found = fit_block(Block(("x",), [(row,) for row in rows]), TableShape("t", None, (column,)), {}, "")
    except SchemaMismatch:
        found = None  # type: ignore[assignment]

    assert repr(found) == repr(one_by_one(column, rows))


@pytest.mark.parametrize(
    ("column", "rows", "free"),
    [
        (COLUMNS[0], [1, -32768, None], True),
        (COLUMNS[0], [32768], False),
        (COLUMNS[0], [None], True),
        (COLUMNS[0], [True], False),
        (COLUMNS[1], [-1], False),
        (COLUMNS[3], [Decimal("999.99"), None], True),
        (COLUMNS[3], [Decimal("1000.00")], False),
        (COLUMNS[3], [Decimal("1.5")], False),
        (COLUMNS[3], [Decimal("NaN")], False),
        (COLUMNS[3], [], True),
    ],
)
def test_only_plain_columns_need_no_look(column: TableColumn, rows: list[Any], *, free: bool) -> None:
    found = without_bounds(column, frozenset(map(type, rows)), rows)

    assert (found != column) == free
