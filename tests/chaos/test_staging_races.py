"""A staging table comes and goes while another attempt looks at it: between any two looks all may be different."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any

import pytest

from airflow_parallel_provider.errors import LoadMismatch, SinkError
from airflow_parallel_provider.hooks.sink_table import SinkTableHook
from airflow_parallel_provider.sinks.commit import target_table as target_module
from airflow_parallel_provider.sinks.commit.committer import ChunkCommitter
from airflow_parallel_provider.sinks.commit.recovery import Recovery
from airflow_parallel_provider.sinks.commit.row_writer import RowWriter
from airflow_parallel_provider.sinks.load import open_load as load_module
from airflow_parallel_provider.sinks.load.table_swap import TableSwap
from airflow_parallel_provider.sql import ddl
from tests.chaos.replacing import TABLE, rows_of, staging_of
from tests.chaos.test_swap import RACING, SIZE, made_by, spec_of
from tests.chaos.test_swap_races import soon
from tests.support.databases import GENERIC, TestDatabase

pytestmark = pytest.mark.airflow
CLAIMING_FIRST = ["sqlite", "mariadb", "postgres-generic"]
"""Where a chunk is claimed before the database is asked for the table it goes into."""
FIRST, SECOND = "00000000", "00000001"


def opened(database: TestDatabase, attempt: int, **options: Any) -> Any:
    return database.opened(TABLE, spec_of(1, attempt), write_disposition="replace", **options)


def write(hook: Any, chunk: str) -> Any:
    return hook.write_chunk(chunk, rows_of(1, int(chunk), SIZE), first_position=int(chunk) * SIZE)


def once_before(patch: pytest.MonkeyPatch, owner: Any, name: str, act: Callable[[], object]) -> None:
    """Do something before the next call of a function, and only that one."""
    function = getattr(owner, name)

    def called(*arguments: Any, **named: Any) -> Any:
        patch.setattr(owner, name, function)
        act()
        return function(*arguments, **named)

    patch.setattr(owner, name, called)


@pytest.mark.parametrize("database", RACING, indirect=True)
def test_load_that_is_finished_while_an_attempt_begins(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has read that chunks are in, and the table they were in has taken its place since."""
    from airflow_parallel_provider.sinks.load import open_load as module

    first = opened(database, 1)
    write(first, FIRST)
    once_before(monkeypatch, module, "_require_table", first.consolidate)

    second = opened(database, 2)
    assert write(second, FIRST).attempt == 1
    second.consolidate()
    for hook in (first, second):
        hook.close()

    assert made_by(database) == [(1, SIZE)]


@pytest.mark.parametrize("database", RACING, indirect=True)
def test_staging_table_stays_while_its_rows_are_counted(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = opened(database, 1, lock_timeout=1), opened(database, 2)
    write(first, FIRST)
    refused = []

    def consolidate() -> None:
        with pytest.raises(SinkError) as caught:
            first.consolidate()
        refused.append(caught.value)

    once_before(monkeypatch, TableSwap, "_count", consolidate)
    second.consolidate()
    first.consolidate()
    for hook in (first, second):
        hook.close()

    assert refused, "the load was not held"
    assert made_by(database) == [(1, SIZE)]


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
def test_table_that_somebody_is_making_is_waited_for(database: TestDatabase) -> None:
    """A look at it that was part of a transaction would be refused: it might end in a deadlock."""
    first = opened(database, 1)
    write(first, FIRST)
    failed: list[SinkError] = []
    lock = f"'{database.schema}'"

    def consolidate() -> None:
        try:
            first.consolidate()
        except SinkError as error:
            failed.append(error)

    def waiting(state: str) -> bool:
        here = f"state LIKE '{state}%' AND info LIKE '%{database.schema}%'"
        return bool(database.fetch(f"SELECT COUNT(*) FROM information_schema.processlist WHERE {here}")[0][0])

    make = f"CREATE TABLE {database.place(TABLE)} AS SELECT GET_LOCK({lock}, 60) AS made"
    making_it = threading.Thread(target=database.execute, args=(make,))
    consolidating = threading.Thread(target=consolidate)
    with closing(database.raw()) as holder:
        cursor = holder.cursor()
        cursor.execute(f"SELECT GET_LOCK({lock}, 0)")
        cursor.fetchall()
        making_it.start()
        assert soon(lambda: waiting("User lock"), 20)
        consolidating.start()
        assert soon(lambda: failed or waiting("Waiting for table metadata lock"), 20)
    for thread in (making_it, consolidating):
        thread.join(30)
    first.close()

    assert not failed
    assert made_by(database) == [(1, SIZE)]


@pytest.mark.parametrize("database", CLAIMING_FIRST, indirect=True)
def test_staging_table_that_another_attempt_has_made_anew(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = opened(database, 1)
    others: list[Any] = []
    once_before(monkeypatch, RowWriter, "fit", lambda: others.append(opened(database, 2)))  # drops what has no chunk
    once_before(monkeypatch, Recovery, "_was_dropped_as_stale", lambda: write(others[0], SECOND))

    write(first, FIRST)
    first.consolidate()
    for hook in (first, *others):
        hook.close()

    assert made_by(database) == [(1, 2 * SIZE)]


@pytest.mark.parametrize("database", CLAIMING_FIRST, indirect=True)
def test_staging_table_that_another_attempt_has_swapped_in(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = opened(database, 1)
    others: list[Any] = []

    def finish() -> None:
        write(others[0], SECOND)
        others[0].consolidate()

    once_before(monkeypatch, RowWriter, "fit", lambda: others.append(opened(database, 2)))
    once_before(monkeypatch, Recovery, "_was_dropped_as_stale", finish)

    with pytest.raises(LoadMismatch, match="and this chunk was not in it"):
        write(first, FIRST)
    for hook in (first, *others):
        hook.close()

    assert made_by(database) == [(1, SIZE)]


@pytest.mark.parametrize("database", RACING, indirect=True)
def test_staging_table_that_is_dropped_while_bad_rows_are_looked_for(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    terms = {"max_rejected": 2 * SIZE, "columns": {"id": int, "made_by": int}}
    first = opened(database, 1, **terms)
    others: list[Any] = []
    second = partial(opened, database, 2, **terms)
    once_before(monkeypatch, ChunkCommitter, "_attempt_row_by_row", lambda: others.append(second()))
    rows = rows_of(1, int(FIRST), SIZE)

    receipt = first.write_chunk(FIRST, [{**rows[0], "id": "no number"}, *rows])
    first.consolidate()
    for hook in (first, *others):
        hook.close()

    assert (receipt.rows, receipt.rows_rejected) == (SIZE, 1)
    assert others
    assert made_by(database) == [(1, SIZE)]


@pytest.mark.parametrize("database", RACING, indirect=True)
def test_staging_table_that_is_dropped_as_soon_as_it_is_made(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_parallel_provider.sinks.commit import target_table as module

    first = opened(database, 1)
    create_table = ddl.create_table

    def created(*arguments: Any) -> None:
        monkeypatch.setattr(module, "create_table", create_table)
        create_table(*arguments)
        opened(database, 2).close()
        assert not database.exists(staging_of(database, 1))

    monkeypatch.setattr(module, "create_table", created)
    write(first, FIRST)
    first.consolidate()
    first.close()

    assert made_by(database) == [(1, SIZE)]


@pytest.mark.parametrize("database", RACING, indirect=True)
def test_table_that_another_attempt_has_made_first_and_dropped_again(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = f"CREATE TABLE {database.place('there')} (a INTEGER)"
    with database.opened() as hook:
        place = hook.load.committer.database
        connection = place.connection()
        tries: list[str] = []

        def make() -> None:
            if not tries:
                connection.rollback()  # SQLite's lock, which the other one needs
                database.execute(create)
            tries.append(create)
            connection.exec_driver_sql(create)

        drop = f"DROP TABLE {database.place('there')}"
        once_before(monkeypatch, type(place.backend.catalog), "reflect", lambda: database.execute(drop))
        ddl.make_table(connection, "there", database.schema, place.backend, make)

    assert len(tries) == 2
    assert database.exists("there")


ADDING: dict[str, Any] = {"on_schema_change": "add_columns", "columns": {"id": int, "made_by": int}}
"""The table has the first column only: a staging table is made like it, and then gets the second one."""


def made_anew(database: TestDatabase) -> None:
    """What another attempt does when it begins, up to where it is going to add the column."""
    staging = database.place(staging_of(database, 1))
    database.execute(f"DROP TABLE {staging}", f"CREATE TABLE {staging} (id INTEGER PRIMARY KEY)")


def finished(database: TestDatabase, hook: Any) -> list[tuple[int, int]]:
    write(hook, FIRST)
    hook.consolidate()
    hook.close()
    return made_by(database)


@pytest.mark.parametrize("database", [*RACING, *GENERIC], indirect=True)
def test_staging_table_that_is_dropped_before_it_gets_a_column(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.execute(f"CREATE TABLE {database.place(TABLE)} (id INTEGER PRIMARY KEY)")
    drop = f"DROP TABLE {database.place(staging_of(database, 1))}"
    once_before(monkeypatch, target_module, "add_column", lambda: database.execute(drop))

    assert finished(database, opened(database, 1, **ADDING)) == [(1, SIZE)]


@pytest.mark.parametrize("database", [*RACING, *GENERIC], indirect=True)
def test_column_that_was_there_already_and_is_gone_with_its_table(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.execute(f"CREATE TABLE {database.place(TABLE)} (id INTEGER PRIMARY KEY)")
    with database.opened("other") as hook:
        catalog = type(hook.load.committer.database.backend.catalog)

    def faster() -> None:
        database.execute(f"ALTER TABLE {database.place(staging_of(database, 1))} ADD COLUMN made_by INTEGER")
        once_before(monkeypatch, catalog, "reflect", lambda: made_anew(database))

    once_before(monkeypatch, target_module, "add_column", faster)

    assert finished(database, opened(database, 1, **ADDING)) == [(1, SIZE)]


@pytest.mark.parametrize("database", [*RACING, *GENERIC], indirect=True)
def test_rows_for_a_staging_table_that_does_not_have_its_new_column_again_yet(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.execute(f"CREATE TABLE {database.place(TABLE)} (id INTEGER PRIMARY KEY)")
    first = opened(database, 1, **ADDING)
    once_before(monkeypatch, RowWriter, "fit", lambda: made_anew(database))

    assert finished(database, first) == [(1, SIZE)]


class HeldByAnother:
    """The load's row is being changed by another transaction when a function is called for the first time."""

    def __init__(self, database: TestDatabase, patch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        self.raw = database.raw()
        self.called = 0

        def let_go() -> None:
            self.called += 1
            self.raw.rollback()

        def hold() -> None:
            self.called += 1
            self.raw.begin()
            self.raw.execute("UPDATE airflow_parallel_ledger__loads SET attempt = attempt + 1")
            once_before(patch, owner, name, let_go)

        once_before(patch, owner, name, hold)


@pytest.mark.parametrize("database", ["duckdb"], indirect=True)
@pytest.mark.parametrize(("owner", "name"), [(load_module, "_drop_stale"), (TableSwap, "finish")])
def test_load_that_is_held_by_a_transaction_nobody_waits_for(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    held = HeldByAnother(database, monkeypatch, owner, name)

    assert finished(database, opened(database, 1)) == [(1, SIZE)]
    assert held.called == 2
    held.raw.close()


@pytest.mark.parametrize("database", ["duckdb"], indirect=True)
def test_first_chunk_is_not_dropped_where_no_reading_holds_a_load(database: TestDatabase) -> None:
    refused = []

    class SlowHook(SinkTableHook):
        def reached(self, here: str) -> None:
            if here == "before_commit":
                with pytest.raises(SinkError) as caught:
                    opened(database, 2, lock_timeout=0.2)
                refused.append(caught.value)

    first = opened(database, 1, cls=SlowHook)
    write(first, FIRST)
    second = opened(database, 3)
    assert list(second.committed_chunks()) == [FIRST]
    first.close()

    assert refused, "the load was not held"
    assert finished(database, second) == [(1, SIZE)]
