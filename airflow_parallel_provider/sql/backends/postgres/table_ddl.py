# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL's DDL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.sql.backends.quoting import quote_for_dialect
from airflow_parallel_provider.sql.backends.table_ddl import TableDdl
from airflow_parallel_provider.sql.backends.types import generic_type
from airflow_parallel_provider.values.kinds import Column, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.values.table_shape import TableShape

_INTERCHANGEABLE = """
SELECT o.relkind = 'r' AND n.relkind = 'r' AND o.relowner = n.relowner AND o.reltablespace = n.reltablespace
  AND o.relacl IS NOT DISTINCT FROM n.relacl AND o.reloptions IS NOT DISTINCT FROM n.reloptions
  AND o.relreplident = n.relreplident AND obj_description(o.oid, 'pg_class') IS NULL
  AND NOT (o.relispartition OR o.relhasrules OR o.relhastriggers OR o.relhassubclass OR o.relrowsecurity)
  AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = o.oid)
  AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.contype = 'f' AND o.oid IN (c.conrelid, c.confrelid))
  AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = o.oid AND a.attacl IS NOT NULL)
  AND NOT EXISTS (SELECT FROM pg_publication_rel p WHERE p.prrelid = o.oid)
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.refobjid = o.oid AND d.classid = CAST('pg_rewrite' AS regclass))
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.refobjid = o.reltype AND d.deptype = 'n')
  AND NOT EXISTS (SELECT FROM pg_depend d JOIN pg_class s ON s.oid = d.objid
                  WHERE d.refobjid = o.oid AND d.deptype = 'a' AND s.relkind = 'S')
FROM pg_class o, pg_class n WHERE o.oid = CAST(:old AS regclass) AND n.oid = CAST(:new AS regclass)
"""
"""Whether dropping a table and renaming another one to its name loses nothing: no views, rules, triggers, foreign keys,
policies, grants, publications, comments, sequences of its own; same owner and storage."""
_ADVANCE_SEQUENCE = """
SELECT setval(t.sequence, t.last) FROM (
  SELECT CAST(pg_get_serial_sequence(:new, :name) AS regclass) AS sequence,
         pg_sequence_last_value(CAST(pg_get_serial_sequence(:old, :name) AS regclass)) AS last) t
WHERE t.last > coalesce(pg_sequence_last_value(t.sequence), 0) AND has_sequence_privilege(t.sequence, 'UPDATE')
"""


class PostgresTableDdl(TableDdl):
    """DDL that is part of the transaction."""

    overriding = "OVERRIDING SYSTEM VALUE "

    def sql_type(self, column: Column, *, in_key: bool) -> Any:
        """PostgreSQL's own types; only declared lengths and digits bound a value."""
        import sqlalchemy as sa
        from sqlalchemy.dialects import postgresql as pg

        if column.kind is Kind.TEXT:
            return sa.String(column.length) if column.length else sa.Text()
        if column.kind is Kind.DECIMAL:
            return sa.Numeric(column.precision, column.scale) if column.precision else sa.Numeric()
        own: Mapping[Kind, Any] = {
            Kind.HUGEINT: sa.Numeric(),
            Kind.BYTES: pg.BYTEA(),
            Kind.FLOAT: pg.DOUBLE_PRECISION(),
            Kind.TIMEDELTA: pg.INTERVAL(),
            Kind.UUID: pg.UUID(as_uuid=True),
            Kind.JSON: pg.JSONB(),
        }
        return own.get(column.kind or Kind.TEXT) or generic_type(column, in_key=in_key)

    def create_like(self, connection: Connection, name: str, shape: TableShape) -> None:
        """With defaults, keys, checks and indexes."""
        created = quote_for_dialect(connection, name, shape.schema)
        like = quote_for_dialect(connection, shape.name, shape.schema)
        connection.exec_driver_sql(f"CREATE TABLE {created} (LIKE {like} INCLUDING ALL)")

    def can_rename(self, connection: Connection, staging: TableShape, old: TableShape | None) -> bool:
        """Where nothing depends on the old table that the new one would not have."""
        if old is None:
            return True
        import sqlalchemy as sa

        names = {
            "old": quote_for_dialect(connection, old.name, old.schema),
            "new": quote_for_dialect(connection, staging.name, staging.schema),
        }
        return bool(connection.execute(sa.text(_INTERCHANGEABLE), names).scalar())

    def copy_into(self, connection: Connection, staging: TableShape, table: TableShape) -> int:
        """Also advances the table's identity sequences past the numbers that the staging table has used."""
        import sqlalchemy as sa

        written = super().copy_into(connection, staging, table)
        names = {
            "old": quote_for_dialect(connection, staging.name, staging.schema),
            "new": quote_for_dialect(connection, table.name, table.schema),
        }
        for column in table.columns:
            if column.identity:
                connection.execute(sa.text(_ADVANCE_SEQUENCE), {**names, "name": column.name})
        return written
