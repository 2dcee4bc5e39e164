"""What the database refuses for another reason than a value ends the run: no row is rejected, whatever is tolerated."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from airflow_parallel_provider.errors import LoadMismatch, SchemaMismatch, SinkError, WriteRefused
from tests.support.databases import OWN, SPEC, MariaHook, TestDatabase, connection_with, on_each_database

pytestmark = pytest.mark.airflow
ROWS = [{"id": 1}, {"id": 2}, {"id": 3}]
ALL = 1_000_000
"""So many rows may be rejected."""


def on(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("database", names, indirect=True)


def rejected(database: TestDatabase) -> list[int]:
    """The ids of the rejected rows."""
    if not database.exists("scores__rejected"):
        return []
    return [json.loads(raw)["id"] for (raw,) in database.rows("scores__rejected", "raw", "chunk_id, number")]


def reasons(database: TestDatabase) -> str:
    return " ".join(reason for (reason,) in database.rows("scores__rejected", "reason"))


def with_failing_row(database: TestDatabase, code: str) -> None:
    """A table into which row 2 does not go: the server itself gives the error."""
    scores, there = database.place("scores"), database.place("fail")
    database.execute(f"CREATE TABLE {scores} (id INTEGER PRIMARY KEY)")
    if database.name == "postgres":
        database.execute(
            f"CREATE FUNCTION {there}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"IF NEW.id = 2 THEN RAISE SQLSTATE '{code}'; END IF; RETURN NEW; END $$",
            f"CREATE TRIGGER fail BEFORE INSERT ON {scores} FOR EACH ROW EXECUTE FUNCTION {there}()",
        )
    else:
        text = "secret row 2" if code == "1644" else "no"
        database.execute(
            f"CREATE TRIGGER {there} BEFORE INSERT ON {scores} FOR EACH ROW IF NEW.id = 2 THEN "
            f"SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {code}, MESSAGE_TEXT = '{text}'; END IF"
        )


POSTGRES_VALUES = ["22001", "22003", "22P02", "22021", "22023", "23502", "23503", "23505", "23514", "23P01"]
POSTGRES_VALUES += ["44000", "54000", "54001", "P0001", "P0004"]
POSTGRES_OTHERS = ["42501", "42809", "42703", "42883", "22P04", "0A000", "55000", "428C9", "XX000", "P0002", "2F002"]
MARIADB_VALUES = [
    "1048",
    "1062",
    "1118",
    "1264",
    "1265",
    "1292",
    "1300",
    "1366",
    "1369",
    "1406",
    "1452",
    "1526",
    "1644",
    "4025",
]
MARIADB_OTHERS = ["1142", "1143", "1227", "1364", "1471", "1906", "1054", "1305", "1105"]


@pytest.mark.parametrize(
    ("database", "code"),
    [
        *(("postgres", code) for code in POSTGRES_VALUES),
        *(("postgres-psycopg2", code) for code in ("22003", "P0001")),
        *(("mariadb", code) for code in MARIADB_VALUES),
        *(("mariadb-pymysql", code) for code in ("1265", "1644")),
    ],
    indirect=["database"],
)
def test_error_about_a_value_rejects_its_row(database: TestDatabase, code: str) -> None:
    with_failing_row(database, code)

    with database.opened(max_rejected=ALL) as hook:
        receipt = hook.write_chunk("00000000", ROWS)

    assert (receipt.rows, receipt.rows_rejected) == (2, 1)
    assert database.rows() == [(1,), (3,)]
    assert rejected(database) == [2]
    assert "secret" not in reasons(database)  # the cause is in logs


@pytest.mark.parametrize(
    ("database", "code"),
    [
        *(("postgres", code) for code in POSTGRES_OTHERS),
        ("postgres-psycopg2", "42501"),
        *(("mariadb", code) for code in MARIADB_OTHERS),
        ("mariadb-pymysql", "1142"),
    ],
    indirect=["database"],
)
def test_any_other_error_ends_the_run(database: TestDatabase, code: str) -> None:
    with_failing_row(database, code)

    with database.opened(max_rejected=ALL) as hook, pytest.raises(SinkError, match="scores"):
        hook.write_chunk("00000000", ROWS)

    assert database.rows() == database.ledger() == []
    assert rejected(database) == []


REAL_VALUES: dict[str, tuple[str, Any]] = {
    "check": ("x INTEGER CHECK (x > 0)", -1),
    "not null": ("x INTEGER NOT NULL DEFAULT 5, y INTEGER", None),
    "unique": ("x INTEGER UNIQUE", 1),
    "too long": ("x VARCHAR(3)", "four"),
}
FOREIGN_KEY = {"foreign key": ("x INTEGER, FOREIGN KEY (x) REFERENCES {behind} (id)", 7)}  # SQLite has it switched off
POSTGRES_REAL: dict[str, tuple[str, Any]] = {
    "domain": ("x {positive}", -1),
    "exclusion": ("x INT4RANGE, EXCLUDE USING gist (x WITH &&)", "[1,5)"),
    "enum": ("x {ab}", "c"),
    "inet": ("x INET", "no address"),
    "overflow": ("x REAL", 1e300),
    "too large for an index": ("x TEXT UNIQUE", "".join(uuid4().hex for _ in range(600))),
    "nul": ("x TEXT", "a\0b"),
}
UNSENDABLE: dict[str, tuple[str, Any]] = {
    "half a character": ("x TEXT", "a\ud800"),
    "half a character within JSON": ("x JSON", {"t": "a\ud83d"}),
}
"""The drivers cannot encode it; each has an error of its own for that."""
MARIADB_REAL: dict[str, tuple[str, Any]] = {
    "enum": ("x ENUM('a', 'b')", "c"),
    "set": ("x SET('a', 'b')", "c"),
    "encoding": ("x VARCHAR(9) CHARACTER SET latin1", "\u2603"),
    "uuid": ("x UUID", "no uuid"),
    "geometry": ("x GEOMETRY", "no point"),
}
SQLITE_REAL: dict[str, tuple[str, Any]] = {
    "computed from JSON": ("x TEXT, y GENERATED ALWAYS AS (json_extract(x, '$.a')) STORED", "{bad"),
}
DUCKDB_REAL: dict[str, tuple[str, Any]] = {
    "enum": ("x ENUM('a', 'b')", "c"),
    "computed": ("x INTEGER, y INTEGER GENERATED ALWAYS AS (x + 1)", 2**31 - 1),
}
GOOD: dict[str, tuple[Any, Any]] = {
    "check": (1, 2), "not null": (1, 2), "unique": (1, 2), "exclusion": ("[4,6)", "[6,9)"),
    "computed": (1, 2), "foreign key": (1, 1), "domain": (1, 2), "computed from JSON": ("{}", "[]"),
}  # fmt: skip
"""The values of the first and the third row; None where there is none here."""


def real_cases() -> Iterator[Any]:
    for names, cases in [
        (["sqlite", "postgres", "mariadb", "duckdb"], REAL_VALUES),
        (["sqlite", "postgres", "postgres-psycopg2", "mariadb", "mariadb-pymysql", "duckdb"], UNSENDABLE),
        (["postgres", "mariadb", "duckdb"], FOREIGN_KEY),
        (["postgres", "postgres-psycopg2"], POSTGRES_REAL),
        (["mariadb"], MARIADB_REAL),
        (["sqlite"], SQLITE_REAL),
        (["duckdb"], DUCKDB_REAL),
    ]:
        for name in names:
            for title, (column, value) in cases.items():
                if title != "too long" or name in ("postgres", "mariadb"):  # the others take any length
                    yield pytest.param(name, column, (GOOD.get(title, (None, None)), value), id=f"{name} {title}")


@pytest.mark.parametrize(("database", "column", "values"), list(real_cases()), indirect=["database"])
def test_value_that_the_database_refuses_rejects_its_row(database: TestDatabase, column: str, values: Any) -> None:
    places = {name: database.place(name) for name in ("behind", "positive", "ab")}
    database.execute(f"CREATE TABLE {places['behind']} (id INTEGER PRIMARY KEY)")
    database.execute(f"INSERT INTO {places['behind']} VALUES (1)")
    if database.name == "postgres":
        database.execute(f"CREATE DOMAIN {places['positive']} AS INTEGER CHECK (VALUE > 0)")
        database.execute(f"CREATE TYPE {places['ab']} AS ENUM ('a', 'b')")
    database.execute(f"CREATE TABLE {database.place('scores')} (id INTEGER, {column.format(**places)})")
    (first, third), bad = values

    with database.opened(max_rejected=ALL) as hook:
        hook.write_chunk("00000000", [{"id": 1, "x": first}, {"id": 2, "x": bad}, {"id": 3, "x": third}])

    assert [row[0] for row in database.rows(columns="id")] == [1, 3]
    assert rejected(database) == [2]


@on("postgres", "mariadb")
def test_row_without_a_partition_is_rejected(database: TestDatabase) -> None:
    scores = database.place("scores")
    if database.name == "postgres":
        part = f"CREATE TABLE {database.place('part')} PARTITION OF {scores} FOR VALUES FROM (0) TO (10)"
        database.execute(f"CREATE TABLE {scores} (id INTEGER) PARTITION BY RANGE (id)", part)
    else:
        parts = "PARTITION BY RANGE (id) (PARTITION a VALUES LESS THAN (10))"
        database.execute(f"CREATE TABLE {scores} (id INTEGER) {parts}")

    with database.opened(max_rejected=ALL) as hook:
        hook.write_chunk("00000000", [{"id": 1}, {"id": 100}, {"id": 3}])

    assert database.rows() == [(1,), (3,)]
    assert rejected(database) == [100]


@on("sqlite")
@pytest.mark.parametrize("action", ["ABORT", "FAIL"])
def test_row_that_a_trigger_of_sqlite_refuses_is_rejected(database: TestDatabase, action: str) -> None:
    with_trigger_of_sqlite(database, action)

    with database.opened(max_rejected=ALL) as hook:
        hook.write_chunk("00000000", ROWS)

    assert database.rows() == [(1,), (3,)]
    assert rejected(database) == [2]
    assert "secret" not in reasons(database)


@on("sqlite")
def test_trigger_that_ends_the_transaction_of_sqlite_ends_the_run(database: TestDatabase) -> None:
    with_trigger_of_sqlite(database, "ROLLBACK")

    with database.opened(max_rejected=ALL) as hook, pytest.raises(WriteRefused, match="let it raise ABORT or FAIL"):
        hook.write_chunk("00000000", ROWS)

    assert database.rows() == database.ledger() == []
    assert rejected(database) == []


def with_trigger_of_sqlite(database: TestDatabase, action: str) -> None:
    database.execute(
        "CREATE TABLE scores (id INTEGER)",
        f"CREATE TRIGGER fail BEFORE INSERT ON scores WHEN NEW.id = 2 BEGIN SELECT RAISE({action}, 'secret'); END",
    )


@pytest.fixture
def lowly(database: TestDatabase) -> Iterator[TestDatabase]:
    """The same place, for a login that may do everything there but write to the table ``scores``."""
    name = f"low_{uuid4().hex[:12]}"
    scores = database.place("scores")
    database.execute(f"CREATE TABLE {scores} (id INTEGER PRIMARY KEY, x INTEGER)")
    low = copy.copy(database)
    if database.name == "postgres":
        database.execute(
            f"CREATE ROLE {name}", f"GRANT ALL ON SCHEMA {database.quote(database.schema or '')} TO {name}",
            f"GRANT SELECT ON {scores} TO {name}",
        )  # fmt: skip
        low.connection = copy.copy(database.connection)
        extra = json.loads(low.connection.extra or "{}")
        low.connection.extra = json.dumps({**extra, "options": f"{extra.get('options', '')} -crole={name}"})
        yield low
        database.execute(f"DROP OWNED BY {name}", f"DROP ROLE {name}")
        return
    database.execute(
        f"CREATE USER {name} IDENTIFIED BY 'low'", f"GRANT CREATE, SELECT ON {database.schema}.* TO {name}",
        f"GRANT INDEX, ALTER, DROP ON {database.schema}.* TO {name}",
    )  # fmt: skip
    with database.hook("made") as hook:  # the control tables exist
        hook.open(SPEC)
    for table in database.tables():
        if table != "scores":
            database.execute(f"GRANT INSERT, UPDATE, DELETE ON {database.place(table)} TO {name}")
    database.execute(
        f"CREATE TABLE {database.place('scores__dead_letters')} LIKE {database.place('made__dead_letters')}"
    )
    database.execute(
        f"GRANT INSERT, UPDATE, DELETE ON {database.place('scores__dead_letters')} TO {name}",
        f"GRANT CREATE, INSERT ON {database.place('scores__rejected')} TO {name}",
    )
    where = {**database._where, "database": database.schema, "user": name, "password": "low"}
    low.connection = connection_with(MariaHook(where))
    yield low
    database.execute(f"DROP USER {name}")


@on("postgres", "mariadb")
@pytest.mark.parametrize("disposition", ["append", "merge"])
def test_missing_right_is_not_a_bad_row(database: TestDatabase, lowly: TestDatabase, disposition: str) -> None:
    options: dict[str, Any] = {"write_disposition": disposition, "max_rejected": ALL}
    if disposition == "merge":
        options["primary_key"] = "id"
    with lowly.opened(**options) as hook, pytest.raises(WriteRefused, match=r"the login lacks a right\. GRANT it"):
        hook.write_chunk("00000000", ROWS)

    assert database.rows() == database.ledger() == []
    assert rejected(database) == []


@on("postgres", "mariadb")
def test_right_that_is_granted_later_lets_the_load_go_on(database: TestDatabase, lowly: TestDatabase) -> None:
    with lowly.opened(max_rejected=ALL) as hook:
        with pytest.raises(WriteRefused):
            hook.write_chunk("00000000", ROWS)
        login = str(lowly.connection.extra).rpartition("=")[2].strip('"}') if database.name == "postgres" else None
        login = login or lowly.connection.get_hook().where["user"]
        database.execute(f"GRANT INSERT ON {database.place('scores')} TO {login}")
        hook.write_chunk("00000000", ROWS)

    assert [row[0] for row in database.rows()] == [1, 2, 3]


@on("postgres")
def test_row_that_a_row_policy_refuses_is_rejected(database: TestDatabase, lowly: TestDatabase) -> None:
    """The same SQLSTATE as for a missing right."""
    scores = database.place("scores")
    database.execute(f"GRANT INSERT ON {scores} TO PUBLIC", f"ALTER TABLE {scores} ENABLE ROW LEVEL SECURITY")
    database.execute(f"CREATE POLICY p ON {scores} USING (true) WITH CHECK (id <> 2)")

    with lowly.opened(max_rejected=ALL) as hook:
        hook.write_chunk("00000000", ROWS)

    assert [row[0] for row in database.rows()] == [1, 3]
    assert rejected(database) == [2]


@on(*OWN)
def test_view_that_takes_no_rows_is_not_a_bad_row(database: TestDatabase) -> None:
    behind, scores = database.place("behind"), database.place("scores")
    database.execute(f"CREATE TABLE {behind} (id INTEGER)")
    database.execute(f"CREATE VIEW {scores} AS SELECT id FROM {behind} GROUP BY id")
    try:
        with database.opened(max_rejected=ALL) as hook, pytest.raises(WriteRefused, match="if it is a view, name the"):
            hook.write_chunk("00000000", ROWS)
    finally:
        database.execute(f"DROP VIEW {scores}")

    assert database.ledger() == []
    assert rejected(database) == []


@on(*OWN)
def test_column_that_is_dropped_meanwhile_is_not_a_bad_row(database: TestDatabase) -> None:
    database.execute(f"CREATE TABLE {database.place('scores')} (id INTEGER, x INTEGER)")
    rows = [{"id": 1, "x": 1}, {"id": 2}]
    with database.opened(max_rejected=ALL) as hook:
        hook.write_chunk("00000000", rows)
        database.execute(f"ALTER TABLE {database.place('scores')} DROP COLUMN x")
        for _ in range(2):  # when the refusal comes from the database, and when the new table is known
            with pytest.raises(LoadMismatch, match="no longer has column 'x', which the rows have: it was dropped"):
                hook.write_chunk("00000001", rows, first_position=2)

    assert len(database.rows()) == 2
    assert rejected(database) == []


@on_each_database
def test_column_that_no_row_of_a_chunk_should_have_is_not_a_bad_row(database: TestDatabase) -> None:
    database.execute(f"CREATE TABLE {database.place('scores')} (id INTEGER)")
    with database.opened(max_rejected=ALL) as hook:
        with pytest.raises(
            SchemaMismatch, match=r"all 2 rows of chunk 00000000: .* has no column 'x', which the rows have"
        ):
            hook.write_chunk("00000000", [{"id": 1, "x": 1}, {"id": 2, "x": 2}])
        hook.write_chunk("00000000", [{"id": 1, "x": 1}, {"id": 2}])

    assert database.rows() == [(2,)]
    assert rejected(database) == [1]


@on(*OWN)
def test_column_that_the_database_computes_is_not_a_bad_row(database: TestDatabase) -> None:
    stored = "" if database.name == "duckdb" else "STORED"
    database.execute(
        f"CREATE TABLE {database.place('scores')} (id INTEGER, twice INTEGER GENERATED ALWAYS AS (id * 2) {stored})"
    )
    with database.opened(max_rejected=ALL) as hook, pytest.raises(WriteRefused, match="computes column 'twice' itself"):
        hook.write_chunk("00000000", [{"id": 1, "twice": 2}, {"id": 2}])

    assert rejected(database) == []


@on("sqlite", "postgres")
def test_database_that_becomes_read_only_is_not_a_bad_row(database: TestDatabase) -> None:
    database.execute(f"CREATE TABLE {database.place('scores')} (id INTEGER)")
    read_only = (
        "PRAGMA query_only = 1" if database.name == "sqlite" else "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"
    )
    with database.opened(max_rejected=ALL) as hook:
        connection = hook.destination().database.connection()
        connection.exec_driver_sql(read_only)
        connection.commit()
        if database.name == "sqlite":
            with pytest.raises(WriteRefused, match="is read-only"):
                hook.write_chunk("00000000", ROWS)
        hook.write_chunk("00000000", ROWS)  # PostgreSQL: after a fail-over the next connection may be another server

    assert len(database.rows()) == 3
    assert rejected(database) == []


@on("postgres", "postgres-psycopg2")
def test_number_that_the_database_gives_is_not_a_bad_row(database: TestDatabase) -> None:
    """A sequence that is behind the table, as after a load of rows with numbers of their own."""
    database.execute(
        f"CREATE TABLE {database.place('scores')} (id SERIAL PRIMARY KEY, x INTEGER)",
        f"INSERT INTO {database.place('scores')} VALUES (2, 0)",
    )
    with database.opened(max_rejected=ALL) as hook:
        with pytest.raises(WriteRefused, match="its next number is taken: set its sequence behind"):
            hook.write_chunk("00000000", [{"x": 1}, {"x": 2}, {"x": 3}])
        hook.write_chunk("00000002", [{"id": 2, "x": 1}, {"id": 70, "x": 2}], first_position=6)  # this one is

    assert rejected(database) == [2]
    assert database.rows() == [(2, 0), (70, 2)]


@on_each_database
def test_table_of_rejected_rows_that_cannot_be_written_blames_no_row(database: TestDatabase) -> None:
    database.execute(f"CREATE TABLE {database.place('scores')} (id INTEGER CHECK (id <> 2))")
    with database.opened(max_rejected=ALL) as hook:
        hook.write_chunk("00000000", ROWS)
        key = database.quote("reason")
        database.execute(f"ALTER TABLE {database.place('scores__rejected')} DROP COLUMN {key}")
        with pytest.raises(SinkError):
            hook.write_chunk("00000001", ROWS, first_position=3)

    assert database.rows() == [(1,), (3,)]
    assert rejected(database) == [2]
