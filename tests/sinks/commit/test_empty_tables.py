"""Tables and data frames without rows, anywhere in a chunk: the chunk has the rows of the others, and no more."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.databases import TestDatabase
from tests.support.turns import in_turn

pytestmark = pytest.mark.airflow
pa = pytest.importorskip("pyarrow")
COLUMNS: dict[str, Any] = {"id": int, "t": str}


def table_of(*numbers: int) -> Any:
    return pa.table({"id": pa.array(numbers, pa.int64()), "t": pa.array([f"row {n}" for n in numbers], pa.string())})


def shaped(how: str, table: Any) -> Any:
    """An Arrow table in one of the shapes that a stage may return."""
    if how == "table":
        return table
    if how == "batch":
        return pa.RecordBatch.from_pydict({name: table.column(name).combine_chunks() for name in table.schema.names})
    if how == "pandas":
        pytest.importorskip("pandas")
        return table.to_pandas()
    return pytest.importorskip("polars").from_arrow(table)


PLACES: dict[str, list[tuple[int, ...]]] = {
    "first": [(), (0, 1, 2)],
    "in the middle": [(0,), (), (), (1, 2)],
    "last": [(0, 1, 2), ()],
    "all": [(), ()],
    "alone": [()],
    "around one": [(), (0, 1), (), (2,), ()],
}


@pytest.mark.parametrize("how", ["table", "batch", "pandas", "polars"])
@in_turn("mariadb", "duckdb", "postgres-generic")
def test_empty_ones_add_nothing(database: TestDatabase, how: str) -> None:
    for number, (place, tables) in enumerate(PLACES.items()):
        name = f"t{number}"
        with database.opened(name, columns=COLUMNS) as hook:
            receipt = hook.write_chunk("00000000", [shaped(how, table_of(*numbers)) for numbers in tables])
        expected = [(n, f"row {n}") for numbers in tables for n in numbers]

        assert database.rows(name) == expected, place
        assert receipt.rows == len(expected), place


@pytest.mark.parametrize("database", ["sqlite", "postgres", "mariadb", "duckdb"], indirect=True)
@pytest.mark.parametrize("how", ["table", "pandas", "polars"])
def test_empty_ones_add_nothing_to_a_merge_or_with_a_load_column(database: TestDatabase, how: str) -> None:
    rows = [shaped(how, table_of(*numbers)) for numbers in PLACES["around one"]]
    options: dict[str, Any] = {"write_disposition": "merge", "primary_key": "id", "load_column": "load_id"}
    with database.opened(columns=COLUMNS, **options) as hook:
        hook.write_chunk("00000000", rows)
        hook.write_chunk("00000001", rows[:1], first_position=5)

    assert database.rows(columns="id, t") == [(0, "row 0"), (1, "row 1"), (2, "row 2")]
