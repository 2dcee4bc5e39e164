"""Values that one side has and the other has not: refused by column, without a word about what they are."""

from __future__ import annotations

from datetime import time, timedelta, timezone
from typing import Any

import pytest

from airflow_parallel_provider.errors import SchemaMismatch
from tests.support.databases import OWN, TestDatabase

pa = pytest.importorskip("pyarrow")
pytestmark = pytest.mark.airflow
DAY = "d" * 3  # a name that no error text has by itself


@pytest.mark.parametrize("database", [name for name in OWN if name != "duckdb"], indirect=True)
@pytest.mark.parametrize("most", [0, 5])
def test_day_that_python_has_not_is_refused_at_once(database: TestDatabase, most: int) -> None:
    """Arrow has days before the year 1. (So has DuckDB, which takes them as they are.)"""
    table = pa.table({"id": [1], DAY: pa.array([-2_000_000], pa.date32())})

    with (
        database.opened(max_rejected=most) as hook,
        pytest.raises(SchemaMismatch, match=rf"column '{DAY}' of an Arrow table \(date32\[day\]\) has a value"),
    ):
        hook.write_chunk("00000000", [table])

    assert database.ledger() == []


WRONG: dict[str, tuple[str, Any, Any]] = {
    "array": ("INTEGER[]", [1, 2], ["secret"]),
    "flags": ("BOOLEAN[]", [True], ["secret"]),
}


@pytest.mark.parametrize("database", ["duckdb"], indirect=True)
@pytest.mark.parametrize("kind", WRONG)
def test_value_that_arrow_has_not_is_refused_and_not_shown(database: TestDatabase, kind: str) -> None:
    sql_type, good, bad = WRONG[kind]
    database.execute(f"CREATE TABLE scores (id INTEGER, {DAY} {sql_type})")
    rows = [{"id": 1, DAY: good}, {"id": 2, DAY: bad}]

    with database.opened() as hook, pytest.raises(SchemaMismatch, match=f"column '{DAY}'") as caught:
        hook.write_chunk("00000000", rows)
    assert "secret" not in str(caught.value)
    assert "999999999" not in str(caught.value)

    with database.opened(max_rejected=1) as hook:
        receipt = hook.write_chunk("00000000", rows)
    assert (receipt.rows, receipt.rows_rejected) == (1, 1)
    assert database.rows() == [(1, good)]


@pytest.mark.parametrize("database", ["duckdb"], indirect=True)
def test_longest_timedelta_fits(database: TestDatabase) -> None:
    with database.opened() as hook:
        hook.write_chunk("00000000", [{"id": 1, DAY: timedelta.max}, {"id": 2, DAY: timedelta.min}])

    texts = [text for (text,) in database.rows(columns=f"CAST({DAY} AS varchar)", order="id")]
    assert texts == ["999999999 days 23:59:59.999999", "-999999999 days"]


@pytest.mark.parametrize("database", ["duckdb", "postgres"], indirect=True)
def test_time_of_day_keeps_its_zone(database: TestDatabase) -> None:
    database.execute(f"CREATE TABLE {database.place('scores')} (id int, {DAY} timetz)")
    zone = timezone(timedelta(hours=5, minutes=30))

    with database.opened() as hook:
        hook.write_chunk("00000000", [{"id": 1, DAY: time(10, tzinfo=zone)}, {"id": 2, DAY: None}])

    texts = [text for (text,) in database.rows(columns=f"CAST({DAY} AS varchar)", order="id")]
    assert texts == ["10:00:00+05:30", None]
