"""Rows that a database drops without an error: the server's count is compared with what was sent, on every path."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_parallel_provider.engine.interfaces.records import LoadSpec
from airflow_parallel_provider.errors import SinkError, WriteRefused
from tests.support.databases import OWN, TestDatabase
from tests.support.turns import in_turn

pytestmark = pytest.mark.airflow
ALL = 1_000_000
POSTGRES = ["postgres", "postgres-psycopg2", "postgres-generic"]
SQLITE = ["sqlite", "sqlite-generic"]
MERGE: dict[str, Any] = {"write_disposition": "merge", "primary_key": "id"}


def on(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("database", names, indirect=True)


def dropping(database: TestDatabase, events: str = "INSERT", condition: str = "NEW.id % 2 = 0") -> None:
    """A trigger ``no_even`` that drops rows of ``scores``."""
    scores, there = database.place("scores"), database.place("skip")
    if database.name == "postgres":
        database.execute(
            f"CREATE FUNCTION {there}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"IF {condition} THEN RETURN NULL; END IF; RETURN NEW; END $$",
            f"CREATE TRIGGER no_even BEFORE {events} ON {scores} FOR EACH ROW EXECUTE FUNCTION {there}()",
        )
        return
    for event in events.split(" OR "):
        name = "no_even" if event == "INSERT" else f"no_even_{event}"
        database.execute(
            f"CREATE TRIGGER {name} BEFORE {event} ON {scores} WHEN {condition} BEGIN SELECT RAISE(IGNORE); END"
        )


def shaped(how: str, count: int) -> list[Any]:
    """So many rows, as dicts, as an Arrow table or as a data frame."""
    rows = [{"id": number, "x": number * 2} for number in range(count)]
    if how == "dicts":
        return rows
    if how == "arrow":
        return [pytest.importorskip("pyarrow").Table.from_pylist(rows)]
    return [pytest.importorskip("pandas").DataFrame(rows)]


@on(*POSTGRES, *SQLITE)
@pytest.mark.parametrize("how", ["dicts", "arrow", "pandas"])
@in_turn("postgres-psycopg2", "postgres-generic", "sqlite-generic")
def test_rows_that_a_trigger_drops_end_the_run(database: TestDatabase, how: str) -> None:
    database.execute(f"CREATE TABLE {database.place('scores')} (id INTEGER PRIMARY KEY, x INTEGER)")
    dropping(database)

    by = "by a rule or a clause" if database.generic and database.name == "postgres" else "most likely by"
    with database.opened(max_rejected=ALL) as hook:
        with pytest.raises(WriteRefused, match=rf"of 1000 rows that were sent \(chunk 00000000\) .*written 500.*{by}"):
            hook.write_chunk("00000000", shaped(how, 1_000))
        assert database.rows() == database.ledger() == []
        database.execute(
            f"DROP TRIGGER no_even ON {database.place('scores')}"
            if database.name == "postgres"
            else "DROP TRIGGER no_even"
        )
        assert hook.write_chunk("00000000", shaped(how, 1_000)).rows in (1, 1_000)

    assert len(database.rows()) == 1_000


@on("postgres", "sqlite")
def test_error_names_the_trigger(database: TestDatabase) -> None:
    database.execute(f"CREATE TABLE {database.place('scores')} (id INTEGER PRIMARY KEY, x INTEGER)")
    dropping(database)

    with database.opened() as hook, pytest.raises(WriteRefused, match="by trigger 'no_even'"):
        hook.write_chunk("00000000", shaped("dicts", 2))


@on("postgres", "postgres-psycopg2")
def test_rows_that_go_as_text_or_as_arrays_are_counted(database: TestDatabase) -> None:
    """Types that binary COPY is not used for; and of lists, which psycopg 2 sends as INSERTs of a thousand rows."""
    database.execute(f"CREATE TABLE {database.place('scores')} (id INTEGER, t INTEGER[], n INET)")
    dropping(database, condition="NEW.id = 7")
    rows = [{"id": number, "t": [1, 2], "n": "10.0.0.1"} for number in range(2_500)]

    with database.opened() as hook:
        with pytest.raises(WriteRefused, match="has written 2499, and dropped 1"):
            hook.write_chunk("00000000", rows)
        hook.write_chunk("00000000", [row for row in rows if row["id"] != 7])

    assert len(database.rows(columns="id")) == 2_499


@on("postgres", "postgres-psycopg2", "sqlite")
@pytest.mark.parametrize("event", ["INSERT", "UPDATE"])
@pytest.mark.parametrize("how", ["dicts", "arrow"])
@in_turn("postgres-psycopg2", every=4)
def test_rows_that_are_dropped_from_a_merge_end_the_run(database: TestDatabase, event: str, how: str) -> None:
    """Also where equal keys make the server's count smaller than the number of rows."""
    scores = database.place("scores")
    database.execute(f"CREATE TABLE {scores} (id INTEGER PRIMARY KEY, x INTEGER)")
    if event == "UPDATE":
        database.execute(f"INSERT INTO {scores} VALUES (4, 0), (5, 0)")
    dropping(database, event, "NEW.id = 4")
    before = database.rows()

    with database.opened(**MERGE, max_rejected=ALL) as hook:
        with pytest.raises(WriteRefused, match=r"dropped 1 without an error.*by trigger 'no_even"):
            hook.write_chunk("00000000", shaped(how, 10))
        if how == "dicts":
            twice = [{"id": 4, "x": 9}, *({"id": 5, "x": n} for n in range(3))]
            with pytest.raises(WriteRefused, match="dropped 1 without"):
                hook.write_chunk("00000000", twice)
        assert database.rows() == before
        hook.write_chunk("00000000", [{"id": 5, "x": 1}, {"id": 6, "x": 1}, {"id": 5, "x": 2}, {"id": 5, "x": 2}])

    assert dict(database.rows())[5] == 2


@on(*OWN)
def test_merge_of_equal_and_of_unchanged_rows_is_not_suspected(database: TestDatabase) -> None:
    """MySQL counts 2 for a changed row and 0 for one that is the same, the others count equal keys once."""
    database.execute(f"CREATE TABLE {database.place('scores')} (id INTEGER PRIMARY KEY, x INTEGER)")
    rows = [{"id": number % 5, "x": number} for number in range(20)]
    with database.opened(**MERGE) as hook:
        hook.write_chunk("00000000", rows)
        hook.write_chunk("00000001", rows[-5:], first_position=20)  # nothing changes
        hook.write_chunk("00000002", [*rows[-5:], {"id": 9, "x": 9}], first_position=25)

    assert database.rows() == [(0, 15), (1, 16), (2, 17), (3, 18), (4, 19), (9, 9)]


@on(*[name for name in OWN if name != "mariadb"])
def test_merge_by_a_key_with_nulls_is_not_suspected(database: TestDatabase) -> None:
    database.execute(f"CREATE TABLE {database.place('scores')} (id INTEGER, k INTEGER, x INTEGER, UNIQUE (id, k))")
    rows = [
        {"id": 1, "k": None, "x": 1},
        {"id": 1, "k": None, "x": 1},
        {"id": 1, "k": 2, "x": 1},
        {"id": 1, "k": 2, "x": 2},
    ]
    with database.opened(write_disposition="merge", primary_key=["id", "k"]) as hook:
        hook.write_chunk("00000000", rows)

    assert sorted(database.rows(columns="x")) == [(1,), (1,), (2,)]


@on(*OWN)
@pytest.mark.parametrize("newest", ["x", None])
def test_merge_that_leaves_rows_as_they_are_is_not_suspected(database: TestDatabase, newest: str | None) -> None:
    """Newer rows are there already, or the table has nothing but its key."""
    columns = "id INTEGER PRIMARY KEY, x INTEGER" if newest else "id INTEGER, x INTEGER, PRIMARY KEY (id, x)"
    database.execute(f"CREATE TABLE {database.place('scores')} ({columns})")
    if database.name in ("postgres", "sqlite"):
        dropping(database, condition="NEW.id = 99")
    options = {"primary_key": "id", "newest": newest} if newest else {"primary_key": ["id", "x"]}
    rows = [{"id": number, "x": number * 2} for number in range(10)]
    with database.opened(write_disposition="merge", **options) as hook:
        hook.write_chunk("00000000", rows)
        again = [{**row, "x": row["x"] - 1 if newest else row["x"]} for row in rows]
        hook.write_chunk("00000001", [*again, {"id": 70, "x": 1}], first_position=10)

    assert database.rows() == [*((n, n * 2) for n in range(10)), (70, 1)]


@on("postgres", "postgres-psycopg2", "sqlite")
@pytest.mark.parametrize("newest", ["x", None])
@pytest.mark.parametrize("event", ["INSERT", "UPDATE"])
@in_turn("postgres-psycopg2", every=4)
def test_row_that_is_dropped_from_such_a_merge_ends_the_run(
    database: TestDatabase, newest: str | None, event: str
) -> None:
    if newest is None and event == "UPDATE":
        pytest.skip("nothing is updated where there is only a key")
    columns = "id INTEGER PRIMARY KEY, x INTEGER" if newest else "id INTEGER, x INTEGER, PRIMARY KEY (id, x)"
    database.execute(f"CREATE TABLE {database.place('scores')} ({columns})")
    values = "(1, 9), (2, 9), (4, 0)" if event == "UPDATE" else "(1, 1), (2, 9)"
    database.execute(f"INSERT INTO {database.place('scores')} VALUES {values}")
    dropping(database, event, "NEW.id = 4")
    options = {"primary_key": "id", "newest": newest} if newest else {"primary_key": ["id", "x"]}

    with (
        database.opened(write_disposition="merge", max_rejected=ALL, **options) as hook,
        pytest.raises(WriteRefused, match="dropped 1 without an error"),
    ):
        hook.write_chunk("00000000", [{"id": 1, "x": 1}, {"id": 2, "x": 2}, {"id": 4, "x": 4}, {"id": 5, "x": 5}])


@on("postgres", "sqlite")
def test_rows_are_dropped_while_bad_ones_are_looked_for(database: TestDatabase) -> None:
    database.execute(f"CREATE TABLE {database.place('scores')} (id INTEGER CHECK (id <> 5))")
    dropping(database, condition="NEW.id = 8")

    with database.opened(max_rejected=ALL) as hook, pytest.raises(WriteRefused, match="dropped 1 without an error"):
        hook.write_chunk("00000000", [{"id": number} for number in range(10)])

    assert database.rows() == database.ledger() == []


@on("postgres", "postgres-psycopg2", "sqlite")
def test_view_whose_trigger_writes_elsewhere_takes_rows(database: TestDatabase) -> None:
    with_instead_of(database, drops=False)

    with database.opened() as hook:
        hook.write_chunk("00000000", shaped("dicts", 5))
        hook.write_chunk("00000001", shaped("arrow", 5), first_position=5)

    assert len(database.rows("behind")) == 10


@on("postgres", "postgres-psycopg2", "sqlite")
@pytest.mark.parametrize("how", ["dicts", "arrow"])
def test_rows_that_the_trigger_of_a_view_drops_end_the_run(database: TestDatabase, how: str) -> None:
    """PostgreSQL's COPY would count them, SQLite counts none of a view's rows."""
    with_instead_of(database, drops=True)

    with database.opened(max_rejected=ALL) as hook, pytest.raises(WriteRefused, match="dropped 3 without an error"):
        hook.write_chunk("00000000", shaped(how, 5))

    assert database.rows("behind") == database.ledger() == []


def with_instead_of(database: TestDatabase, *, drops: bool) -> None:
    scores, behind, there = (database.place(name) for name in ("scores", "behind", "iv"))
    database.execute(
        f"CREATE TABLE {behind} (id INTEGER, x INTEGER)", f"CREATE VIEW {scores} AS SELECT id, x FROM {behind}"
    )
    if database.name == "postgres":
        database.execute(
            f"CREATE FUNCTION {there}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"{'IF NEW.id % 2 = 0 THEN RETURN NULL; END IF;' if drops else ''} "
            f"INSERT INTO {behind} VALUES (NEW.id, NEW.x); RETURN NEW; END $$",
            f"CREATE TRIGGER iv INSTEAD OF INSERT ON {scores} FOR EACH ROW EXECUTE FUNCTION {there}()",
        )
    else:
        only = "WHERE NEW.id % 2 = 1" if drops else ""
        database.execute(
            f"CREATE TRIGGER iv INSTEAD OF INSERT ON {scores} BEGIN "
            f"INSERT INTO {behind} SELECT NEW.id, NEW.x {only}; END"
        )


@on("postgres")
def test_partition_whose_trigger_drops_rows(database: TestDatabase) -> None:
    scores, part, there = (database.place(name) for name in ("scores", "part", "skip"))
    database.execute(
        f"CREATE TABLE {scores} (id INTEGER, x INTEGER) PARTITION BY RANGE (id)",
        f"CREATE TABLE {part} PARTITION OF {scores} FOR VALUES FROM (0) TO (100)",
        f"CREATE FUNCTION {there}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
        f"CREATE TRIGGER of_part BEFORE INSERT ON {part} FOR EACH ROW EXECUTE FUNCTION {there}()",
    )
    with database.opened() as hook, pytest.raises(WriteRefused, match=r"written 0, and dropped 5 .*trigger 'of_part'"):
        hook.write_chunk("00000000", shaped("dicts", 5))


@on("sqlite")
def test_clause_of_a_table_that_ignores_conflicts(database: TestDatabase) -> None:
    database.execute("CREATE TABLE scores (id INTEGER PRIMARY KEY ON CONFLICT IGNORE, x INTEGER)")
    with database.opened(max_rejected=ALL) as hook, pytest.raises(WriteRefused, match="by a rule or a clause of"):
        hook.write_chunk("00000000", [{"id": 1, "x": 1}, {"id": 1, "x": 2}])

    assert database.rows() == []


@on("postgres")
def test_rule_that_keeps_rows_away_from_a_merge(database: TestDatabase) -> None:
    """COPY knows no rules."""
    scores = database.place("scores")
    database.execute(
        f"CREATE TABLE {scores} (id INTEGER PRIMARY KEY, x INTEGER)",
        f"CREATE RULE away AS ON INSERT TO {scores} WHERE NEW.id = 1 DO INSTEAD NOTHING",
    )
    with (
        database.opened(**MERGE, max_rejected=ALL) as hook,
        pytest.raises(WriteRefused, match=r"dropped 1 without an error.*by a rule"),
    ):
        hook.write_chunk("00000000", shaped("dicts", 3))
    with database.opened(spec=LoadSpec("other", 100, "list")) as hook:
        hook.write_chunk("00000000", shaped("dicts", 3))

    assert len(database.rows()) == 3


@on("postgres", "sqlite", "sqlite-generic")
def test_rows_that_a_trigger_drops_at_the_swap_leave_the_old_table(database: TestDatabase) -> None:
    """The staging table has no trigger; the old table, which is filled from it, has one."""
    scores = database.place("scores")
    database.execute(f"CREATE TABLE {scores} (id INTEGER PRIMARY KEY, x INTEGER)")
    database.execute(f"INSERT INTO {scores} VALUES (77, 0)")
    if database.name == "postgres":  # what depends on the table makes the swap a copy
        database.execute(f"CREATE VIEW {database.place('seen')} AS SELECT id FROM {scores}")
    dropping(database)

    with database.opened(write_disposition="replace") as hook:
        hook.write_chunk("00000000", shaped("dicts", 10))
        with pytest.raises(SinkError, match=r"of 10 rows that were sent \(at the swap\) .*dropped 5 without an error"):
            hook.consolidate()
        assert database.rows() == [(77, 0)]
        database.execute(f"DROP TRIGGER no_even{f' ON {scores}' if database.name == 'postgres' else ''}")
        hook.consolidate()

    assert len(database.rows()) == 10
