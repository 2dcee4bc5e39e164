"""Two attempts at one load that replaces all rows: whatever each of them has seen, all rows are there in the end."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from typing import Any

import pytest

from airflow_parallel_provider.errors import LoadMismatch, SinkError
from airflow_parallel_provider.hooks.sink_table import SinkTableHook
from airflow_parallel_provider.values.table_shape import TableShape
from tests.chaos.replacing import TABLE, replace_attempt, rows_of, staging_of
from tests.chaos.test_swap import CHUNKS, RACING, SIZE, made_by, prepared, spec_of
from tests.support.databases import TestDatabase

pytestmark = pytest.mark.airflow


class Died(BaseException):
    """Stands for a kill: nothing of ours catches it."""


def dying_hook(point: str) -> Any:
    class DyingHook(SinkTableHook):
        def reached(self, here: str) -> None:
            if here == point:
                raise Died

    return DyingHook


def last_point_before_complete(database: TestDatabase) -> str:
    return "after_rename" if database.name == "mariadb" else "after_swap"


@pytest.mark.parametrize("database", RACING, indirect=True)
def test_attempt_that_is_late_takes_what_is_in_and_makes_no_table(database: TestDatabase) -> None:
    late = database.opened(TABLE, spec_of(1, attempt=2), write_disposition="replace")
    with pytest.raises(Died):
        replace_attempt(database, 1, CHUNKS, SIZE, cls=dying_hook(last_point_before_complete(database)))
    there = database.exists(staging_of(database, 1))

    receipt = late.write_chunk("00000000", rows_of(1, 0, SIZE))
    with pytest.raises(LoadMismatch, match="and this chunk was not in it"):
        late.write_chunk("00000009", rows_of(1, 9, SIZE), first_position=9 * SIZE)
    late.close()

    assert receipt.attempt == 1
    assert database.exists(staging_of(database, 1)) == there
    assert made_by(database) == [(1, CHUNKS * SIZE)]


@pytest.mark.parametrize("database", RACING, indirect=True)
def test_empty_table_of_an_attempt_that_was_late_takes_no_place(database: TestDatabase) -> None:
    """Between its look and its CREATE TABLE the staging table was renamed; the attempt that continues must notice."""
    prepared(database, "renamed")
    with pytest.raises(Died):
        replace_attempt(database, 1, CHUNKS, SIZE, cls=dying_hook(last_point_before_complete(database)))
    if not database.exists(staging_of(database, 1)):
        place = database.place(staging_of(database, 1))
        database.execute(f"CREATE TABLE {place} AS SELECT * FROM {database.place(TABLE)} WHERE 1 = 0")

    replace_attempt(database, 1, CHUNKS, SIZE, number=2)

    assert made_by(database) == [(1, CHUNKS * SIZE)]
    assert not database.exists(staging_of(database, 1))


@pytest.mark.parametrize("database", ["postgres", "mariadb"], indirect=True)
def test_attempt_that_begins_during_the_swap_does_not_open_the_load_again(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has read that the load is open, and is about to write that down."""
    from airflow_parallel_provider.sinks.ledger.loads import LoadsTable

    first = database.opened(TABLE, spec_of(1), write_disposition="replace", lock_timeout=1)
    first.write_chunk("00000000", rows_of(1, 0, SIZE))
    has_chunks = LoadsTable._has_chunks
    refused = []

    def swap_in_between(self: LoadsTable, connection: Any, load: str) -> bool:
        monkeypatch.setattr(LoadsTable, "_has_chunks", has_chunks)
        try:
            first.consolidate()
        except SinkError as error:
            refused.append(error)
        return has_chunks(self, connection, load)

    monkeypatch.setattr(LoadsTable, "_has_chunks", swap_in_between)
    second = database.opened(TABLE, spec_of(1, attempt=2), write_disposition="replace")
    assert refused, "the load was not held"
    second.consolidate()
    first.consolidate()
    for hook in (first, second):
        hook.close()

    assert made_by(database) == [(1, SIZE)]
    assert database.rows("airflow_parallel_ledger__loads", "state") == [("complete",)]


@pytest.mark.parametrize("database", ["postgres", "mariadb"], indirect=True)
def test_first_chunk_is_not_dropped_by_an_attempt_that_begins(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It drops the staging table of tries that have no chunk, and must wait for one that is being committed."""
    from airflow_parallel_provider.sinks.load import open_load as module

    begun = threading.Event()

    class SlowHook(SinkTableHook):
        def reached(self, here: str) -> None:
            if here == "before_commit":
                begun.set()
                threading.Event().wait(0.5)  # time enough to drop the table for an attempt that does not wait

    first = database.opened(TABLE, spec_of(1), SlowHook, write_disposition="replace")
    writing = threading.Thread(target=first.write_chunk, args=("00000000", rows_of(1, 0, SIZE)))
    drop_stale = module._drop_stale

    def while_writing(opened: Any) -> None:
        writing.start()
        begun.wait(20)
        drop_stale(opened)

    monkeypatch.setattr(module, "_drop_stale", while_writing)
    with database.hook(TABLE, write_disposition="replace") as second:
        second.open(spec_of(1, attempt=2))
        writing.join(20)
        assert list(second.committed_chunks()) == ["00000000"]
        second.consolidate()
    first.close()

    assert made_by(database) == [(1, SIZE)]


@pytest.mark.parametrize("database", RACING, indirect=True)
def test_staging_table_that_another_attempt_has_dropped_is_made_again(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That one has begun when there was a table and no chunk yet."""
    from airflow_parallel_provider.sinks.commit.row_writer import RowWriter

    first = database.opened(TABLE, spec_of(1), write_disposition="replace")
    fit = RowWriter.fit

    def begun_in_between(self: RowWriter, *rest: Any) -> Any:
        monkeypatch.setattr(RowWriter, "fit", fit)
        assert database.exists(staging_of(database, 1))
        database.opened(TABLE, spec_of(1, attempt=2), write_disposition="replace").close()
        assert not database.exists(staging_of(database, 1))
        return fit(self, *rest)

    monkeypatch.setattr(RowWriter, "fit", begun_in_between)
    first.write_chunk("00000000", rows_of(1, 0, SIZE))
    first.consolidate()
    first.close()

    assert made_by(database) == [(1, SIZE)]


@pytest.mark.parametrize("database", ["postgres", "mariadb", "sqlite-generic"], indirect=True)
def test_table_that_is_dropped_while_it_is_looked_at_is_not_there(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sqlalchemy as sa

    with database.opened() as hook:
        monkeypatch.setattr(sa.engine.reflection.Inspector, "has_table", lambda *_, **__: True)
        place = hook.load.committer.database
        with place.session() as connection:
            assert place.backend.catalog.reflect(connection, "absent", database.schema) is None


@pytest.mark.parametrize("database", [*RACING, "sqlite-generic"], indirect=True)
def test_table_that_another_attempt_drops_first_is_dropped(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two attempts may see the end of one load, and both clean up."""
    with database.opened() as hook:
        place = hook.load.committer.database
        found = TableShape("absent", database.schema, ())
        monkeypatch.setattr(type(place.backend.catalog), "reflect", lambda *_: found)
        with place.transaction() as connection:
            place.backend.ddl.drop(connection, "absent", database.schema)


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
def test_attempt_waits_for_another_one_whose_rename_waits_for_a_reader(database: TestDatabase) -> None:
    prepared(database, "renamed")
    hooks = [database.opened(TABLE, spec_of(1, attempt), write_disposition="replace") for attempt in (1, 2)]
    hooks[0].write_chunk("00000000", rows_of(1, 0, SIZE))
    failed: list[SinkError] = []

    def consolidate(hook: Any) -> None:
        try:
            hook.consolidate()
        except SinkError as error:
            failed.append(error)

    def renames_waiting() -> int:
        here = f"db = '{database.schema}'"  # another run of the tests may use the same server
        asked = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'RENAME TABLE%' AND "
        return int(database.fetch(asked + here)[0][0])

    threads = [threading.Thread(target=consolidate, args=(hook,)) for hook in hooks]
    with closing(database.raw()) as reader:
        cursor = reader.cursor()
        cursor.execute(f"SELECT COUNT(*) FROM {database.place(TABLE)}")
        cursor.fetchall()
        threads[0].start()
        assert soon(lambda: renames_waiting() == 1, 20)
        threads[1].start()
        soon(lambda: renames_waiting() == 2, 1)  # it should not come to that
    for thread, hook in zip(threads, hooks, strict=True):
        thread.join(30)
        hook.close()

    assert not failed
    assert made_by(database) == [(1, SIZE)]


def soon(happened: Any, seconds: float) -> bool:
    """Whether something happens within so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if happened():
            return True
        time.sleep(0.02)
    return False
