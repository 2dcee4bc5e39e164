# SPDX-License-Identifier: Apache-2.0
"""SQLAlchemy tables whose names are quoted with their exact spelling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_parallel_provider.values.table_shape import TableShape


def exact_name(name: str | None) -> Any:
    """A name that SQLAlchemy always quotes: its case and its characters stay."""
    import sqlalchemy as sa

    return None if name is None else sa.sql.quoted_name(name, quote=True)


def core_table(name: str, schema: str | None, *columns: Any, **options: Any) -> Any:
    """A SQLAlchemy table.

    :param columns: ``sqlalchemy.Column`` objects.
    :param options: further keyword arguments of ``sqlalchemy.Table``.
    """
    import sqlalchemy as sa

    return sa.Table(exact_name(name), sa.MetaData(), *columns, schema=exact_name(schema), **options)


def core_table_of(shape: TableShape, names: Sequence[str]) -> tuple[Any, list[str]]:
    """A SQLAlchemy table with some columns of an existing one, and the keys of its bind parameters.

    The keys are generated: a bind parameter named after a column called ``a:b`` or ``%(x)s`` would not survive.
    """
    import sqlalchemy as sa

    keys = [f"c{number}" for number in range(len(names))]
    columns = [
        sa.Column(exact_name(name), shape.by_name[name].sql_type, key=key)
        for name, key in zip(names, keys, strict=True)
    ]
    return core_table(shape.name, shape.schema, *columns), keys
