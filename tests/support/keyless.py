"""Control tables without keys, as Snowflake and Redshift have them, and as a backup or CREATE TABLE AS leaves them."""

from __future__ import annotations

from tests.support.databases import SPEC, TestDatabase

LEDGER = "airflow_parallel_ledger"
TABLES = (LEDGER, f"{LEDGER}__loads")
LEVELS = ("read committed", "repeatable read", "serializable")
"""The isolation levels of PostgreSQL."""


def without_keys(database: TestDatabase, *tables: str) -> None:
    """Make these tables anew without their keys, with what is in them; by default those of the ledger."""
    for table in tables or TABLES:
        place, copy = database.place(table), database.place(f"{table}__copy")
        database.execute(f"CREATE TABLE {copy} AS SELECT * FROM {place}")
        database.execute(f"DROP TABLE {place}")
        if database.name == "mariadb":
            database.execute(f"RENAME TABLE {copy} TO {place}")
        else:
            database.execute(f"ALTER TABLE {copy} RENAME TO {database.quote(table)}")


def ledger_without_keys(database: TestDatabase) -> None:
    """Make the ledger, empty, without its keys."""
    with database.hook("unused") as hook:
        hook.open(SPEC)
        hook.discard(SPEC.load_key)
    without_keys(database)
