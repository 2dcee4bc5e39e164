"""What is DuckDB's own: a file belongs to one process, and of two transactions none waits for the other."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from airflow_parallel_provider.errors import SchemaMismatch, SinkError, UnsafeTable
from airflow_parallel_provider.sql.database import Database
from tests.support.attempts import SECOND, Gate, broken_off, holding_hook
from tests.support.children import Child, everything, rows_of
from tests.support.databases import SPEC, TestDatabase, close_files

pytest.importorskip("duckdb")
pytestmark = [pytest.mark.airflow, pytest.mark.parametrize("database", ["duckdb"], indirect=True)]
SIZE = 20
VALUES: dict[str, list[Any]] = {
    "bool": [True, False],
    "int": [2**63 - 1, -(2**63)],
    "hugeint": [2**63, -(2**100), 10**38 - 1],
    "float": [math.inf, -0.5, 1e-320],
    "text": ["it's \x00 \U0001f600", ""],
    "bytes": [b"\0\xff", b""],
    "date": [date.min, date.max],
    "datetime": [datetime.min, datetime.max],  # noqa: DTZ901
    "datetimetz": [datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)],
    "time": [time.min, time.max],
    "timedelta": [timedelta(days=-3, microseconds=5), timedelta(microseconds=-1)],
    "uuid": [UUID(int=7)],
    "decimal": [Decimal("1.5"), Decimal("-0.0000000001"), Decimal(10**27)],
    "json": [{"a": [1, None]}, []],
}


@pytest.mark.parametrize("kind", VALUES)
def test_values_come_back_as_they_went(database: TestDatabase, kind: str) -> None:
    values = [*VALUES[kind], None]
    with database.opened(columns={"id": int, "value": kind}) as hook:
        hook.write_chunk("00000000", list(enumerate(values)))

    got = [row[0] for row in database.rows(columns='"value"', order="id")]
    assert [json.loads(each) if kind == "json" and each else each for each in got] == values


def test_database_in_memory_is_refused(database: TestDatabase) -> None:
    database.connection.host = ":memory:"

    with database.hook() as hook, pytest.raises(UnsafeTable, match="DuckDB database in memory"):
        hook.open(SPEC)


def holding_the_file(database: TestDatabase, gate: Gate, point: str = "before_commit") -> Child:
    """A process that writes chunk 0 and stops at a point of it."""

    def first_attempt() -> None:
        with database.opened(cls=holding_hook(gate, point)) as hook:
            hook.write_chunk("00000000", rows_of(0, SIZE))

    child = Child(first_attempt)
    gate.wait_until_held()
    return child


def at_first_wait(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> list[float]:
    """Do something when a process finds the file in use for the first time; the waits are listed."""
    waits: list[float] = []
    wait = Database._wait

    def noticing(database: Database, seconds: float) -> bool:
        waits.append(seconds)
        if len(waits) == 1:
            act()
        return wait(database, seconds)

    monkeypatch.setattr(Database, "_wait", noticing)
    return waits


@pytest.mark.parametrize("ending", ["commits", "dies"])
@pytest.mark.parametrize("point", ["after_claim", "before_commit"])
def test_second_process_waits_for_the_file_and_goes_on_from_there(
    database: TestDatabase, point: str, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    first = holding_the_file(database, gate, point)
    waits = at_first_wait(monkeypatch, gate.open if ending == "commits" else first.kill)

    with database.hook(lock_timeout=60) as hook:
        done = hook.open(SECOND)
        receipt = hook.write_chunk("00000000", rows_of(0, SIZE))
    first.wait()
    gate.close()

    assert waits
    assert list(done) == (["00000000"] if ending == "commits" else [])
    assert receipt.attempt == (1 if ending == "commits" else 2)
    assert database.rows(columns="id, name") == everything(1, SIZE)


def test_file_that_is_not_let_go_is_an_error_that_says_who_has_it_and_the_retry_succeeds(
    database: TestDatabase,
) -> None:
    gate = Gate()
    first = holding_the_file(database, gate)

    with (
        database.hook(lock_timeout=0.1) as hook,
        pytest.raises(SinkError, match=rf"\(PID {first.pid}\) still has the DuckDB file open.*only one.*run the task"),
    ):
        hook.open(SECOND)

    first.kill()
    gate.close()
    with database.opened(spec=SECOND) as hook:
        hook.write_chunk("00000000", rows_of(0, SIZE))
    assert database.rows(columns="id, name") == everything(1, SIZE)


def test_waiting_for_the_file_can_be_broken_off(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    first = holding_the_file(database, gate)
    hook = database.hook(lock_timeout=86_400)
    waits = at_first_wait(monkeypatch, hook.interrupt)

    with hook, pytest.raises(SinkError, match="has the DuckDB file open"):
        hook.open(SECOND)

    assert len(waits) == 1
    first.kill()
    gate.close()


def test_statement_that_is_running_can_be_broken_off(database: TestDatabase) -> None:
    running = threading.Event()
    hook = database.hook()

    def take_for_ever(connection: Any) -> None:
        running.set()
        connection.exec_driver_sql("SELECT count(*) FROM range(10_000_000_000) a, range(10_000_000_000) b")

    def write() -> None:
        hook.write_chunk("00000000", rows_of(0, SIZE))
        hook.write_chunk("00000001", rows_of(1, SIZE), first_position=SIZE, in_transaction=take_for_ever)

    error = broken_off(hook, write, running)

    assert isinstance(error, SinkError)
    assert not isinstance(error, SchemaMismatch)
    assert database.rows(columns="id, name") == everything(1, SIZE)


@pytest.mark.parametrize(
    ("point", "committed_by"),
    [
        ("after_claim", 2),  # the second does not wait, and the first takes its word
        ("before_commit", 1),  # the first has written the row of the load: the second tries again, and takes its word
    ],
)
def test_of_two_attempts_in_one_process_the_later_one_gives_way(
    database: TestDatabase, point: str, committed_by: int
) -> None:
    """The first holds its transaction open when the second comes."""
    from airflow_parallel_provider.hooks.sink_table import SinkTableHook

    held, go = threading.Event(), threading.Event()
    receipts: list[Any] = []

    class Holding(SinkTableHook):
        def reached(self, here: str) -> None:
            if here == point and not held.is_set():
                held.set()
                go.wait(20)

    class Following(SinkTableHook):
        def reached(self, here: str) -> None:
            if here == "after_rows" and held.is_set() and committed_by == 1:
                go.set()

    def first_attempt() -> None:
        with database.opened(cls=Holding) as hook:
            receipts.append(hook.write_chunk("00000000", rows_of(0, SIZE)))

    first = threading.Thread(target=first_attempt)
    with database.opened(cls=Following, spec=SECOND) as hook:
        hook.write_chunk("00000001", rows_of(1, SIZE), first_position=SIZE)
        first.start()
        assert held.wait(20)
        receipts.append(hook.write_chunk("00000000", rows_of(0, SIZE)))
        go.set()
        first.join(20)

    assert [receipt.attempt for receipt in receipts] == [committed_by] * 2
    assert database.rows(columns="id, name") == everything(2, SIZE)


@pytest.mark.parametrize("hindrance", ["setting", "table of that name", "none"])
def test_chunk_is_found_whatever_the_connection_forbids(
    database: TestDatabase, hindrance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DuckDB looks for Arrow tables among Python's variables, unless this is off, or it finds a table first."""
    from airflow_parallel_provider.sql.backends.duckdb.dialect import CHUNK, DuckConnection

    if hindrance == "setting":
        close_files()  # all connections to a file that is open must agree on their settings
        database.connection.extra = '{"settings": {"python_enable_replacements": false}}'
    elif hindrance != "none":
        database.execute(f"CREATE TABLE {CHUNK} (c0 BIGINT, c1 VARCHAR)", f"INSERT INTO {CHUNK} VALUES (7, 'wrong')")
    ways: list[bool] = []
    detect = DuckConnection.detect_variable_scan

    def recording(connection: DuckConnection) -> None:
        detect(connection)
        ways.append(connection._scans_variables)

    monkeypatch.setattr(DuckConnection, "detect_variable_scan", recording)
    with database.opened() as hook:
        for number in range(2):
            hook.write_chunk(f"{number:08d}", rows_of(number, SIZE), first_position=number * SIZE)

    assert ways == [hindrance == "none"]
    assert database.rows(columns="id, name") == everything(2, SIZE)


def test_refused_row_costs_a_new_transaction_and_no_other_row(database: TestDatabase) -> None:
    database.execute("CREATE TABLE scores (id INTEGER PRIMARY KEY, name VARCHAR)")
    claims: list[str] = []
    from airflow_parallel_provider.hooks.sink_table import SinkTableHook

    class Counting(SinkTableHook):
        def reached(self, here: str) -> None:
            claims.append(here)

    rows = [*rows_of(0, SIZE), {"id": 3, "name": "again"}]
    with database.opened(cls=Counting, max_rejected=1) as hook:
        receipt = hook.write_chunk("00000000", rows)

    assert claims.count("after_claim") > 2
    assert claims.count("after_commit") == 1
    assert (receipt.rows, receipt.rows_rejected) == (SIZE, 1)
    assert database.rows(columns="id, name") == everything(1, SIZE)
    assert [row[2] for row in database.ledger()] == [SIZE]


def test_two_attempts_in_one_process_that_begin_at_once(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have written the load's row when the second one commits first: the other begins again."""
    from airflow_parallel_provider.sinks.ledger.loads import LoadsTable

    with database.opened("other"):
        pass  # the ledger is there
    begin, calls = LoadsTable.begin_load, []

    def overtaken(loads: LoadsTable, *rest: Any) -> Any:
        found = begin(loads, *rest)
        calls.append(1)
        if len(calls) == 1:
            with database.opened(spec=SECOND) as second:
                second.write_chunk("00000000", rows_of(0, SIZE))
        return found

    monkeypatch.setattr(LoadsTable, "begin_load", overtaken)
    with database.hook() as hook:
        done = hook.open(SPEC)

    assert len(calls) == 3
    assert list(done) == ["00000000"]
    assert database.rows(columns="id, name") == everything(1, SIZE)


def test_replaced_table_keeps_its_indexes(database: TestDatabase) -> None:
    """A table that was made anew and renamed would have none: rows are copied into the old one."""
    database.execute("CREATE TABLE scores (id INTEGER, name VARCHAR)", "CREATE UNIQUE INDEX by_id ON scores (id)")
    with database.opened(write_disposition="replace") as hook:
        hook.write_chunk("00000000", rows_of(0, SIZE))
        hook.consolidate()

    assert database.rows(columns="id, name") == everything(1, SIZE)
    assert database.fetch("SELECT index_name, table_name FROM duckdb_indexes() WHERE index_name = 'by_id'") == [
        ("by_id", "scores")
    ]


def test_tables_of_the_same_names_in_another_schema_are_none_of_ours(database: TestDatabase) -> None:
    taken = ["scores", "airflow_parallel_ledger", "airflow_parallel_ledger__loads", "scores__dead_letters"]
    database.execute("CREATE SCHEMA other", *(f"CREATE TABLE other.{name} (wrong INTEGER)" for name in taken))

    with database.opened() as hook:
        hook.write_chunk("00000000", rows_of(0, SIZE))

    assert database.rows(columns="id, name") == everything(1, SIZE)


def test_column_with_a_default_may_be_left_out(database: TestDatabase) -> None:
    database.execute("CREATE TABLE scores (id INTEGER, name VARCHAR, tries INTEGER NOT NULL DEFAULT 7)")
    with database.opened() as hook:
        hook.write_chunk("00000000", rows_of(0, SIZE))

    assert database.rows(columns="DISTINCT tries") == [(7,)]


def test_numbers_that_only_an_unsigned_column_takes(database: TestDatabase) -> None:
    database.execute("CREATE TABLE scores (id UBIGINT, name VARCHAR)")
    with database.opened() as hook:
        hook.write_chunk("00000000", [{"id": 2**64 - 1, "name": "most"}, {"id": 0, "name": "least"}])

    assert database.rows() == [(0, "least"), (2**64 - 1, "most")]
