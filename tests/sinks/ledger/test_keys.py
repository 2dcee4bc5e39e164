"""A key that the database does not enforce: what commits twice with one attempt too many, and what closes that."""

from __future__ import annotations

import dataclasses
import logging
import time
from contextlib import suppress
from typing import Any

import pytest

from airflow_parallel_provider.engine.interfaces.records import ChunkResult
from airflow_parallel_provider.errors import LoadMismatch, SinkError, UnsafeTable
from airflow_parallel_provider.sinks.ledger.chunks import ChunkLedger
from airflow_parallel_provider.sinks.ledger.keys import has_locking_reads, lock_by_writing, refuse_without_rollback
from tests.support.attempts import Gate, holding_hook
from tests.support.children import KILLED, Child, attempt, everything, killing_hook
from tests.support.databases import (
    SPEC,
    PostgresDatabase,
    TestDatabase,
    on_each_backend,
    on_each_database,
    on_two_databases,
)
from tests.support.keyless import LEDGER, LEVELS, ledger_without_keys, without_keys

pytestmark = pytest.mark.airflow
ROWS = [{"id": n} for n in range(3)]
CHUNKS, SIZE = 100, 20


def keys_hold(hook: Any) -> bool:
    return bool(hook.load.committer.control_tables.keys_hold)


@on_each_backend
def test_the_probe_says_what_the_tables_have(database: TestDatabase) -> None:
    with database.opened() as hook:
        assert keys_hold(hook)
    for table in (f"{LEDGER}__loads", LEDGER):
        without_keys(database, table)
        with database.opened() as hook:
            assert not keys_hold(hook)
    assert len(database.rows(f"{LEDGER}__loads")) == 1
    assert database.ledger() == []


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_a_key_that_is_checked_at_the_commit_counts_as_none(database: PostgresDatabase) -> None:
    database.opened().close()
    place = database.place(LEDGER)
    database.execute(
        f"ALTER TABLE {place} DROP CONSTRAINT {LEDGER}_pkey",
        f"ALTER TABLE {place} ADD PRIMARY KEY (load_id, chunk_id) DEFERRABLE INITIALLY DEFERRED",
    )
    with database.opened() as hook:
        assert not keys_hold(hook)


@on_each_database
@pytest.mark.parametrize("options", [{}, {"write_disposition": "replace"}, {"load_column": "load"}])
def test_a_second_attempt_finds_the_chunk(database: TestDatabase, options: dict[str, Any]) -> None:
    ledger_without_keys(database)
    with database.opened(**options) as first, database.opened(**options) as second:
        one = first.write_chunk("00000000", ROWS)
        again = second.write_chunk("00000000", ROWS)
        summary = second.consolidate()

    assert (one.rows, again.rows, summary.rows) == (3, 3, 3)
    assert database.rows(columns="id") == [(0,), (1,), (2,)]
    assert len(database.ledger()) == 1


@on_two_databases
def test_another_chunk_under_the_id_is_refused(database: TestDatabase) -> None:
    ledger_without_keys(database)
    with database.opened() as first, database.opened() as second:
        first.write_chunk("00000000", ROWS)
        with pytest.raises(LoadMismatch, match="the ledger has 3 items"):
            second.write_chunk("00000000", ROWS[:2])


@pytest.mark.parametrize("keys", [True, False], ids=["keys", "no keys"])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_two_processes_at_one_load(database: PostgresDatabase, level: str, keys: bool) -> None:
    if not keys:
        ledger_without_keys(database)
    place = database.at_level(level)
    both = [Child(lambda: attempt(place, CHUNKS, SIZE, 1, lock_timeout=60)) for _ in range(2)]

    assert [child.wait() for child in both] == [0, 0]
    assert database.rows(columns="id, name") == everything(CHUNKS, SIZE)
    assert len(database.ledger()) == CHUNKS


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("keys", [True, False], ids=["keys", "no keys"])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_twenty_thousand_rows_of_two_processes(database: PostgresDatabase, level: str, keys: bool) -> None:
    if not keys:
        ledger_without_keys(database)
    place = database.at_level(level)
    both = [Child(lambda: attempt(place, 100, 200, 1, lock_timeout=60)) for _ in range(2)]

    assert [child.wait() for child in both] == [0, 0]
    assert len(database.rows(columns="id, name")) == len(set(database.rows(columns="id"))) == 20_000


@pytest.mark.parametrize("point", ["after_claim", "before_commit", "after_commit"])
@on_each_database
def test_a_killed_attempt_is_gone_on_with(database: TestDatabase, point: str) -> None:
    ledger_without_keys(database)
    assert Child(lambda: attempt(database, 5, SIZE, 1, killing_hook(3, point))).wait() == KILLED
    attempt(database, 5, SIZE, 2)

    assert database.rows(columns="id, name") == everything(5, SIZE)
    assert len(database.ledger()) == 5


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_a_commit_whose_answer_is_still_out_is_waited_for(database: PostgresDatabase, level: str) -> None:
    """The look alone would say "absent": the first attempt has everything in its transaction, and no COMMIT yet."""
    ledger_without_keys(database)
    place, gate = database.at_level(level), Gate()
    place.opened().close()

    def first_attempt() -> None:
        with place.opened(cls=holding_hook(gate, "before_commit")) as hook:
            hook.write_chunk("00000000", ROWS)

    first = Child(first_attempt)
    gate.wait_until_held()
    second = Child(lambda: attempt_one(place))
    # Of this schema only: tests of another lane may wait at the same time.
    waiting = "SELECT 1 FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted AND query LIKE "
    while not database.fetch(f"{waiting}'%{database.schema}%'"):
        time.sleep(0.01)
    gate.open()
    codes = [first.wait(), second.wait()]
    gate.close()

    assert codes == [0, 0]
    assert database.rows(columns="id") == [(0,), (1,), (2,)]


def attempt_one(database: TestDatabase) -> None:
    with database.opened() as hook:
        hook.write_chunk("00000000", ROWS)


@pytest.mark.parametrize("database", ["postgres", "mariadb"], indirect=True)
def test_two_rows_of_one_load_are_one_load(database: TestDatabase) -> None:
    """Two attempts that begin at the same moment leave them, where no key refuses the second."""
    ledger_without_keys(database)
    database.opened(write_disposition="replace").close()
    loads = database.place(f"{LEDGER}__loads")
    with database.hook(write_disposition="replace") as hook:
        hook.open(SPEC)
        hook.write_chunk("00000000", ROWS)
        database.execute(f"CREATE TABLE {database.place('late')} AS SELECT * FROM {loads}")
        hook.consolidate()
        database.execute(f"INSERT INTO {loads} SELECT * FROM {database.place('late')}")

    assert sorted(row[0] for row in database.rows(f"{LEDGER}__loads", "state")) == ["complete", "open"]
    with database.hook(write_disposition="replace") as hook:
        assert list(hook.open(SPEC)) == ["00000000"]
        assert hook.write_chunk("00000000", ROWS).rows == 3
        assert hook.consolidate().rows == 3
        assert hook.discard("nightly") == 1
    assert database.rows(columns="id") == [(0,), (1,), (2,)]
    assert database.rows(f"{LEDGER}__loads") == []


@on_two_databases
def test_two_attempts_that_begin_a_load_differently_at_once(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one's row comes in after the first one's chunk: no key refuses it, so it is compared afterwards."""
    from airflow_parallel_provider.sinks.ledger.loads import LoadsTable

    ledger_without_keys(database)
    with database.opened() as first:
        locked, asked = LoadsTable._locked, []

        def not_there_yet(loads: Any, connection: Any, load: str) -> Any:
            asked.append(load)
            return [] if len(asked) == 1 else locked(loads, connection, load)

        first.write_chunk("00000000", ROWS)
        monkeypatch.setattr(LoadsTable, "_locked", not_there_yet)
        with database.hook() as second, pytest.raises(LoadMismatch, match="chunk_size was 100 and is 7"):
            second.open(dataclasses.replace(SPEC, chunk_size=7))
        assert len(database.rows(f"{LEDGER}__loads")) == 2
        first.write_chunk("00000001", ROWS, first_position=3)
        assert first.consolidate().rows == 6


@on_two_databases
def test_a_load_that_was_discarded_takes_no_more_chunks(database: TestDatabase) -> None:
    ledger_without_keys(database)
    with database.opened() as hook, database.hook() as other:
        hook.write_chunk("00000000", ROWS)
        other.discard("nightly")
        with pytest.raises(LoadMismatch, match="no longer in the ledger"):
            hook.write_chunk("00000001", ROWS)


@on_two_databases
def test_a_ledger_that_has_a_chunk_twice_is_noticed(database: TestDatabase) -> None:
    ledger_without_keys(database)
    with database.opened() as hook:
        hook.write_chunk("00000000", ROWS)
        place = database.place(LEDGER)
        database.execute(f"INSERT INTO {place} SELECT * FROM {place}")
        with pytest.raises(UnsafeTable, match=r"has chunk 00000000 of a load twice.*discard the load"):
            hook.consolidate()


@on_each_backend
def test_a_message_of_two_loads_is_in_once(database: TestDatabase) -> None:
    queue = dataclasses.replace(SPEC, queue="redis orders")
    other = dataclasses.replace(queue, load_key="another")
    database.opened(spec=queue).close()
    without_keys(database, LEDGER, f"{LEDGER}__loads", f"{LEDGER}__messages")

    def write(hook: Any, chunk_id: str, *ids: str) -> None:
        chunk = ChunkResult(chunk_id, 0, 0, 1, 0, ROWS[:1], message_ids=ids)
        hook.write_chunk(chunk_id, ROWS[:1], in_transaction=hook.load.record_messages(chunk))

    with database.opened(spec=queue) as one, database.opened(spec=other) as two:
        write(one, "a-00000000", "m1", "m2")
        with pytest.raises(SinkError, match="has committed messages of it in the meantime"):
            write(two, "b-00000000", "m3", "m2")
        write(two, "b-00000000", "m3")
        assert two.load.known_messages() == {"m1", "m2", "m3"}
        assert one.discard("nightly") == 1
        assert two.load.known_messages() == {"m3"}
        write(two, "b-00000001", "m1")

    assert len(database.rows()) == 3  # discard() leaves the rows of the table


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_two_loads_that_receive_the_same_messages_at_once(database: PostgresDatabase, level: str) -> None:
    queue = dataclasses.replace(SPEC, queue="redis orders")
    database.opened(spec=queue).close()
    without_keys(database, LEDGER, f"{LEDGER}__loads", f"{LEDGER}__messages")
    place = database.at_level(level)

    def read(load_key: str) -> None:
        with place.opened(spec=dataclasses.replace(queue, load_key=load_key)) as hook:
            for number in range(60):
                chunk = ChunkResult(f"a-{number:08d}", 0, 0, 1, 0, [{"id": number}], message_ids=(f"m{number}",))
                with suppress(SinkError):  # the other one was faster
                    hook.write_chunk(chunk.chunk_id, chunk.rows, in_transaction=hook.load.record_messages(chunk))

    both = [Child(lambda key=key: read(key)) for key in ("one", "two")]  # type: ignore[misc]

    assert [child.wait() for child in both] == [0, 0]
    assert database.rows(columns="id") == [(number,) for number in range(60)]


@on_two_databases
def test_rejected_rows_and_dead_letters_are_in_once(database: TestDatabase) -> None:
    from airflow_parallel_provider.engine.interfaces.records import DeadLetter

    ledger_without_keys(database)
    options: dict[str, Any] = {"columns": {"id": int}, "max_rejected": 5}
    letters = [DeadLetter(7, "clean", "ValueError: boom", 1, "", {"id": "x"})]
    with database.opened(**options) as first, database.opened(**options) as second:
        without_keys(database, "scores__dead_letters")
        for hook in (first, second):
            receipt = hook.write_chunk("00000000", [{"id": 1}, {"id": "no"}], dead_letters=letters)
            assert (receipt.rows, receipt.rows_rejected, receipt.dead_letters) == (1, 1, 1)

    assert database.rows(columns="id") == [(1,)]
    assert len(database.rows("scores__rejected")) == len(database.rows("scores__dead_letters")) == 1


@on_two_databases
def test_the_log_says_that_keys_are_not_enforced(database: TestDatabase, caplog: pytest.LogCaptureFixture) -> None:
    ledger_without_keys(database)
    with caplog.at_level(logging.INFO), database.opened():
        pass
    assert "keys of the ledger airflow_parallel_ledger are not enforced" in caplog.text


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_a_lock_during_the_probe_is_no_answer(database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that may pass would else count as a key that holds, or as one that does not."""
    import sqlalchemy as sa

    from airflow_parallel_provider.sinks.ledger import keys

    tries: list[str] = []
    refused_twice = keys._is_refused_twice

    def locked_once(connection: Any, begin: Any, table: Any, row: Any, is_transient: Any) -> bool:
        tries.append(table.name)
        if len(tries) > 1:
            return refused_twice(connection, begin, table, row, is_transient)

        class Table:
            def insert(self) -> Any:
                tries.append("insert")
                lock = sa.text("SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(20)")
                return table.insert() if tries.count("insert") == 1 else lock

        return refused_twice(connection, begin, Table(), row, is_transient)

    monkeypatch.setattr(keys, "_is_refused_twice", locked_once)
    with database.opened() as hook:
        assert keys_hold(hook)
    assert tries == [f"{LEDGER}__loads", "insert", "insert", f"{LEDGER}__loads", LEDGER]


@pytest.mark.parametrize("dialect", ["bigquery", "clickhouse", "clickhousedb"])
def test_a_database_without_rollback_is_refused_by_name(dialect: str) -> None:
    with pytest.raises(UnsafeTable, match=r"(BigQuery|ClickHouse) commits each statement by itself.*SinkFiles"):
        refuse_without_rollback(dialect)


@pytest.mark.parametrize(
    ("dialect", "reading"), [("mssql", False), ("oracle", True), ("postgresql", True), ("mysql", True)]
)
def test_where_a_load_is_held_by_reading(dialect: str, reading: bool) -> None:
    import sqlalchemy as sa

    assert has_locking_reads(sa.engine.make_url(f"{dialect}://").get_dialect()()) is reading


class Recorder:
    """A connection of a database that is not here: what would be sent to it."""

    def __init__(self, dialect: Any) -> None:
        self.dialect = dialect
        self.sent: list[str] = []

    def execute(self, statement: Any) -> Any:
        self.sent.append(" ".join(str(statement.compile(dialect=self.dialect)).split()))
        return type("Result", (), {"rowcount": 1})

    def exec_driver_sql(self, sql: str) -> None:
        self.sent.append(sql)


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("redshift", "LOCK TABLE"),
        ("snowflake", "UPDATE"),
        ("vertica", "UPDATE"),
        ("bigquery", "UPDATE"),
    ],
)
def test_what_databases_without_locking_reads_are_sent(name: str, first: str) -> None:
    from sqlalchemy.dialects.postgresql.base import PGDialect

    from airflow_parallel_provider.sinks.ledger.loads import LoadsTable

    class Dialect(PGDialect):
        supports_statement_cache = False

    Dialect.name = name
    connection: Any = Recorder(Dialect())
    ledger = ChunkLedger("ledger", None, {})
    loads = LoadsTable(ledger.loads, ledger.chunks, keys_hold=False)
    assert not has_locking_reads(connection.dialect)
    assert lock_by_writing(connection, loads.loads, loads.loads.c.load_id == "x", loads.loads.c.attempt)
    connection.sent += [str(loads._locking(connection, loads.loads.select(), exclusive=True))]

    assert connection.sent[0].startswith(first)
    assert not any("FOR UPDATE" in sent for sent in connection.sent)
