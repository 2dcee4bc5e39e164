"""Each chunk is committed once, no matter what dies at which point, and which other attempts run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from airflow_parallel_provider.errors import SchemaMismatch, SinkError
from airflow_parallel_provider.sinks.ledger.chunks import ChunkLedger
from tests.support.attempts import SECOND, Gate, broken_off, holding_hook
from tests.support.children import KILLED, Child, attempt, everything, killing_hook, rows_of
from tests.support.databases import OWN, QUEUEING, SPEC, SqliteDatabase, TestDatabase, on_each_backend, on_each_database
from tests.support.turns import in_turn

pytestmark = pytest.mark.airflow
OWN_BACKENDS = pytest.mark.parametrize("database", OWN, indirect=True)
LOCKS = pytest.mark.parametrize("database", QUEUEING, indirect=True)
POINTS = ["after_claim", "after_rows", "before_commit", "after_commit"]
CHUNKS, SIZE = 5, 20


@on_each_database
@pytest.mark.parametrize("point", POINTS)
def test_killed_attempt_is_gone_on_with(database: TestDatabase, point: str) -> None:
    """SIGKILL in the third chunk; the second attempt gives the table of an undisturbed run, row by row."""
    first = Child(lambda: attempt(database, CHUNKS, SIZE, 1, killing_hook(3, point)))
    assert first.wait() == KILLED

    attempt(database, CHUNKS, SIZE, 2)

    survived = 3 if point == "after_commit" else 2
    assert database.rows(columns="id, name") == everything(CHUNKS, SIZE)
    assert [row[4] for row in database.ledger()] == [1] * survived + [2] * (CHUNKS - survived)
    assert [row[2] for row in database.ledger()] == [SIZE] * CHUNKS


@on_each_backend
def test_killed_while_merging(database: TestDatabase) -> None:
    options: dict[str, Any] = {"write_disposition": "merge", "primary_key": "id"}
    first = Child(lambda: attempt(database, CHUNKS, SIZE, 1, killing_hook(2, "before_commit"), **options))
    assert first.wait() == KILLED

    attempt(database, CHUNKS, SIZE, 2, **options)

    assert database.rows(columns="id, name") == everything(CHUNKS, SIZE)


NOT_SLOW = pytest.mark.parametrize("database", [*QUEUEING, "postgres-generic", "mariadb-generic"], indirect=True)


@pytest.mark.parametrize("ending", ["commits", "dies"])
@pytest.mark.parametrize("point", ["after_claim", "before_commit"])
@NOT_SLOW
@in_turn("postgres-psycopg2", "postgres-generic", "mariadb-generic")
def test_second_attempt_waits_for_the_first_and_takes_its_word(database: TestDatabase, point: str, ending: str) -> None:
    """The first holds its claim, uncommitted, so that the ledger says "absent"; still nothing is written twice."""
    gate = Gate()
    with database.opened() as hook:
        hook.write_chunk("00000000", rows_of(0, SIZE))

    def first_attempt() -> None:
        with database.opened(cls=holding_hook(gate, point)) as hook:
            hook.write_chunk("00000001", rows_of(1, SIZE), first_position=SIZE)

    with database.hook() as hook:
        assert list(hook.open(SECOND)) == ["00000000"]
        first = Child(first_attempt)
        gate.wait_until_held()
        blocked = when_blocked(database, hook, gate.open if ending == "commits" else first.kill)
        receipt = hook.write_chunk("00000001", rows_of(1, SIZE), first_position=SIZE)
    blocked.join(20)
    first.wait()
    gate.close()

    assert receipt.attempt == (1 if ending == "commits" else 2)
    assert database.rows(columns="id, name") == everything(2, SIZE)


def when_blocked(database: TestDatabase, hook: Any, action: Callable[[], object]) -> threading.Thread:
    """Do something once a transaction waits for a lock."""
    busy = threading.Event()

    def wait_and_act() -> None:
        if database.name == "sqlite":
            busy.wait(20)
        else:
            wait_until_blocked(database)
        action()

    if database.name == "sqlite":
        session = hook._database.backend.session
        is_locked = session.is_locked

        def noticing(error: BaseException) -> bool:
            busy.set()  # the session asks this when it has found the file locked
            return bool(is_locked(error))

        session.is_locked = noticing
    thread = threading.Thread(target=wait_and_act)
    thread.start()
    return thread


def wait_until_blocked(database: TestDatabase) -> None:
    """Wait until a transaction of this test waits for a lock; tests of another lane may wait at the same time."""
    sql = {
        "postgres": "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) "
        f"WHERE NOT granted AND query LIKE '%{database.schema}%'",
        "mariadb": "SELECT count(*) FROM information_schema.innodb_trx JOIN information_schema.processlist "
        f"ON id = trx_mysql_thread_id WHERE trx_state = 'LOCK WAIT' AND db = '{database.schema}'",
    }[database.name]
    deadline = time.monotonic() + 20
    while not database.fetch(sql)[0][0] and time.monotonic() < deadline:
        time.sleep(0.15)  # MariaDB's list is a copy, which is made anew when it was not read for 0.1 s


def driver_error(hook: Any) -> Exception:
    """The error a driver raises when the connection is gone."""
    error: Exception = hook._database._engine.dialect.dbapi.OperationalError("server closed the connection")
    return error


def faulty_hook(point: str, fault: Callable[[Any], None]) -> Any:
    from airflow_parallel_provider.hooks.sink_table import SinkTableHook

    class FaultyHook(SinkTableHook):
        met = 0

        def reached(self, here: str) -> None:
            if here == point:
                self.met += 1
                if self.met == 1:
                    fault(self)

    return FaultyHook


def test_lost_answer_to_a_commit_is_looked_up_in_the_ledger(database: TestDatabase) -> None:
    def lose_answer(hook: Any) -> None:
        raise driver_error(hook)

    with database.opened(cls=faulty_hook("after_commit", lose_answer)) as hook:
        receipt = hook.write_chunk("00000000", rows_of(0, SIZE))
        hook.write_chunk("00000001", rows_of(1, SIZE), first_position=SIZE)

    assert receipt.rows == SIZE
    assert database.rows(columns="id, name") == everything(2, SIZE)


CUT = {
    "postgres": "SELECT pg_terminate_backend({})",
    "mariadb": "KILL CONNECTION {}",
}


def cut(hook: Any, database: TestDatabase) -> None:
    """Have the server end the hook's connection."""
    raw = hook._database._raw
    number = raw.info.backend_pid if database.name == "postgres" else raw.connection_id
    database.execute(CUT[database.name].format(number))


@pytest.mark.parametrize("point", ["after_claim", "after_rows", "before_commit"])
@pytest.mark.parametrize("database", ["postgres", "mariadb"], indirect=True)
def test_connection_cut_by_the_server_is_replaced(database: TestDatabase, point: str) -> None:
    with database.opened(cls=faulty_hook(point, lambda hook: cut(hook, database))) as hook:
        hook.write_chunk("00000000", rows_of(0, SIZE))
        hook.write_chunk("00000001", rows_of(1, SIZE), first_position=SIZE)
        assert hook.met >= 2

    assert database.rows(columns="id, name") == everything(2, SIZE)
    assert len(database.ledger()) == 2


@pytest.mark.parametrize("database", ["postgres", "mariadb"], indirect=True)
def test_connection_cut_again_while_it_is_found_out_how_the_try_ended(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    find = ChunkLedger.find

    def cut_first(ledger: ChunkLedger, connection: Any, load: str, chunk_id: str) -> Any:
        asked.append(chunk_id)
        if len(asked) == 1:
            cut(hook, database)
        return find(ledger, connection, load, chunk_id)

    with database.opened(cls=faulty_hook("after_rows", lambda hook: cut(hook, database))) as hook:
        monkeypatch.setattr(ChunkLedger, "find", cut_first)
        hook.write_chunk("00000000", rows_of(0, SIZE))
        hook.write_chunk("00000001", rows_of(1, SIZE), first_position=SIZE)

    assert asked == ["00000000"]
    assert database.rows(columns="id, name") == everything(2, SIZE)


def test_mistake_in_the_program_is_not_hidden_as_one_of_the_data(database: TestDatabase) -> None:
    def stumble(hook: Any) -> None:
        raise ZeroDivisionError("a bug")

    with database.opened(cls=faulty_hook("after_rows", stumble)) as hook:
        with pytest.raises(ZeroDivisionError):
            hook.write_chunk("00000000", rows_of(0, SIZE))
        hook.write_chunk("00000000", rows_of(0, SIZE))

    assert database.rows(columns="id, name") == everything(1, SIZE)


def test_two_attempts_that_make_the_same_table_at_once(database: TestDatabase) -> None:
    barrier = threading.Barrier(2)
    errors: list[BaseException] = []

    def write(chunk: int) -> None:
        try:
            barrier.wait(60)
            with database.opened() as hook:
                barrier.wait(60)
                hook.write_chunk(f"{chunk:08d}", rows_of(chunk, SIZE), first_position=chunk * SIZE)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=[chunk]) for chunk in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)

    assert errors == []
    assert database.rows(columns="id, name") == everything(2, SIZE)


@LOCKS
def test_lock_that_is_never_given_back_ends_in_an_error_that_says_so(database: TestDatabase) -> None:
    with database.opened():
        pass
    hook = database.hook(lock_timeout=1)
    with hook:
        hook.open(SPEC)
        hook.write_chunk("00000000", rows_of(0, SIZE))
        raw = database.raw()
        lock_the_claim(database, raw)
        with pytest.raises(
            SinkError, match=r"chunk 00000001 could not be committed within 1 s \(.*another attempt may"
        ):
            hook.write_chunk("00000001", rows_of(1, SIZE), first_position=SIZE)
        raw.rollback()
        raw.close()
        hook.write_chunk("00000001", rows_of(1, SIZE), first_position=SIZE)

    assert database.rows(columns="id, name") == everything(2, SIZE)


def lock_the_claim(database: TestDatabase, raw: Any) -> None:
    """Claim chunk 00000001 of the load and neither commit nor roll back."""
    ledger = database.place("airflow_parallel_ledger")
    rest = "first_position, items, items_filtered, rows_committed, dead_letters, attempt, labels, committed_at"
    cursor = raw.cursor()
    cursor.execute(f"INSERT INTO {ledger} (load_id, chunk_id, {rest}) SELECT load_id, '00000001', {rest} FROM {ledger}")
    cursor.close()


@LOCKS
def test_interrupted_commit_fails_soon_and_leaves_nothing(database: TestDatabase) -> None:
    ready = threading.Event()
    hook = database.hook(lock_timeout=600)

    def write() -> None:
        hook.write_chunk("00000000", rows_of(0, SIZE))
        with closing(database.raw()) as raw:
            lock_the_claim(database, raw)
            ready.set()
            try:
                hook.write_chunk("00000001", rows_of(1, SIZE), first_position=SIZE)
            finally:
                raw.rollback()

    error = broken_off(hook, write, ready)

    assert isinstance(error, SinkError)
    assert not isinstance(error, SchemaMismatch)
    assert database.rows(columns="id, name") == everything(1, SIZE)


def test_reader_of_a_sqlite_file_makes_a_commit_wait_and_not_fail(sqlite: SqliteDatabase) -> None:
    """In the journal mode SQLite starts with, a COMMIT needs all readers to be gone."""
    busy: list[str] = []

    with sqlite.opened() as hook:
        hook.write_chunk("00000000", rows_of(0, SIZE))
        reader = sqlite.raw()
        reader.execute("SELECT * FROM scores").fetchone()
        cursor = reader.execute("SELECT * FROM scores")
        cursor.fetchone()
        session = hook._database.backend.session
        is_locked = session.is_locked

        def let_go(error: BaseException) -> bool:
            busy.append(str(error))
            cursor.close()
            return bool(is_locked(error))

        session.is_locked = let_go
        hook.write_chunk("00000001", rows_of(1, SIZE), first_position=SIZE)
        reader.close()

    assert busy == ["database is locked"]
    assert sqlite.rows(columns="id, name") == everything(2, SIZE)
