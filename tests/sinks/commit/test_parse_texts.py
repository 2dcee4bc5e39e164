"""Texts in columns of numbers, dates and booleans, as CSV has them: on every database, as rows and as Arrow tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from airflow_parallel_provider.errors import PlanError, SchemaMismatch
from airflow_parallel_provider.rows.texts.arrow_texts import with_lines
from airflow_parallel_provider.sinks.commit.chunk import PendingChunk
from airflow_parallel_provider.sinks.ledger.chunks import ChunkReceipt
from airflow_parallel_provider.sinks.spec.table_spec import TableSpec
from tests.support.databases import OWN, SPEC, TestDatabase

pytestmark = pytest.mark.airflow

COLUMNS = {
    "id": int, "price": "decimal(12,2)", "share": float, "good": bool, "day": date, "at": datetime, "name": str,
}  # fmt: skip
TEXTS = [
    ("1", "1.50", "0.25", "true", "2026-12-01", "2026-12-01 10:00:00", "one"),
    ("-2", "2", "1e-3", "f", "1999-02-28", "2026-12-01T10:00:00.5", ""),
    ("3", "", " ", "", "", "", "3"),
]
VALUES = [
    {"id": 1, "price": Decimal("1.50"), "share": 0.25, "good": True, "day": date(2026, 12, 1),
     "at": datetime(2026, 12, 1, 10), "name": "one"},  # noqa: DTZ001
    {"id": -2, "price": Decimal(2), "share": 1e-3, "good": False, "day": date(1999, 2, 28),
     "at": datetime(2026, 12, 1, 10, 0, 0, 500_000), "name": ""},  # noqa: DTZ001
    {"id": 3, "price": None, "share": None, "good": None, "day": None, "at": None, "name": "3"},
]  # fmt: skip

Shape = Callable[[list[tuple[str, ...]]], list[Any]]


def as_dicts(rows: list[tuple[str, ...]]) -> list[Any]:
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows]


def as_table(rows: list[tuple[str, ...]]) -> list[Any]:
    return [pa.table({name: [row[at] for row in rows] for at, name in enumerate(COLUMNS)})]


def as_two_tables(rows: list[tuple[str, ...]]) -> list[Any]:
    """Of which the first is plain: its columns are parsed as a whole, those of the second value by value."""
    return [*as_table(rows[:1]), *as_table(rows[1:])] if len(rows) > 1 else as_table(rows)


SHAPES = pytest.mark.parametrize("shape", [as_dicts, as_table, as_two_tables])
EACH = pytest.mark.parametrize("database", OWN, indirect=True)


@EACH
@SHAPES
def test_texts_are_the_values_that_they_stand_for(database: TestDatabase, shape: Shape) -> None:
    with database.opened(columns=COLUMNS, parse_texts=True) as hook:
        hook.write_chunk("00000000", shape(TEXTS))
    with database.opened("others", replace(SPEC, load_key="others"), columns=COLUMNS) as hook:
        hook.write_chunk("00000000", VALUES)

    assert sorted(database.rows(), key=str) == sorted(database.rows("others"), key=str)


@EACH
@SHAPES
@pytest.mark.parametrize(
    ("at", "text", "reason"),
    [(0, "x", "a text that is not a whole number"), (1, "1.555", "more than 2 digits after"), (4, "1.2.2026", "ISO")],
)
def test_another_text_is_refused_by_column_and_row(
    database: TestDatabase, shape: Shape, at: int, text: str, reason: str
) -> None:
    if database.name == "sqlite" and at == 1:
        pytest.skip("its decimals have no scale")
    bad = list(TEXTS[0])
    bad[at] = text
    rows = shape([*TEXTS, tuple(bad)])

    with database.opened(columns=COLUMNS, parse_texts=True) as hook, pytest.raises(SchemaMismatch) as caught:
        hook.write_chunk("00000000", rows)
    assert f"column '{list(COLUMNS)[at]}'" in str(caught.value)
    assert reason in str(caught.value)
    assert "row 3)" in str(caught.value)
    assert database.ledger() == []

    with database.opened(columns=COLUMNS, parse_texts=True, max_rejected=1) as hook:
        receipt = hook.write_chunk("00000000", rows)
    assert (receipt.rows, receipt.rows_rejected) == (3, 1)


@EACH
@SHAPES
@pytest.mark.parametrize("disposition", ["merge", "replace"])
def test_with_merge_and_replace(database: TestDatabase, shape: Shape, disposition: Any) -> None:
    with database.opened(
        columns=COLUMNS, parse_texts=True, write_disposition=disposition, primary_key=["id"], max_rejected=0
    ) as hook:
        hook.write_chunk("00000000", shape([TEXTS[0], (*TEXTS[0][:-1], "later")] if disposition == "merge" else TEXTS))
        hook.consolidate()

    names = [row[-1] for row in database.rows()]
    assert sorted(names) == (["later"] if disposition == "merge" else ["", "3", "one"])


@pytest.mark.parametrize("database", ["sqlite", "postgres", "duckdb"], indirect=True)
@SHAPES
@pytest.mark.parametrize("bad", [0, 1])
def test_aggregates_are_of_the_values(database: TestDatabase, shape: Shape, bad: int) -> None:
    rows = shape([*TEXTS, *[("x", *TEXTS[0][1:])] * bad])
    with database.opened(
        columns=COLUMNS, parse_texts=True, max_rejected=bad, aggregates={"sum": "sum(price)", "last": "max(day)"}
    ) as hook:
        hook.write_chunk("00000000", rows)
        hook.consolidate()
        found = hook.aggregates()

    assert {name: str(value) for name, value in found.items()} == {"sum": "3.50", "last": "2026-12-01"}


@pytest.mark.parametrize("database", ["sqlite", "postgres"], indirect=True)
@SHAPES
def test_a_key_and_a_column_that_must_be_filled_take_no_empty_text(database: TestDatabase, shape: Shape) -> None:
    rows = shape([("", *TEXTS[0][1:])])
    with (
        database.opened(columns=COLUMNS, parse_texts=True, primary_key=["id"]) as hook,
        pytest.raises(SchemaMismatch, match="column 'id'"),
    ):
        hook.write_chunk("00000000", rows)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@SHAPES
@pytest.mark.parametrize("given", [None, False])
def test_texts_stay_texts_unless_the_author_says_otherwise(
    database: TestDatabase, shape: Shape, given: bool | None
) -> None:
    with (
        database.opened(columns=COLUMNS, parse_texts=given) as hook,
        pytest.raises(SchemaMismatch, match=r"a value of type str .*SinkTable\(parse_texts=True\)"),
    ):
        hook.write_chunk("00000000", shape(TEXTS))


def test_anything_else_is_refused_when_the_dag_is_parsed() -> None:
    with pytest.raises(PlanError, match="parse_texts"):
        TableSpec("scores", conn_id="warehouse", parse_texts="yes")  # type: ignore[arg-type]


def test_an_item_is_written_if_any_row_of_its_table_is() -> None:
    """A table of two rows, one of which is refused, and a table whose only row is refused."""
    table = with_lines(pa.table({"id": ["1", "x"]}), 2)
    receipt = ChunkReceipt("00000000", 0, 2, 3, 0, 1, {})
    chunk = PendingChunk(receipt, [table, pa.table({"id": ["y"]})], [], {}, positions=lambda: [7, 8])
    numbered = chunk.numbered()
    assert [at for _, at in numbered] == [0, 0, 1]

    from airflow_parallel_provider.rows.reject import RejectedRow

    chunk.rejected_by_database = [RejectedRow(row, at, "table", "bad", "bad") for row, at in numbered[1:]]
    chunk.partly_written = frozenset({0})

    assert chunk.unwritten_positions(1) == {8}
