"""``SqlSource(key=None)``: one reader, in an order that is the same at every try."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_parallel_provider import ListSink, Pipeline, PlanError, RunFailed, SinkTable, SqlSource, Stage
from airflow_parallel_provider.errors import LoadMismatch
from tests.support.databases import TestDatabase, fast_on

pytestmark = pytest.mark.airflow

on_databases_with_ranges = fast_on("sqlite", of=("sqlite", "postgres", "mariadb"))
on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
ROWS = [(number % 5, name) for number in range(40) for name in ("a", "A", "ä", None)]


@pytest.fixture
def filled(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> TestDatabase:
    """A table without any key, with equal rows, and rows that some collations take for equal."""
    monkeypatch.setattr("airflow_parallel_provider.sql.database.get_connection", lambda *_: database.connection)
    put(database, ROWS, create=True)
    return database


def put(database: TestDatabase, rows: list[tuple[int, str | None]], *, create: bool = False) -> None:
    place = database.place("events")
    if create:
        database.execute(f"CREATE TABLE {place} (kind INTEGER, name VARCHAR(9))")
    values = ", ".join(f"({kind}, {'NULL' if name is None else repr(name)})" for kind, name in rows)
    database.execute(f"INSERT INTO {place} VALUES {values}")


def source(database: TestDatabase, **options: Any) -> SqlSource:
    given = {"conn_id": "warehouse", "key": None, "schema": database.schema, "range_size": 100, **options}
    return SqlSource("events", **given)


def ordered(rows: list[Any]) -> list[Any]:
    return sorted(((row["kind"], row["name"]) for row in rows), key=repr)


@on_databases_with_ranges
def test_every_row_is_read_once_and_the_report_warns(filled: TestDatabase) -> None:
    sink = ListSink()

    report = Pipeline(source(filled), [], sink).run()

    assert ordered(sink.rows) == sorted(ROWS, key=repr)
    (warning,) = report.warnings
    assert "events by all columns" in warning
    assert "key=None, so one reader reads all rows" in warning
    assert list(source(filled)) == sink.rows  # in the same order


@on_databases_with_ranges
def test_the_order_does_not_depend_on_where_rows_are(filled: TestDatabase) -> None:
    before = list(source(filled))
    filled.execute(f"DELETE FROM {filled.place('events')}")
    put(filled, ROWS[::-1])

    assert list(source(filled)) == before


def pipeline(database: TestDatabase, function: Any) -> Pipeline:
    sink = SinkTable("copies", conn_id="warehouse", schema=database.schema)
    return Pipeline(source(database), [Stage(function)], sink, chunk_size=20, max_in_flight=20, load_key="once")


def refuses_kind_3(row: dict[str, Any]) -> dict[str, Any]:
    if row["kind"] == 3:
        raise ValueError("not today")
    return row


def same(row: dict[str, Any]) -> dict[str, Any]:
    return row


@on_databases_with_ranges
def test_a_retry_goes_on(filled: TestDatabase) -> None:
    with pytest.raises(RunFailed, match="not today"):
        pipeline(filled, refuses_kind_3).run()

    report = pipeline(filled, same).run()

    assert report.items_skipped > 0
    assert sorted(filled.rows("copies", "kind, name"), key=repr) == sorted(ROWS, key=repr)


@on_sqlite
def test_a_retry_refuses_other_rows(filled: TestDatabase) -> None:
    with pytest.raises(RunFailed, match="not today"):
        pipeline(filled, refuses_kind_3).run()
    put(filled, [(0, "late")])

    with pytest.raises(RunFailed, match=r"in the order of all columns: 160 rows in the first try, 161 now") as caught:
        pipeline(filled, same).run()
    assert isinstance(caught.value.__cause__, LoadMismatch)


@on_sqlite
def test_no_row_and_some_columns(filled: TestDatabase) -> None:
    assert list(source(filled, where="kind > 100")) == []
    assert list(source(filled, where="kind = 0 AND name = 'a'", columns=["name"])) == [{"name": "a"}] * 8


@on_sqlite
def test_what_needs_a_key_is_refused(filled: TestDatabase) -> None:
    with pytest.raises(PlanError, match=r"SqlSource\.key=None: shards and since= read ranges"):
        pipeline(filled, same).begin()
    with pytest.raises(PlanError, match=r"SqlSource\.since='kind': shards and since= read ranges"):
        source(filled, since="kind")


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_columns_without_an_order_of_their_own(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_parallel_provider.sql.database.get_connection", lambda *_: database.connection)
    place = database.place("events")
    database.execute(
        f"CREATE TABLE {place} (document JSON, spot POINT, day DATE)",
        f"""INSERT INTO {place} VALUES ('{{"a": 1}}', '(1,2)', 'infinity'), ('[]', NULL, '2026-01-01')""",
    )

    rows = list(source(database))

    assert [str(row["document"]) for row in rows] == ["[]", '{"a": 1}']
    assert rows[1]["day"].is_unreadable
