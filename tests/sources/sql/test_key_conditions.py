"""``SqlSource`` with keys of several columns: each row in exactly one range, and no table that is read as a whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_parallel_provider import PlanError, SqlSource
from airflow_parallel_provider.errors import LoadMismatch
from tests.support.databases import TestDatabase
from tests.support.given import examples
from tests.support.turns import in_turn

pytestmark = pytest.mark.airflow

COLUMNS = {"number": "INTEGER NOT NULL", "text": "VARCHAR(8) NOT NULL", "day": "DATE NOT NULL"}
VALUES: dict[str, st.SearchStrategy[str]] = {
    "number": st.integers(-3, 3).map(str),
    "text": st.text("aAbé -_", max_size=3).map(lambda text: f"'{text}'"),
    "day": st.integers(-2, 2).map(lambda days: f"'{date(2026, 11, 21) + timedelta(days=days)}'"),
}
KEYS = [("number", "text"), ("text", "number"), ("day", "number", "text"), ("number", "day")]


def source(database: TestDatabase, key: Any, **options: Any) -> SqlSource:
    return SqlSource("orders", **{"conn_id": "warehouse", "key": key, "schema": database.schema, **options})


def table(database: TestDatabase, columns: dict[str, str], *constraints: str) -> None:
    names = [f"{database.quote(name)} {kind}" for name, kind in columns.items()]
    database.execute(f"CREATE TABLE {database.place('orders')} ({', '.join([*names, *constraints])})")


def constraint(database: TestDatabase, key: tuple[str, ...], kind: str = "PRIMARY KEY") -> str:
    return f"{kind} ({', '.join(map(database.quote, key))})"


def put(database: TestDatabase, rows: list[tuple[str, ...]]) -> None:
    """Whatever rows the table takes: what is equal is the collation's to say."""
    ignoring = {"mariadb": ("INSERT IGNORE", ""), "sqlite": ("INSERT OR IGNORE", "")}
    insert, conflict = ignoring.get(database.name, ("INSERT", "ON CONFLICT DO NOTHING"))
    values = ", ".join(f"({', '.join(row)})" for row in rows)
    database.execute(f"{insert} INTO {database.place('orders')} VALUES {values} {conflict}")


def ordered(database: TestDatabase, key: tuple[str, ...]) -> list[tuple[Any, ...]]:
    return database.rows("orders", order=", ".join(map(database.quote, key)))


@pytest.mark.hypothesis
@pytest.mark.parametrize("key", KEYS, ids=["number-text", "text-number", "three", "number-day"])
@in_turn("sqlite", "postgres", "mariadb")
def test_ranges_hold_each_row_once(database: TestDatabase, key: tuple[str, ...]) -> None:
    table(database, {name: COLUMNS[name] for name in key} | {"note": "INTEGER"}, constraint(database, key))

    @examples(8, long=200)
    @given(
        rows=st.lists(st.tuples(*(VALUES[name] for name in key), st.just("7")), min_size=1, max_size=40),
        size=st.integers(1, 9),
        late=st.tuples(*(VALUES[name] for name in key), st.just("8")),
    )
    def holds(rows: list[tuple[str, ...]], size: int, late: tuple[str, ...]) -> None:
        database.execute(f"DELETE FROM {database.place('orders')}")
        put(database, rows)
        expected = ordered(database, key)
        it = source(database, key, readers=2)
        it.range_size = size  # a declaration refuses ranges this small
        it.prepare()
        again = source(database, key, readers=1)
        again.range_size = size
        again.prepare()
        again.restore_state(json.loads(json.dumps(it.get_state())))

        assert list(map(named, expected)) == [shown(row) for row in it]
        assert list(map(named, expected)) == [shown(row) for row in again]
        put(database, [late])
        there = ordered(database, key)  # what is above is the database's to say, not Python's
        highest = there.index(expected[-1])
        after = [row for at, row in enumerate(there) if row in expected or at <= highest]
        found = [shown(row) for row in source_of(it, database, key, size)]
        assert found == list(map(named, after))

    def named(row: tuple[Any, ...]) -> tuple[str, ...]:
        return tuple(str(value) for value in row)

    def shown(row: dict[str, Any]) -> tuple[str, ...]:
        return tuple(str(value) for value in row.values())

    holds()


def source_of(first: SqlSource, database: TestDatabase, key: tuple[str, ...], size: int) -> SqlSource:
    """A first try that has looked at the table when ``first`` did, and reads it now."""
    now = source(database, key)
    now.range_size = size
    now.prepare()
    now._ranges = first._ranges
    return now


def filled(database: TestDatabase) -> list[tuple[int, int]]:
    table(
        database,
        {"day": "INTEGER NOT NULL", "id": "INTEGER NOT NULL", "name": "VARCHAR(20)"},
        constraint(database, ("day", "id")),
    )
    keys = [(day, number) for day in range(3) for number in range(0, 350 - day, 1)]
    put(database, [(str(day), str(number), f"'n{number}'") for day, number in keys])
    return keys


def test_key_of_two_columns_is_read_in_its_order(database: TestDatabase) -> None:
    keys = filled(database)
    it = source(database, ["day", "id"], range_size=100)

    rows = list(it)

    assert [(row["day"], row["id"]) for row in rows] == keys
    assert len(it) == len(keys)
    assert it.identity().startswith("sql warehouse/")
    assert "by day, id " in it.identity()


def test_retry_names_the_range_that_changed(database: TestDatabase) -> None:
    filled(database)
    first = source(database, ["day", "id"], range_size=100)
    first.prepare()
    database.execute(f"DELETE FROM {database.place('orders')} WHERE day = 1 AND id = 60")
    retry = source(database, ["day", "id"], range_size=100)
    retry.prepare()
    retry.restore_state(json.loads(json.dumps(first.get_state())))

    with pytest.raises(LoadMismatch, match=r"rows 401 to 500 in the order of day, id: 100 rows in the fir"):
        list(retry)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("kind", ["DATETIME", "TIMESTAMPTZ"])
@pytest.mark.parametrize("spelled", ["{:%Y-%m-%d %H:%M:%S}", "{:%Y-%m-%dT%H:%M:%S}", "{:%Y-%m-%d %H:%M:%S.%f}"])
def test_times_of_sqlite_are_keys_however_they_are_spelled(database: TestDatabase, kind: str, spelled: str) -> None:
    """SQLite compares the texts, SQLAlchemy makes another text of the time."""
    zone = "+00:00" if kind == "TIMESTAMPTZ" else ""
    times = [datetime(2026, 1, 1, tzinfo=UTC if zone else None) + timedelta(seconds=at) for at in range(90)]
    table(database, {"at": f"{kind} NOT NULL", "id": "INTEGER NOT NULL"}, constraint(database, ("at", "id")))
    put(database, [(f"'{spelled.format(at)}{zone}'", str(number)) for at in times for number in range(5)])

    first = source(database, ["at", "id"], range_size=101)
    first.prepare()
    retry = source(database, ["at", "id"], range_size=101)
    retry.prepare()
    retry.restore_state(json.loads(json.dumps(first.get_state())))

    assert [(row["at"], row["id"]) for row in first] == [(at, number) for at in times for number in range(5)]
    assert list(retry) == list(first)


@pytest.mark.parametrize("database", ["duckdb"], indirect=True)
def test_database_that_sqlalchemy_cannot_look_into_is_refused(database: TestDatabase) -> None:
    table(database, {"id": "INTEGER NOT NULL PRIMARY KEY"})

    with pytest.raises(PlanError, match=r"conn_id=.warehouse.: DuckDB cannot be read in ranges: .*yields Arrow"):
        source(database, "id").prepare()


def test_unique_column_may_be_a_part_of_the_key(database: TestDatabase) -> None:
    """What is unique by itself is unique with another column, and then comes in the order of both."""
    table(database, {"id": "INTEGER NOT NULL PRIMARY KEY", "day": "INTEGER NOT NULL"})
    put(database, [(str(number), str(number % 3)) for number in range(300)])

    rows = list(source(database, ("day", "id"), range_size=100))

    assert [(row["day"], row["id"]) for row in rows] == [
        (day, number) for day in range(3) for number in range(day, 300, 3)
    ]


@pytest.mark.parametrize(
    ("key", "columns", "unique", "message"),
    [
        ("id", {"id": "INTEGER NOT NULL", "line": "INTEGER NOT NULL"}, ("id", "line"), "unique here: 'id, line'"),
        (
            ["id", "line"],
            {"id": "INTEGER NOT NULL", "line": "INTEGER NOT NULL", "code": "INTEGER NOT NULL"},
            ("id", "line", "code"),
            "consists of these columns alone",
        ),
        (["id", "absent"], {"id": "INTEGER NOT NULL"}, ("id",), r"SqlSource.key='absent': table 'orders' has no such"),
    ],
    ids=["half-a-key", "too-few", "absent"],
)
def test_key_that_would_lose_rows_is_refused(
    database: TestDatabase, key: Any, columns: dict[str, str], unique: tuple[str, ...], message: str
) -> None:
    table(database, columns, constraint(database, unique, "UNIQUE"))

    with pytest.raises(PlanError, match=message):
        source(database, key).prepare()


def test_null_in_a_part_of_a_key_is_refused(database: TestDatabase) -> None:
    columns = {"id": "INTEGER NOT NULL", "line": "INTEGER NULL"}
    table(database, columns, constraint(database, ("id", "line"), "UNIQUE"))
    put(database, [("1", "1"), ("1", "2")])
    assert len(list(source(database, ["id", "line"], range_size=100))) == 2

    put(database, [("2", "NULL")])

    with pytest.raises(PlanError, match=r"SqlSource.key='line': the column may be NULL, and is in some rows"):
        source(database, ["id", "line"]).prepare()


@pytest.mark.parametrize("database", ["postgres", "mariadb"], indirect=True)
def test_float_that_is_rounded_when_it_is_read_is_no_key(database: TestDatabase) -> None:
    kind = {"postgres": "REAL", "mariadb": "FLOAT"}[database.name]
    table(database, {"id": f"{kind} NOT NULL PRIMARY KEY"})

    with pytest.raises(PlanError, match="a four-byte float"):
        source(database, "id").prepare()


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
@pytest.mark.parametrize("kind", ["ENUM('z','a')", "SET('z','a')"])
def test_column_that_is_not_ordered_as_it_is_compared_is_no_key(database: TestDatabase, kind: str) -> None:
    table(
        database, {"day": f"{kind} NOT NULL", "id": "INTEGER NOT NULL"}, constraint(database, ("day", "id"), "UNIQUE")
    )

    with pytest.raises(PlanError, match=r"SqlSource.key='day': this database sorts (ENUM|SET) by number"):
        source(database, ["day", "id"]).prepare()


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("DOUBLE", [number * 1e-14 for number in range(1, 251)]),
        ("TIME", [timedelta(hours=number - 125) for number in range(250)]),
        ("UUID", [UUID(int=number << 70) for number in range(250)]),
    ],
)
def test_types_of_mariadb_are_read_as_they_are(database: TestDatabase, kind: str, values: list[Any]) -> None:
    table(database, {"id": f"{kind} NOT NULL PRIMARY KEY"})
    put(database, [(f"'{value}'" if kind != "TIME" else f"SEC_TO_TIME({value.total_seconds()})",) for value in values])
    first = source(database, "id")
    first.prepare()
    retry = source(database, "id")
    retry.prepare()
    retry.restore_state(json.loads(json.dumps(first.get_state())))

    found = [row["id"] for row in retry]

    def as_duration(value: Any) -> Any:
        if not isinstance(value, time):
            return value
        return timedelta(hours=value.hour, minutes=value.minute, seconds=value.second)

    assert [as_duration(each) for each in found] == values
    assert kind != "TIME" or found[125:149] == [time(hour) for hour in range(24)]


def searched(database: TestDatabase, statement: str, parameters: Any) -> bool:
    """Whether the database enters the key's index for a statement, and reads no row outside its range."""
    with database.hook(cls=None) as hook:
        raw = hook.get_conn()
        cursor = raw.cursor()
        explain = {"sqlite": "EXPLAIN QUERY PLAN ", "mariadb": "EXPLAIN "}.get(database.name, "EXPLAIN (COSTS OFF) ")
        if database.name == "postgres":
            cursor.execute("SET enable_seqscan = off")
            cursor.execute("SET enable_bitmapscan = off")
        cursor.execute(explain + statement, parameters)
        said = str(cursor.fetchall())
        cursor.close()
        raw.close()
    wanted: dict[str, Callable[[str], bool]] = {
        "sqlite": lambda plan: "SEARCH" in plan and "SCAN" not in plan,
        "mariadb": lambda plan: "'range'" in plan,
        "postgres": lambda plan: "Index Cond" in plan and "Filter" not in plan and "Sort" not in plan,
    }
    return wanted[database.name](said)


def test_range_is_found_by_the_index_of_the_key(database: TestDatabase) -> None:
    import sqlalchemy as sa

    filled(database)
    it = source(database, ["day", "id"], range_size=100)
    it.prepare()
    seen: list[tuple[str, Any]] = []

    def listen(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        seen.append((statement, parameters))

    sa.event.listen(sa.engine.Engine, "before_cursor_execute", listen)
    try:
        assert list(it)
    finally:
        sa.event.remove(sa.engine.Engine, "before_cursor_execute", listen)

    inner = [(statement, given_) for statement, given_ in seen if "name" in statement and len(given_) >= 4]
    assert len(inner) >= 8
    for statement, given_ in inner:
        assert searched(database, statement, given_), statement


TYPES = {
    "sqlite": {
        "id": "INTEGER PRIMARY KEY",
        "b": "BOOLEAN",
        "d": "DATE",
        "t": "DATETIME",
        "n": "DECIMAL(9,3)",
        "x": "BLOB",
    },
    "postgres": {
        "id": "BIGINT PRIMARY KEY",
        "b": "BOOLEAN",
        "d": "DATE",
        "t": "TIMESTAMP",
        "n": "NUMERIC(9,3)",
        "x": "JSONB",
    },
    "mariadb": {
        "id": "BIGINT PRIMARY KEY",
        "b": "BOOLEAN",
        "d": "DATE",
        "t": "DATETIME(6)",
        "n": "DECIMAL(9,3)",
        "x": "BLOB",
    },
}


def test_values_are_those_of_sqlalchemy(database: TestDatabase) -> None:
    """Its rows are not used, because they are slow; what its types do to values must be done all the same."""
    import sqlalchemy as sa

    from airflow_parallel_provider.sql.database import Database, resolved_hook

    table(database, TYPES[database.name])
    filled_in = ("1", "TRUE", "'2026-11-21'", "'2026-11-21 12:30:00.250000'", "12.125", "'{\"a\": 1}'")
    put(database, [filled_in, ("2", *["NULL"] * 5)])
    it = source(database, "id")
    rows = list(it)
    assert it._reader is not None
    there = Database(resolved_hook("warehouse", database.connection), "warehouse", lock_timeout=5, statement_timeout=5)
    with there.session() as connection:
        theirs = connection.execute(sa.select(*it._reader._table.c).order_by(sa.text("1"))).fetchall()
    there.close()

    assert [tuple(row.values()) for row in rows] == [tuple(row) for row in theirs]
    assert list(map(type, rows[0].values())) == list(map(type, theirs[0]))
    assert rows[0]["d"] == date(2026, 11, 21)
    assert set(rows[1].values()) == {2, None}


@pytest.mark.parametrize("database", ["sqlite", "postgres"], indirect=True)
def test_columns_may_have_any_names(database: TestDatabase) -> None:
    names = ["id", "it's", 'a "b" {c}', "back\\slash", "new\nline", "v0", "lambda"]
    table(database, {"id": "INTEGER NOT NULL PRIMARY KEY", **dict.fromkeys(names[1:], "INTEGER")})
    put(database, [tuple(map(str, range(len(names))))])

    assert list(source(database, "id")) == [{name: number for number, name in enumerate(names)}]
