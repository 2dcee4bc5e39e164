"""``write_disposition="replace"``: readers see all of the old rows or all of the new ones, whatever happens."""

from __future__ import annotations

import contextlib
import dataclasses
from datetime import timedelta
from typing import Any

import pytest

from airflow_parallel_provider.engine.interfaces.records import LoadSpec
from airflow_parallel_provider.errors import LoadMismatch, PlanError, SchemaMismatch, SinkError
from airflow_parallel_provider.hooks.sink_table import SinkTableHook
from airflow_parallel_provider.sinks.table import SinkTable
from tests.support.databases import OWN, SPEC, TestDatabase, on_each_database, on_two_databases
from tests.support.turns import in_turn

pytestmark = pytest.mark.airflow
REPLACE: dict[str, Any] = {"write_disposition": "replace"}


class Died(BaseException):
    """Stands for a kill: nothing of ours catches it."""


def rows_of(*ids: int) -> list[dict[str, Any]]:
    return [{"id": each, "name": f"n{each}"} for each in ids]


def ids(database: TestDatabase) -> list[int]:
    return [row[0] for row in database.rows(columns="id")]


def load(database: TestDatabase, key: str, *chunks: list[dict[str, Any]], **options: Any) -> None:
    with database.opened(spec=LoadSpec(key, 100, "list"), **{**REPLACE, **options}) as hook:
        for number, rows in enumerate(chunks):
            hook.write_chunk(f"{number:08d}", rows, first_position=number * 100)
        hook.consolidate()


def leftovers(database: TestDatabase) -> list[str]:
    return [name for name in database.tables() if "staging" in name]


def test_readers_see_the_old_rows_until_all_new_ones_are_in(database: TestDatabase) -> None:
    load(database, "monday", rows_of(1, 2))

    with database.opened(spec=LoadSpec("tuesday", 100, "list"), **REPLACE) as hook:
        hook.write_chunk("00000000", rows_of(7, 8))
        hook.write_chunk("00000001", rows_of(9), first_position=100)
        before = ids(database)
        summary = hook.consolidate()

    assert before == [1, 2]
    assert ids(database) == [7, 8, 9]
    assert (summary.chunks, summary.rows) == (2, 3)
    assert leftovers(database) == []
    assert database.rows("airflow_parallel_ledger__loads", "load_key, state", "1") == [
        ("monday", "complete"),
        ("tuesday", "complete"),
    ]


@on_each_database
def test_table_that_was_not_there_appears_with_all_its_rows(database: TestDatabase) -> None:
    with database.opened(**REPLACE) as hook:
        hook.write_chunk("00000000", rows_of(1))
        before = database.exists("scores")
        hook.consolidate()

    assert not before
    assert ids(database) == [1]
    assert leftovers(database) == []


@on_each_database
def test_load_without_rows_empties_the_table(database: TestDatabase) -> None:
    load(database, "monday", rows_of(1, 2))
    load(database, "tuesday", [], [])

    assert ids(database) == []


@on_two_databases
def test_load_without_rows_and_table_makes_none(database: TestDatabase) -> None:
    load(database, "monday", [])

    assert not database.exists("scores")


@on_each_database
def test_retry_goes_on_with_the_staging_table(database: TestDatabase) -> None:
    load(database, "monday", rows_of(1))
    spec = LoadSpec("tuesday", 100, "list")
    with database.opened(spec=spec, **REPLACE) as hook:
        hook.write_chunk("00000000", rows_of(7))

    with database.hook(**REPLACE) as hook:
        committed = hook.open(dataclasses.replace(spec, attempt=2))
        between = ids(database)
        hook.write_chunk("00000001", rows_of(8), first_position=100)
        hook.consolidate()

    assert list(committed) == ["00000000"]
    assert between == [1]
    assert ids(database) == [7, 8]


@pytest.mark.parametrize("database", [*OWN, "postgres-generic"], indirect=True)
@pytest.mark.parametrize("there", [False, True], ids=["new", "there"])
@pytest.mark.parametrize("point", ["before_swap", "after_rename", "before_commit_of_swap", "after_swap"])
@in_turn("duckdb", "postgres-psycopg2", "postgres-generic")
def test_death_during_the_swap_leaves_old_or_new_and_the_next_try_finishes(
    database: TestDatabase, point: str, there: bool
) -> None:
    if there:
        load(database, "monday", rows_of(1, 2))
    spec = LoadSpec("tuesday", 100, "list")
    died = []

    class Mortal(SinkTableHook):
        def reached(self, at: str) -> None:
            if at == point:
                died.append(at)
                raise Died

    hook = database.opened(spec=spec, cls=Mortal, **REPLACE)
    hook.write_chunk("00000000", rows_of(7, 8))
    with contextlib.suppress(Died):
        hook.consolidate()
    hook.close()  # as the server does when the process is gone
    seen = ids(database) if database.exists("scores") else []

    with database.hook(**REPLACE) as again:
        committed = again.open(dataclasses.replace(spec, attempt=2))
        again.write_chunk("00000000", rows_of(7, 8))
        again.consolidate()
        again.consolidate()

    assert seen in ([1, 2] if there else [], [7, 8])
    assert list(committed) == ["00000000"]
    assert ids(database) == [7, 8]
    assert leftovers(database) == []
    assert died or point in ("after_rename", "before_commit_of_swap")  # each way of swapping has one of the two


@on_each_database
def test_chunk_after_the_swap_is_refused(database: TestDatabase) -> None:
    load(database, "monday", rows_of(1))

    with database.opened(spec=LoadSpec("monday", 100, "list", attempt=2), **REPLACE) as hook:
        with pytest.raises(LoadMismatch, match="has already been swapped in as table"):
            hook.write_chunk("00000001", rows_of(2), first_position=100)
        hook.consolidate()

    assert ids(database) == [1]


@on_each_database
def test_two_loads_at_once_do_not_mix(database: TestDatabase) -> None:
    one = database.opened(spec=LoadSpec("one", 100, "list"), **REPLACE)
    two = database.opened(spec=LoadSpec("two", 100, "list"), **REPLACE)
    one.write_chunk("00000000", rows_of(1))
    two.write_chunk("00000000", rows_of(2))
    one.consolidate()
    first = ids(database)
    two.consolidate()
    one.close()
    two.close()

    assert first == [1]
    assert ids(database) == [2]


def test_new_table_has_the_keys_and_types_of_the_old_one(database: TestDatabase) -> None:
    database.execute(
        f"CREATE TABLE {database.place('scores')} "
        "(id INTEGER NOT NULL PRIMARY KEY, name VARCHAR(5) NOT NULL, extra INTEGER)"
    )
    load(database, "monday", rows_of(1))

    with database.opened(spec=LoadSpec("tuesday", 100, "list"), **REPLACE) as hook:
        with pytest.raises(SchemaMismatch):
            hook.write_chunk("00000000", [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}])
        with pytest.raises(SchemaMismatch):
            hook.write_chunk("00000000", [{"id": 1, "name": None}])
        with pytest.raises(SchemaMismatch):
            hook.write_chunk("00000000", [{"id": 1, "name": "a", "unknown": "a"}])
        hook.write_chunk("00000000", rows_of(2))
        hook.consolidate()

    assert database.rows(columns="id, name, extra") == [(2, "n2", None)]
    with pytest.raises(Exception, match=r"(?i)duplicate|unique"):
        database.execute(f"INSERT INTO {database.place('scores')} (id, name) VALUES (2, 'again')")


@on_each_database
def test_columns_that_no_row_names_get_their_defaults(database: TestDatabase) -> None:
    """As they do without a staging table."""
    columns = (
        "id INTEGER PRIMARY KEY, name VARCHAR(5), state VARCHAR(9) DEFAULT 'ne''w' NOT NULL, "
        "place VARCHAR(9) DEFAULT '5% :x', grade INTEGER DEFAULT (2 + 3)"
    )
    database.execute(f"CREATE TABLE {database.place('scores')} ({columns})")

    load(database, "monday", rows_of(1))
    load(database, "tuesday", [{"id": 2, "name": "b", "place": "y"}], [{"id": 3, "grade": None}])

    assert database.rows(columns="id, name, state, place, grade") == [
        (2, "b", "ne'w", "y", 5),
        (3, None, "ne'w", "5% :x", None),
    ]


@pytest.mark.parametrize("database", ["duckdb", "postgres", "sqlite"], indirect=True)
def test_columns_that_are_worked_out_are_left_to_the_database(database: TestDatabase) -> None:
    stored = " STORED" if database.name == "postgres" else ""
    columns = f"id INTEGER PRIMARY KEY, twice INTEGER GENERATED ALWAYS AS (id * 2){stored}"
    database.execute(f"CREATE TABLE {database.place('scores')} ({columns})")

    with database.opened(write_disposition="replace") as hook:
        hook.write_chunk("00000000", [{"id": 3}])
        hook.consolidate()

    assert database.rows() == [(3, 6)]


NUMBERED = ["postgres", "postgres-psycopg2", "postgres-generic", "mariadb", "mariadb-generic"]


@pytest.mark.parametrize("database", NUMBERED, indirect=True)
@pytest.mark.parametrize("copied", [False, True])
def test_rows_that_the_table_numbers_itself(database: TestDatabase, copied: bool) -> None:
    scores = database.place("scores")
    identity = "AUTO_INCREMENT" if database.name == "mariadb" else "GENERATED ALWAYS AS IDENTITY"
    database.execute(f"CREATE TABLE {scores} (id INTEGER {identity} PRIMARY KEY, name VARCHAR(5) NOT NULL)")
    if copied and database.name == "postgres":
        database.execute(f"CREATE VIEW {database.place('seen')} AS SELECT id FROM {scores}")
    elif copied:
        database.execute(f"CREATE TRIGGER {database.place('seen')} BEFORE UPDATE ON {scores} FOR EACH ROW SET @a = 1")

    for number in range(2):
        load(database, f"day {number}", [{"name": "a"}, {"name": "b"}], [{"name": "c"}])
    database.execute(f"INSERT INTO {scores} (name) VALUES ('d')")

    assert database.rows(columns="name") == [("a",), ("b",), ("c",), ("d",)]
    assert len(set(ids(database))) == 4


@pytest.mark.parametrize("database", NUMBERED, indirect=True)
def test_rows_that_bring_the_numbers_which_the_table_would_give(database: TestDatabase) -> None:
    identity = "AUTO_INCREMENT" if database.name == "mariadb" else "GENERATED BY DEFAULT AS IDENTITY"
    database.execute(f"CREATE TABLE {database.place('scores')} (id INTEGER {identity} PRIMARY KEY, name VARCHAR(5))")

    load(database, "monday", rows_of(7), rows_of(5))

    assert database.rows(columns="id, name") == [(5, "n5"), (7, "n7")]


def test_views_on_the_table_stay(database: TestDatabase) -> None:
    load(database, "monday", rows_of(1))
    database.execute(f"CREATE VIEW {database.place('seen')} AS SELECT id FROM {database.place('scores')}")

    load(database, "tuesday", rows_of(2), rows_of(3))

    assert database.rows("seen") == [(2,), (3,)]


@on_each_database
def test_new_columns_come_along(database: TestDatabase) -> None:
    load(database, "monday", rows_of(1))

    load(database, "tuesday", [{"id": 2, "name": "b", "note": "new"}], on_schema_change="add_columns")

    assert database.rows(columns="id, name, note") == [(2, "b", "new")]


@on_each_database
def test_changed_staging_table_is_not_swapped_in(database: TestDatabase) -> None:
    load(database, "monday", rows_of(1))
    with database.opened(spec=LoadSpec("tuesday", 100, "list"), **REPLACE) as hook:
        hook.write_chunk("00000000", rows_of(2, 3))
        [staging] = leftovers(database)
        database.execute(f"DELETE FROM {database.place(staging)} WHERE id = 2")
        with pytest.raises(SinkError, match="has 1 rows, but the ledger has 2"):
            hook.consolidate()

    assert ids(database) == [1]


@on_each_database
def test_first_chunk_that_failed_does_not_decide_the_columns(database: TestDatabase) -> None:
    """The staging table of a try without a chunk is made anew."""
    with database.opened(columns={"id": "text"}, **REPLACE):
        pass

    with database.opened(columns={"id": int, "name": str}, **REPLACE) as hook:
        hook.write_chunk("00000000", rows_of(1))
        hook.consolidate()

    assert database.rows() == [(1, "n1")]


@on_each_database
def test_discard_and_purge_drop_the_staging_table(database: TestDatabase) -> None:
    for key in ("one", "two"):
        with database.opened(spec=LoadSpec(key, 100, "list"), **REPLACE) as hook:
            hook.write_chunk("00000000", rows_of(1))
    there = len(leftovers(database))

    with database.hook(**REPLACE) as hook:
        chunks = hook.discard("one")
        after_discard = len(leftovers(database))
        kept = hook.purge_ledger(timedelta(days=1), abandoned=True)
        purged = hook.purge_ledger(timedelta(seconds=-5), abandoned=True)

    assert (there, chunks, after_discard, kept, purged) == (2, 1, 1, 0, 1)
    assert leftovers(database) == []


def test_staging_table_of_a_long_name_fits(database: TestDatabase) -> None:
    table = "t" * 60
    for key in ("monday", "tuesday"):
        with database.opened(table, LoadSpec(key, 100, "list"), dead_letters="letters", **REPLACE) as hook:
            hook.write_chunk("00000000", rows_of(1))
            hook.consolidate()

    assert len(database.rows(table)) == 1
    assert leftovers(database) == []


@on_each_database
def test_attempt_that_is_still_alive_cannot_write_after_the_swap(database: TestDatabase) -> None:
    zombie = database.opened(**REPLACE)
    zombie.write_chunk("00000000", rows_of(1))
    with database.opened(spec=dataclasses.replace(SPEC, attempt=2), **REPLACE) as hook:
        hook.consolidate()

    with pytest.raises((LoadMismatch, SchemaMismatch)):
        zombie.write_chunk("00000001", rows_of(2), first_position=100)
    zombie.close()

    assert ids(database) == [1]


def test_disposition_is_checked_at_once() -> None:
    with pytest.raises(PlanError, match="write 'append', 'merge' or 'replace'"):
        SinkTable("scores", conn_id="warehouse", write_disposition="overwrite")
