"""``SqlSource`` on real databases: every row once, ranges that stay, keys that will not do."""

from __future__ import annotations

import json
import threading
import time
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_parallel_provider import ListSink, Pipeline, PlanError, RunFailed, SinkTable, SqlSource, Stage, StopToken
from airflow_parallel_provider.errors import LoadMismatch, RunStopped, SourceError
from airflow_parallel_provider.sources.sql.table_reader import TableReader
from tests.support.databases import SqliteDatabase, TestDatabase
from tests.support.turns import in_turn

pytestmark = pytest.mark.airflow

ROWS = 1050


def filled(database: TestDatabase, key: str = "INTEGER NOT NULL PRIMARY KEY", rows: int = ROWS) -> None:
    """A table with gaps in its key."""
    values = ", ".join(f"({number * 3}, 'name {number}', {number % 7})" for number in range(rows))
    database.execute(
        f"CREATE TABLE {database.place('orders')} (id {key}, name VARCHAR(40), kind INTEGER)",
        f"INSERT INTO {database.place('orders')} VALUES {values}",
    )


def source(database: TestDatabase, **options: Any) -> SqlSource:
    options = {"conn_id": "warehouse", "key": "id", "schema": database.schema, "range_size": 100, **options}
    return SqlSource("orders", **options)


def test_every_row_once_in_the_order_of_the_key(database: TestDatabase) -> None:
    filled(database)

    rows = list(source(database))

    assert [row["id"] for row in rows] == [number * 3 for number in range(ROWS)]
    assert rows[8] == {"id": 24, "name": "name 8", "kind": 1}


@pytest.mark.parametrize("rows", [0, 1, 99, 100, 101, 200])
@in_turn("mariadb", every=2)
def test_any_number_of_rows(database: TestDatabase, rows: int) -> None:
    filled(database, rows=max(rows, 1))
    if not rows:
        database.execute(f"DELETE FROM {database.place('orders')}")
    it = source(database)
    it.prepare()

    assert len(it) == rows
    assert [row["id"] for row in it] == [number * 3 for number in range(rows)]


def test_condition_with_parameters_and_columns(database: TestDatabase) -> None:
    filled(database)

    rows = list(source(database, where="kind = :kind", parameters={"kind": 3}, columns=["id", "name"]))

    assert [row["id"] for row in rows] == [number * 3 for number in range(ROWS) if number % 7 == 3]
    assert list(rows[0]) == ["id", "name"]


@pytest.mark.parametrize(
    ("where", "parameters", "there"),
    [
        ("day = :day", {"day": "2026-01-03"}, [2, 33]),
        ("kind = :kind AND day < :day", {"kind": "1", "day": "2026-01-10"}, [1, 3, 5, 7, 31, 33, 35, 37, 39]),
        ("(:name IS NULL OR name = :name)", {"name": "3"}, [3, 13, 23, 33]),
        ("(name = :name OR :name = 'any')", {"name": "3"}, [3, 13, 23, 33]),
        ("id < 3 -- the first ones", {}, [0, 1, 2]),
    ],
    ids=["date", "number", "null", "literal", "comment"],
)
@in_turn("mariadb", every=2)
def test_parameters_that_a_template_rendered_to_texts(
    database: TestDatabase, where: str, parameters: dict[str, str], there: list[int]
) -> None:
    """A DAG can give no others: ``parameters={"day": "{{ ds }}"}``."""
    values = ", ".join(f"({each}, '{each % 10}', {each % 2}, '2026-01-{each % 31 + 1:02}')" for each in range(40))
    database.execute(
        f"CREATE TABLE {database.place('orders')} (id INTEGER PRIMARY KEY, name VARCHAR(9), kind INTEGER, day DATE)",
        f"INSERT INTO {database.place('orders')} VALUES {values}",
    )

    assert [row["id"] for row in source(database, where=where, parameters=parameters)] == there


@pytest.mark.parametrize(
    ("where", "parameters", "message"),
    [
        ("kind = :kind AND id < :most", {"kind": 1}, r"SqlSource.where=.*a value for most"),
        ("kind = 1", {"kind": 1}, r"SqlSource.parameters=\['kind'\]: where= has no such names"),
        (None, {"kind": 1}, r"SqlSource.parameters=\['kind'\]"),
    ],
)
def test_names_and_values_of_a_condition_belong_together(
    database: TestDatabase, where: str | None, parameters: dict[str, Any], message: str
) -> None:
    filled(database, rows=3)

    with pytest.raises(PlanError, match=message):
        source(database, where=where, parameters=parameters).prepare()


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("VARCHAR(20) NOT NULL PRIMARY KEY", [f"key '{number:03}'" for number in range(250)]),
        ("DATE NOT NULL PRIMARY KEY", [date(2026, 1, 1) + timedelta(days=number) for number in range(250)]),
        ("DECIMAL(12,3) NOT NULL PRIMARY KEY", [Decimal(number) / 8 for number in range(250)]),
    ],
    ids=["text", "date", "decimal"],
)
def test_keys_of_other_types_survive_being_frozen(database: TestDatabase, kind: str, values: list[Any]) -> None:
    database.execute(f"CREATE TABLE {database.place('orders')} (id {kind})")
    written = ", ".join("('" + str(value).replace("'", "''") + "')" for value in values)
    database.execute(f"INSERT INTO {database.place('orders')} VALUES {written}")
    first, second = source(database), source(database)
    first.prepare()
    second.prepare()
    second.restore_state(json.loads(json.dumps(first.get_state())))

    assert [row["id"] for row in second] == values


def test_ranges_are_read_at_the_same_time(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(database)
    together = threading.Barrier(3)  # breaks, and fails the read, unless three threads are in it at once
    read = TableReader.read

    def read_together(self: TableReader, connection: Any, low: Any, high: Any, **options: Any) -> Any:
        if low is None or high <= (900,):
            together.wait(20)
        return read(self, connection, low, high, **options)

    monkeypatch.setattr(TableReader, "read", read_together)

    assert len(list(source(database, readers=3))) == ROWS


def test_statements_never_count_from_the_start(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlalchemy as sa

    filled(database)
    seen: list[tuple[str, Any]] = []

    def listen(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        seen.append((statement.upper(), parameters))

    sa.event.listen(sa.engine.Engine, "before_cursor_execute", listen)
    try:
        list(source(database))
    finally:
        sa.event.remove(sa.engine.Engine, "before_cursor_execute", listen)

    assert sum("ORDER BY" in statement for statement, _ in seen) >= 11
    # SQLite's dialect writes LIMIT ? OFFSET ? whatever is asked for; then it must be 0.
    assert not [parameters for statement, parameters in seen if "OFFSET" in statement and parameters[-1] != 0]


def run(database: TestDatabase, stage: Any, **options: Any) -> Any:
    sink = SinkTable("copies", conn_id="warehouse", schema=database.schema, primary_key=["id"])
    settings: dict[str, Any] = {"chunk_size": 100, "max_in_flight": 100, "load_key": "nightly"}
    return Pipeline(source(database, **options), [Stage(stage)], sink, **settings).run()


def copied(row: dict[str, Any]) -> dict[str, Any]:
    return row


def failing_from(limit: int) -> Any:
    def copy(row: dict[str, Any]) -> dict[str, Any]:
        if row["id"] >= limit:
            raise ValueError("not today")
        return row

    return copy


def test_retry_reads_up_to_the_bound_of_the_first_try(database: TestDatabase) -> None:
    filled(database)
    with pytest.raises(RunFailed):
        run(database, failing_from(2100))
    committed = len(database.rows("copies"))
    database.execute(f"INSERT INTO {database.place('orders')} VALUES (100000, 'late', 1)")

    report = run(database, copied)

    assert [row[0] for row in database.rows("copies", "id")] == [number * 3 for number in range(ROWS)]
    assert report.items_skipped == committed > 0


def test_retry_names_the_range_that_changed(database: TestDatabase) -> None:
    filled(database)
    with pytest.raises(RunFailed):
        run(database, failing_from(2100))
    assert database.rows("copies")
    database.execute(f"DELETE FROM {database.place('orders')} WHERE id = 900")

    with pytest.raises(
        RunFailed, match=r"rows 301 to 400 in the order of id: 100 rows in the first try, 99 now"
    ) as caught:
        run(database, copied)

    assert isinstance(caught.value.__cause__, LoadMismatch)


def test_first_try_takes_rows_as_they_come(database: TestDatabase, caplog: pytest.LogCaptureFixture) -> None:
    filled(database)
    it = source(database)
    it.prepare()
    database.execute(f"DELETE FROM {database.place('orders')} WHERE id = 900")

    assert len(list(it)) == ROWS - 1
    assert "rows 301 to 400 in the order of id: 100 rows when the key was walked, 99 now" in caplog.text


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("INTEGER NOT NULL", "no primary key or unique index consists of this column alone"),
    ],
)
def test_key_that_would_lose_rows_is_refused(database: TestDatabase, key: str, message: str) -> None:
    filled(database, key, rows=3)

    with pytest.raises(PlanError, match=message):
        source(database).prepare()


def test_nullable_key_is_read_while_no_row_has_a_null(database: TestDatabase) -> None:
    filled(database, "INTEGER NULL UNIQUE", rows=3)
    assert [row["id"] for row in source(database)] == [0, 3, 6]

    database.execute(f"INSERT INTO {database.place('orders')} VALUES (NULL, 'x', 1)")

    with pytest.raises(PlanError, match=r"the column may be NULL, and is in some rows.*where='id IS NOT NULL'"):
        source(database).prepare()
    assert [row["id"] for row in source(database, where="id IS NOT NULL")] == [0, 3, 6]


def test_view_is_read_if_its_keys_are_unique(database: TestDatabase) -> None:
    filled(database, rows=210)
    orders, view = database.place("orders"), database.place("seen")
    database.execute(f"CREATE VIEW {view} AS SELECT id, kind, kind * 2 AS twice FROM {orders} WHERE kind < 5")
    options: dict[str, Any] = {"conn_id": "warehouse", "schema": database.schema, "range_size": 100}
    try:
        found = list(SqlSource("seen", key="id", **options))
        assert [row["id"] for row in found] == [each * 3 for each in range(210) if each % 7 < 5]
        assert found[1] == {"id": 3, "kind": 1, "twice": 2}
        with pytest.raises(PlanError, match="rows of the view have the same key: add columns to the key"):
            SqlSource("seen", key="kind", **options).prepare()
    finally:
        database.execute(f"DROP VIEW {view}")


def test_table_may_be_named_with_its_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = SqliteDatabase(tmp_path / "warehouse.db")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "sqlite", "host": str(database.path)}))
    filled(database, rows=3)
    database.execute('CREATE TABLE "main.odd" (id INTEGER PRIMARY KEY)')

    assert len(list(SqlSource("main.orders", conn_id="warehouse", key="id"))) == 3
    assert list(SqlSource("main.odd", conn_id="warehouse", key="id")) == []
    with pytest.raises(PlanError, match=r"SqlSource.table='main.absent': .* no such table"):
        SqlSource("main.absent", conn_id="warehouse", key="id").prepare()


def test_sqlite_row_id_is_a_key_and_a_loose_text_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = SqliteDatabase(tmp_path / "warehouse.db")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "sqlite", "host": str(database.path)}))
    filled(database, "INTEGER PRIMARY KEY")
    database.execute("CREATE TABLE loose (id TEXT PRIMARY KEY)", "INSERT INTO loose VALUES (NULL)")

    assert len(list(source(database))) == ROWS
    with pytest.raises(PlanError, match="may be NULL"):
        SqlSource("loose", conn_id="warehouse", key="id").prepare()


def test_tables_columns_and_statements_that_are_wrong_say_so(database: TestDatabase) -> None:
    filled(database, rows=3)

    with pytest.raises(PlanError, match="no such table"):
        SqlSource("absent", conn_id="warehouse", key="id", schema=database.schema).prepare()
    with pytest.raises(PlanError, match=r"SqlSource.key='number': table 'orders' has no such column"):
        source(database, key="number").prepare()
    with pytest.raises(PlanError, match=r"SqlSource.columns='absent'"):
        source(database, columns=["id", "absent"]).prepare()
    with pytest.raises(SourceError, match="sql warehouse/"):
        source(database, where="this is no SQL").prepare()


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"key": ""}, "key"),
        ({"conn_id": None}, "conn_id"),
        ({"columns": "id"}, "columns"),
        ({"columns": ["name"]}, "columns"),
        ({"key": []}, "key"),
        ({"key": ["id", ""]}, "key"),
        ({"key": ["id", "id"]}, "key"),
        ({"key": 7}, "key"),
        ({"key": ["id", "line"], "columns": ["id", "name"]}, "columns"),
        ({"range_size": 5}, "range_size"),
        ({"readers": 0}, "readers"),
        ({"where": " "}, "where"),
        ({"parameters": [1]}, "parameters"),
    ],
)
def test_declaration_is_checked(options: dict[str, Any], field: str) -> None:
    with pytest.raises(PlanError, match=rf"SqlSource\.{field}"):
        SqlSource("orders", **{"conn_id": "warehouse", "key": "id", **options})


def test_identity_is_what_was_asked_and_not_the_rows(database: TestDatabase) -> None:
    filled(database)
    one, two = source(database), source(database, where="kind = 1")
    before = one.identity()
    one.prepare()

    assert one.identity() == before == repr(one) != two.identity()


def test_giving_up_ends_the_readers(database: TestDatabase) -> None:
    filled(database)
    it = iter(source(database))
    next(it)
    it.close()  # type: ignore[attr-defined]  # a generator

    for thread in threading.enumerate():
        if thread.name.startswith("sql-source"):
            thread.join(20)
            assert not thread.is_alive()


def test_stop_breaks_the_statements_off(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlalchemy as sa

    sleep = {"postgres": "SELECT pg_sleep(60)", "mariadb": "SELECT SLEEP(60)"}.get(database.name)
    if sleep is None:
        return  # SQLite has no statement that waits
    filled(database)
    stop = StopToken()
    asked: list[float] = []

    def enough() -> None:
        asked.append(time.monotonic())
        stop.stop("enough")

    read = TableReader.read

    def read_for_ever(self: TableReader, connection: Any, low: Any, high: Any, **options: Any) -> Any:
        asleep = SimpleNamespace(order_by=lambda key: sa.text(sleep))
        self._within = lambda *_: asleep  # type: ignore[method-assign]
        threading.Timer(0.2, enough).start()
        return read(self, connection, low, high, **options)

    monkeypatch.setattr(TableReader, "read", read_for_ever)

    with pytest.raises(RunStopped) as caught:
        Pipeline(source(database), [], ListSink()).run(stop=stop)

    assert time.monotonic() - asked[0] < 5
    assert caught.value.report is not None
    assert not [warning for warning in caught.value.report.warnings if "left behind" in warning]
    for thread in threading.enumerate():
        if thread.name.startswith("sql-source"):
            thread.join(20)
            assert not thread.is_alive(), "its statement goes on"


@pytest.mark.parametrize("database", ["postgres", "mariadb"], indirect=True)
def test_statement_that_was_not_begun_when_the_stop_came_is_not_begun(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader may be about to connect, or to ask, when all connections are interrupted."""
    import sqlalchemy as sa

    filled(database)
    stop = StopToken()
    read = TableReader.read

    def read_late(self: TableReader, connection: Any, low: Any, high: Any, **options: Any) -> Any:
        sleep = {"postgres": "SELECT pg_sleep(60)", "mariadb": "SELECT SLEEP(60)"}[database.name]
        asleep = SimpleNamespace(order_by=lambda key: sa.text(sleep))
        self._within = lambda *_: asleep  # type: ignore[method-assign]
        stop.stop("enough")
        assert self._interrupted.wait(20)
        return read(self, connection, low, high, **options)

    monkeypatch.setattr(TableReader, "read", read_late)

    with pytest.raises(RunStopped):
        Pipeline(source(database), [], ListSink()).run(stop=stop)

    for thread in threading.enumerate():
        if thread.name.startswith("sql-source"):
            thread.join(20)
            assert not thread.is_alive(), "its statement was begun"


def test_rows_go_through_a_pipeline(database: TestDatabase) -> None:
    filled(database)
    sink = ListSink()

    report = Pipeline(source(database), [Stage(lambda row: row["id"], workers=2)], sink, ordered=True).run()

    assert sink.rows == [number * 3 for number in range(ROWS)]
    assert report.items_read == ROWS
