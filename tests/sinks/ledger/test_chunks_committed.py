"""The row of a load knows how many chunks have committed: ledger rows that somebody has deleted are missed."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_parallel_provider.engine.interfaces.records import LoadSpec
from airflow_parallel_provider.errors import LoadMismatch, SinkError
from airflow_parallel_provider.hooks.sink_table import SinkTableHook
from tests.support.databases import (
    SPEC,
    TestDatabase,
    on_each_backend,
    on_each_database,
    on_two_backends,
    on_two_databases,
)
from tests.support.sync import Gate, in_background
from tests.support.turns import in_turn

pytestmark = pytest.mark.airflow
LEDGER, LOADS = "airflow_parallel_ledger", "airflow_parallel_ledger__loads"
MERGE: dict[str, Any] = {"write_disposition": "merge", "primary_key": ["id"]}
MISSED = r"load 'nightly' into table .*: 3 chunks have committed, but ledger table .* has only {} of them"


def write(hook: Any, *numbers: int) -> None:
    for number in numbers:
        hook.write_chunk(f"{number:08d}", [{"id": number}], first_position=number)


def counted(database: TestDatabase) -> list[int | None]:
    return [count for (count,) in database.rows(LOADS, "chunks_committed", "load_id")]


@on_each_backend
@pytest.mark.parametrize("options", [{}, MERGE, {"on_rerun": "replace"}], ids=["append", "merge", "fenced"])
@pytest.mark.parametrize("left", [0, 2])
@in_turn("mariadb", "duckdb")
def test_retry_after_ledger_rows_were_deleted(database: TestDatabase, options: dict[str, Any], left: int) -> None:
    with database.opened(**options) as hook:
        write(hook, 0, 1, 2)
    ledger = database.place(LEDGER)
    database.execute(f"DELETE FROM {ledger} WHERE chunk_id > '{left - 1:08d}'" if left else f"DELETE FROM {ledger}")

    with pytest.raises(LoadMismatch, match=MISSED.format(left)), database.opened(**options):
        pass
    assert len(database.rows()) == 3

    with database.hook(**options) as hook:
        hook.discard("nightly")
    with database.opened(**options) as hook:
        write(hook, 0)
    assert counted(database) == [1]


@on_each_database
def test_ledger_rows_that_are_deleted_while_the_load_runs(database: TestDatabase) -> None:
    with database.opened() as hook:
        write(hook, 0, 1, 2)
        database.execute(f"DELETE FROM {database.place(LEDGER)} WHERE chunk_id = '00000001'")
        with pytest.raises(LoadMismatch, match=MISSED.format(2)):
            hook.consolidate()

    assert database.rows(LOADS, "state") == [("open",)]


@on_each_database
def test_count_is_that_of_the_chunks(database: TestDatabase) -> None:
    with database.opened() as hook:
        assert counted(database) == [0]
        write(hook, 0, 1)
        write(hook, 1)  # in already
        hook.write_chunk("00000002", [], items=1, first_position=2)
    with database.opened() as hook:
        write(hook, 3)
        hook.consolidate()

    assert counted(database) == [len(database.ledger())] == [4]


@on_two_databases
def test_chunk_that_fails_is_not_counted(database: TestDatabase) -> None:
    with database.opened(columns={"id": int}) as hook:
        write(hook, 0)
        with pytest.raises(SinkError):
            hook.write_chunk("00000001", [{"id": "no number"}], first_position=1)

    assert counted(database) == [1]


@on_two_databases
def test_row_by_row(database: TestDatabase) -> None:
    database.execute(f"CREATE TABLE {database.place('scores')} (id INTEGER PRIMARY KEY)")
    with database.opened(max_rejected=1) as hook:
        hook.write_chunk("00000000", [{"id": 1}, {"id": 1}, {"id": 2}])

    assert counted(database) == [1]
    with database.opened(max_rejected=1):
        pass


@on_each_database
def test_ledger_of_an_earlier_version(database: TestDatabase) -> None:
    """It has no such column, and its loads resume; from then on chunks are counted."""
    with database.opened() as hook:
        write(hook, 0, 1)
    database.execute(f"ALTER TABLE {database.place(LOADS)} DROP COLUMN chunks_committed")

    with database.opened() as hook:
        assert counted(database) == [2]
        write(hook, 2)
    database.execute(f"DELETE FROM {database.place(LEDGER)} WHERE chunk_id = '00000000'")

    with pytest.raises(LoadMismatch, match=MISSED.format(2)), database.opened():
        pass


@on_two_backends
def test_chunks_that_are_merged_again_are_counted_again(database: TestDatabase) -> None:
    ordered = LoadSpec("nightly", 100, "list of 1000", ordered=True)
    with database.opened(**MERGE) as hook:
        write(hook, 0, 2, 3)

    with database.opened(spec=ordered, **MERGE) as hook:
        assert list(hook.committed_chunks()) == ["00000000"]
        write(hook, 1, 2, 3)
        hook.consolidate()

    assert counted(database) == [4]
    with database.opened(spec=SPEC, **MERGE):
        pass


@on_each_database
def test_two_attempts_at_once_count_each_chunk_once(database: TestDatabase) -> None:
    if database.name == "duckdb":
        pytest.skip("the later of two transactions fails there")
    with database.opened() as one, database.opened() as two:
        write(one, 0)
        write(two, 0, 1)
        write(one, 1, 2)

    assert counted(database) == [3]


@pytest.mark.parametrize("options", [{}, {"on_rerun": "replace"}], ids=["append", "fenced"])
@pytest.mark.parametrize("database", ["postgres", "mariadb"], indirect=True)
def test_chunk_does_not_wait_while_another_one_writes_its_rows(database: TestDatabase, options: dict[str, Any]) -> None:
    gate = Gate()

    class Slow(SinkTableHook):
        def reached(self, point: str) -> None:
            if point == "after_rows":
                gate.pass_through()

    with database.opened(**options) as fast:
        write(fast, 0)
        with database.opened(cls=Slow, **options) as slow, in_background(lambda: write(slow, 1)):
            gate.wait_for_visitor()
            write(fast, 2)
            gate.open()

    assert counted(database) == [3]
    assert len(database.rows()) == 3


@on_each_database
def test_discarded_load_is_found_out_at_the_end_of_its_chunk(database: TestDatabase) -> None:
    with database.opened(on_rerun="replace") as hook, database.hook(on_rerun="replace") as other:
        write(hook, 0)
        other.discard("nightly", rows=True)
        with pytest.raises(LoadMismatch, match="no longer in the ledger"):
            write(hook, 1)

    assert database.rows() == []
    assert database.ledger() == []


@on_two_databases
def test_staging_table_is_counted_at_its_swap(database: TestDatabase) -> None:
    options: dict[str, Any] = {"write_disposition": "replace"}
    with database.opened(**options) as hook:
        write(hook, 0, 1)
        database.execute(f"DELETE FROM {database.place(LEDGER)} WHERE chunk_id = '00000001'")
        with pytest.raises(SinkError, match="has 2 rows, but the ledger has 1"):
            hook.consolidate()

    assert not database.exists("scores")
