"""Which types the columns of a new table get, by what a ``SqlSource`` reads: found by copying, written in the docs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider import Pipeline, SinkTable, SqlSource
from airflow_parallel_provider.errors import ParallelError
from tests.support.databases import DuckDatabase, MariaDatabase, PostgresDatabase, SqliteDatabase, TestDatabase

if TYPE_CHECKING:
    import pytest

TARGETS = ["postgres", "mariadb", "sqlite", "duckdb"]

TYPES: dict[str, dict[str, str]] = {
    "postgres": {
        "boolean": "true",
        "smallint": "1",
        "bigint": "9007199254740993",
        "real": "0.1",
        "double precision": "1e-12",
        "numeric(18,4)": "12345678901234.5678",
        "numeric": "1.5",
        "text": "'a'",
        "varchar(20)": "'a'",
        "char(3)": "'abc'",
        "bytea": r"'\x00ff'",
        "date": "'2026-11-01'",
        "time": "'10:00:00.25'",
        "timetz": "'10:00:00+02'",
        "timestamp": "'2026-11-01 10:00:00.25'",
        "timestamptz": "'2026-11-01 10:00:00.25+00'",
        "interval": "'36:00:00'",
        "uuid": "'00000000-0000-0000-0000-000000000001'",
        "json": """'{"a": 1.50}'""",
        "jsonb": """'{"a": 1.50}'""",
        "integer[]": "'{1,2}'",
        "text[]": "'{a,b}'",
        "jsonb[]": """ARRAY['{"a": 1}'::jsonb]""",
        "int4range": "'[1,3)'",
        "int4multirange": "'{[1,3)}'",
        "inet": "'10.0.0.1'",
        "point": "'(1,2)'",
        "money": "'1.50'",
        "bit(3)": "'101'",
    },
    "mariadb": {
        "tinyint(1)": "1",
        "bigint": "9007199254740993",
        "bigint unsigned": "18446744073709551615",
        "float": "0.1",
        "double": "1e-12",
        "decimal(18,4)": "12345678901234.5678",
        "varchar(20)": "'a'",
        "longtext": "'a'",
        "varbinary(4)": "'ab'",
        "blob": "'ab'",
        "date": "'2026-11-01'",
        "time": "'10:00:00'",
        "datetime(6)": "'2026-11-01 10:00:00.25'",
        "timestamp": "'2026-11-01 10:00:00'",
        "year": "2026",
        "json": """'{"a": 1.50}'""",
        "uuid": "'00000000-0000-0000-0000-000000000001'",
        "enum('a','b')": "'b'",
        "set('a','b')": "'a,b'",
        "bit(3)": "b'101'",
    },
    "sqlite": {
        "INTEGER": "9007199254740993",
        "REAL": "0.1",
        "NUMERIC(18,4)": "1234.5678",
        "DECIMAL_TEXT": "'12345678901234.5678'",
        "TEXT": "'a'",
        "BLOB": "x'00ff'",
        "BOOLEAN": "1",
        "DATE": "'2026-11-01'",
        "TIME": "'10:00:00.250000'",
        "TIMESTAMP": "'2026-11-01 10:00:00.250000'",
        "TIMESTAMPTZ": "'2026-11-01 10:00:00.250000+00:00'",
        "UUID": "'00000000-0000-0000-0000-000000000001'",
        "JSON": """'{"a": 1.50}'""",
    },
}
"""Types of each source, with a value of each as SQL."""

REFUSED = "refused"


def database_of(name: str, folder: Path) -> TestDatabase:
    """An empty place in a database."""
    if name == "duckdb":
        database = DuckDatabase(folder / "types.duckdb")
        database.keep_open()
        return database
    if name == "sqlite":
        return SqliteDatabase(folder / "types.db")
    return PostgresDatabase() if name == "postgres" else MariaDatabase()


def copied(source: TestDatabase, target: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The type that the column of a new table in the target gets, by the type in the source."""
    of_connection = {"source": source.connection, "target": target.connection}
    monkeypatch.setattr("airflow_parallel_provider.sql.database.get_connection", lambda name, *_: of_connection[name])
    types = TYPES[source.name]
    columns = ", ".join(f"c{at} {sql_type}" for at, sql_type in enumerate(types))
    source.execute(
        f"CREATE TABLE {source.place('all_types')} (id INTEGER PRIMARY KEY, {columns})",
        f"INSERT INTO {source.place('all_types')} VALUES (1, {', '.join(types.values())})",
    )
    return {sql_type: _copied(source, target, at) for at, sql_type in enumerate(types)}


def _copied(source: TestDatabase, target: TestDatabase, at: int) -> str:
    table, column = f"copy_of_{source.name}_{at}", f"c{at}"
    given = SqlSource("all_types", conn_id="source", key="id", schema=source.schema, columns=["id", column])
    sink = SinkTable(table, conn_id="target", schema=target.schema)
    try:
        Pipeline(given, [], sink, load_key=table).run()
    except ParallelError:
        return REFUSED
    return type_of(target, table, column)


def type_of(database: TestDatabase, table: str, column: str) -> str:
    """The type of a column as its database says it."""
    query = {
        "postgres": "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attname = '{column}' "
        """AND attrelid = CAST('"{schema}".{table}' AS regclass)""",
        "mariadb": "SELECT column_type FROM information_schema.columns WHERE table_schema = '{schema}' "
        "AND table_name = '{table}' AND column_name = '{column}'",
        "sqlite": "SELECT type FROM pragma_table_info('{table}') WHERE name = '{column}'",
        "duckdb": "SELECT data_type FROM duckdb_columns() WHERE table_name = '{table}' AND column_name = '{column}'",
    }[database.name]
    (found,) = database.fetch(query.format(schema=database.schema, table=table, column=column))
    return str(found[0])


def rows_of(source: str, found: dict[str, dict[str, str]]) -> list[str]:
    """The rows of the table in the docs.

    :param found: for each target, the types by type.
    """
    return [
        f"| `{sql_type}` | " + " | ".join(_cell(found[target][sql_type]) for target in TARGETS) + " |"
        for sql_type in TYPES[source]
    ]


def _cell(sql_type: Any) -> str:
    return sql_type if sql_type == REFUSED else f"`{sql_type}`"
