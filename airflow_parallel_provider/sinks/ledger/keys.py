# SPDX-License-Identifier: Apache-2.0
"""Whether the database enforces the keys of the control tables, and what takes their place where it does not.

Snowflake, Redshift and Vertica write keys down and enforce none, and a table that came back from a backup may have
lost its key. No INSERT fails then, so a row is *locked, then looked for*: a transaction first writes a row
that its rivals write as well, which makes them wait or fail; only then it looks whether what it would insert exists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from airflow_parallel_provider.errors import UnsafeTable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy.engine import Connection

_LOCKING_READS = frozenset({"postgresql", "mysql", "mariadb", "oracle", "cockroachdb"})
"""Where SELECT ... FOR UPDATE locks a row. SQLAlchemy writes it for Snowflake, BigQuery and Redshift, too: there it is
an error, or locks nothing."""

_WRITES_ANYWAY = frozenset({"postgresql", "snowflake", "redshift", "vertica"})
"""Where an UPDATE that changes nothing writes and locks the row. DuckDB ignores it, and MySQL counts no row."""

_INSTEAD: Mapping[str, str] = {
    "bigquery": "let SinkFiles(format='parquet') write to Google Cloud Storage, and load the folder with "
    "GCSToBigQueryOperator",
    "clickhouse": "let SinkFiles(format='parquet') write the rows, and insert the files with a task of their own",
    "databricks": "let SinkDelta write to an external table",
}
"""Dialect -> what to use where a rollback does not hold."""

_NEVER_ROLLS_BACK: Mapping[str, tuple[str, str]] = {
    "bigquery": ("BigQuery", "bigquery"),
    "clickhouse": ("ClickHouse", "clickhouse"),
    "clickhousedb": ("ClickHouse", "clickhouse"),
}
"""Dialect -> name of the database, and its key in ``_INSTEAD``. Their drivers have no rollback at all."""


def refuse_without_rollback(dialect: str) -> None:
    """Refuse a database that is known to have no transactions, before anything is created there.

    :param dialect: name of the SQLAlchemy dialect.
    :raises UnsafeTable: names the database, and what to use instead.
    """
    if dialect in _NEVER_ROLLS_BACK:
        name, key = _NEVER_ROLLS_BACK[dialect]
        raise UnsafeTable(
            f"SinkTable.conn_id: {name} commits each statement by itself, so rows and ledger could become "
            f"inconsistent: {_INSTEAD[key]}"
        )


def has_locking_reads(dialect: Any) -> bool:
    """Whether SELECT ... FOR UPDATE locks a row of this database.

    :param dialect: of SQLAlchemy.
    """
    return str(dialect.name) in _LOCKING_READS


def probe_keys(
    connection: Connection,
    begin: Callable[[Connection], None],
    rows: Sequence[tuple[Any, Mapping[str, Any]]],
    is_transient: Callable[[BaseException], bool],
) -> bool:
    """Insert a row of each table twice and roll back: check that nothing is left, and return whether all keys hold.

    A key that is checked at the COMMIT does not count: it would be noticed too late.

    :param begin: begins a writing transaction.
    :param rows: a table, and a row of it that no other attempt writes.
    :param is_transient: whether an error may pass: it says nothing about the key, and is raised.
    :raises UnsafeTable: if a row is left: rows and ledger could then become inconsistent.
    """
    held = [_is_refused_twice(connection, begin, table, row, is_transient) for table, row in rows]
    for table, row in rows:
        _require_gone(connection, table, row)
    return all(held)


def _is_refused_twice(
    connection: Connection,
    begin: Callable[[Connection], None],
    table: Any,
    row: Mapping[str, Any],
    is_transient: Callable[[BaseException], bool],
) -> bool:
    import sqlalchemy as sa

    begin(connection)
    connection.execute(table.insert(), [dict(row)])
    try:
        connection.execute(table.insert(), [dict(row)])
    except sa.exc.IntegrityError:
        return True
    except sa.exc.DBAPIError as error:
        if is_transient(error):
            raise
        return False  # whatever it was, to lock and look is right with a key, too
    else:
        return False
    finally:
        connection.rollback()


def _require_gone(connection: Connection, table: Any, row: Mapping[str, Any]) -> None:
    import sqlalchemy as sa

    mine = sa.and_(*(column == row[column.name] for column in table.primary_key.columns))
    with connection.begin():
        left = connection.execute(sa.select(sa.func.count()).select_from(table).where(mine)).scalar()
        if left:
            connection.execute(table.delete().where(mine))
    if left:
        _refuse(connection.dialect.name, str(table.name))


def _refuse(dialect: str, table: str) -> NoReturn:
    instead = _INSTEAD.get(dialect)
    cure = "use a transactional table engine (InnoDB) and a connection without autocommit"
    raise UnsafeTable(
        f"ledger table {table!r}: a rolled-back row still exists, so each statement commits by itself; "
        f"{cure}{f', or {instead}' if instead else ''}"
    )


def lock_by_writing(connection: Connection, table: Any, where: Any, counter: Any) -> bool:
    """Write the rows that match, as the first statement of a transaction: its snapshot is then taken with the lock.

    :param counter: a column with a number, which is the same afterwards.
    :return: whether there is a row; True also where the driver does not say.
    """
    if connection.dialect.name == "redshift":
        # There the snapshot is taken by an UPDATE before it waits, but not by LOCK.
        connection.exec_driver_sql(f"LOCK TABLE {connection.dialect.identifier_preparer.format_table(table)}")
    # The second undoes the first.
    changes = (0,) if connection.dialect.name in _WRITES_ANYWAY else (1, -1)
    counts = [
        connection.execute(table.update().where(where).values({counter: counter + change})).rowcount
        for change in changes
    ]
    return counts[0] != 0
