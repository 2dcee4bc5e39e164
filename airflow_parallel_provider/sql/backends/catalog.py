# SPDX-License-Identifier: Apache-2.0
"""What a database says of its tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.sql.backends.core_tables import exact_name
from airflow_parallel_provider.sql.backends.types import column_of_sql
from airflow_parallel_provider.values.table_shape import TableShape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.engine import Connection


class Catalog:
    """The catalog of one database, read through SQLAlchemy's inspector."""

    def reflect(self, connection: Connection, table: str, schema: str | None) -> TableShape | None:
        """The shape of a table; None when there is no such table."""
        import sqlalchemy as sa

        inspector = sa.inspect(connection)
        if not inspector.has_table(exact_name(table), schema=exact_name(schema)):
            return None
        try:
            return self._reflect_existing(inspector, table, schema)
        except sa.exc.NoSuchTableError:
            return None  # dropped in between

    def column_names(self, connection: Connection, table: str, schema: str | None) -> frozenset[str] | None:
        """Names of a table's columns; None when there is no such table. Cheaper than :meth:`reflect`."""
        import sqlalchemy as sa

        inspector = sa.inspect(connection)
        name, schema = exact_name(table), exact_name(schema)
        if not inspector.has_table(name, schema=schema):
            return None
        try:
            return frozenset(found["name"] for found in inspector.get_columns(name, schema=schema))
        except sa.exc.NoSuchTableError:
            return None  # dropped in between

    def unique_keys(self, inspector: Any, table: str, schema: str | None) -> tuple[Sequence[str], list[Any]]:
        """Columns of a table's primary key, and of each other unique index; None stands for an expression.

        :param table: with its exact spelling (:func:`~airflow_parallel_provider.sql.backends.core_tables.exact_name`),
            as ``schema``.
        """
        primary = inspector.get_pk_constraint(table, schema=schema).get("constrained_columns") or []
        uniques = [found["column_names"] for found in inspector.get_unique_constraints(table, schema=schema)]
        uniques += [
            found["column_names"]
            for found in inspector.get_indexes(table, schema=schema)
            if found.get("unique") and not _is_partial(found)
        ]
        return primary, uniques

    def triggers(self, connection: Connection, shape: TableShape) -> list[str]:  # noqa: ARG002  # most cannot drop rows
        """Names of the triggers that can make the database drop a row of a table without an error."""
        return []

    def check_transactional(self, connection: Connection, table: str, schema: str | None) -> None:
        """Refuse a table that does not take part in transactions.

        :raises UnsafeTable: naming the table and the cure.
        """

    def _reflect_existing(self, inspector: Any, table: str, schema: str | None) -> TableShape:
        name, exact_schema, dialect = exact_name(table), exact_name(schema), inspector.dialect.name
        columns = tuple(column_of_sql(found, dialect) for found in inspector.get_columns(name, schema=exact_schema))
        primary, uniques = self.unique_keys(inspector, name, exact_schema)
        keys = {frozenset(names) for names in [primary, *uniques] if names and None not in names}
        return TableShape(table, schema, columns, tuple(sorted(keys, key=sorted)), tuple(primary))


def _is_partial(index: Mapping[str, Any]) -> bool:
    """Whether a unique index covers only some rows (``WHERE``) or only the beginning of a text: it guards no key."""
    options = index.get("dialect_options") or {}
    return any(name.endswith(("_where", "_length")) and bool(value) for name, value in options.items())
