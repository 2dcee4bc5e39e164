# SPDX-License-Identifier: Apache-2.0
"""The table that rows go into: looked up, created from the data if it does not exist, checked against its spec."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import LoadMismatch, SinkError
from airflow_parallel_provider.rows.block import Block
from airflow_parallel_provider.rows.infer import infer_columns
from airflow_parallel_provider.sinks.commit.target_checks import check_columns, check_shape
from airflow_parallel_provider.sql.backends.core_tables import core_table
from airflow_parallel_provider.sql.ddl import MAX_TRIES, add_column, create_table, make_table
from airflow_parallel_provider.sql.missing_table import missing_table_message
from airflow_parallel_provider.values.kinds import Column, Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.sinks.spec.table_spec import TableSpec
    from airflow_parallel_provider.sql.backends.base import Backend
    from airflow_parallel_provider.values.table_shape import TableShape


class TargetTable:
    """One table, on one backend.

    :param staging: name of the table that receives the rows in place of the declared one.
    """

    def __init__(self, spec: TableSpec, backend: Backend, *, staging: str | None = None) -> None:
        self._spec = spec
        self._backend = backend
        self.name = staging or spec.table
        self._shape: TableShape | None = None
        self._existed = False
        self._seen: set[str] = set()
        """Columns that the table has had during the load."""

    @property
    def is_staging(self) -> bool:
        """Whether this is a staging table, which is swapped in when the load is complete."""
        return self.name != self._spec.table

    @property
    def is_declared(self) -> bool:
        """Whether the author has declared the columns."""
        return self._spec.declared_columns is not None

    @property
    def display_name(self) -> str:
        """Name for people: that of the table which has the rows in the end."""
        return self._spec.display_name

    @property
    def is_reflected(self) -> bool:
        """Whether :meth:`reflect` has found the table before, and nothing has invalidated that."""
        return self._shape is not None

    def invalidate_shape(self) -> None:
        """Look the table up again next time: it may have been changed."""
        self._shape = None

    def reflect(self, connection: Connection) -> TableShape | None:
        """The table as it is; None if it does not exist yet.

        :raises SchemaMismatch: if it does not fit what the author declared.
        :raises UnsafeTable: if it cannot take part in a transaction.
        """
        if self._shape is None:
            self._shape = self._reflect(connection, self.name)
            self._existed |= self._shape is not None
            self._seen.update(() if self._shape is None else self._shape.by_name)
        return self._shape

    def require_columns(self, shape: TableShape, names: Sequence[str]) -> None:
        """Check that no column of the rows has been dropped during the load: rows without it may not be blamed.

        :param names: of the columns that the rows have.
        :raises LoadMismatch: if one has.
        """
        dropped = [name for name in names if name in self._seen and name not in shape.by_name]
        if dropped:
            raise LoadMismatch(
                f"table {self.display_name!r} no longer has column {', '.join(map(repr, dropped[:5]))}, which the rows "
                "have: it was dropped during the load. Add it again, or drop it in a stage and use another load_key"
            )

    def _reflect(self, connection: Connection, name: str) -> TableShape | None:
        schema = self._spec.schema
        shape = self._backend.catalog.reflect(connection, name, schema)
        connection.rollback()  # reading has opened a transaction that is not needed
        if shape is not None:
            self._backend.catalog.check_transactional(connection, name, schema)
            connection.rollback()
            check_shape(shape, self._spec, needs_key=not self._backend.merges_without_key)
            shape = self._with_declared(shape)
        return shape

    def _with_declared(self, shape: TableShape) -> TableShape:
        declared = {column.name for column in self._spec.declared_columns or () if column.kind is not None}
        parse = bool(self._spec.parse_texts)
        if not declared and not parse:
            return shape
        columns = (replace(each, declared=each.name in declared, parse_texts=parse) for each in shape.columns)
        return replace(shape, columns=tuple(columns))

    def create_or_alter(self, connection: Connection, block: Block, where: str) -> TableShape | None:
        """The table, created from the declaration and these rows if it does not exist.

        Never call this inside the transaction of a chunk: on MySQL a CREATE TABLE commits what came before.

        :return: None if its columns are not known yet.
        :raises LoadMismatch: if it existed, and no longer does.
        """
        for _ in range(MAX_TRIES):
            shape = self.reflect(connection)
            if shape is None:
                if self._existed and not self.is_staging:  # a staging table may be dropped as stale
                    raise LoadMismatch(missing_table_message(self.display_name))
                if not self._make(connection, block, where):
                    return None
            elif not self._extend(connection, shape, block, where):
                return shape
        raise SinkError(f"table {self.name!r} was created but cannot be found: check the privileges of the login")

    def _make(self, connection: Connection, block: Block, where: str) -> bool:
        """Create the table, if its columns are known by now."""
        declared = self._spec.declared_columns
        like = self._reflect(connection, self._spec.table) if self.is_staging else None
        if like is not None:
            copied = like
            make_table(
                connection, self.name, like.schema, self._backend,
                lambda: self._backend.ddl.create_like(connection, self.name, copied),
            )  # fmt: skip
        elif block.rows or (declared is not None and all(column.kind is not None for column in declared)):
            self._create(connection, self._columns(block, where), where)
        else:
            return False
        return True

    def _columns(self, block: Block, where: str) -> tuple[Column, ...]:
        """Columns of a new table."""
        load_column = self._spec.load_id_column
        columns = infer_columns(block, self._spec.declared_columns, self.display_name, where)
        if load_column is None:
            return columns
        return (*(column for column in columns if column.name != load_column), _load_column(load_column))

    def _create(self, connection: Connection, columns: Sequence[Column], where: str) -> None:
        check_columns(columns, self._spec, self._backend, where)
        sql_columns = (self._sql_column(column) for column in columns)
        table = core_table(self.name, self._spec.schema, *sql_columns, **self._backend.ddl.table_options())
        create_table(connection, table, self._backend)

    def _sql_column(self, column: Column) -> Any:
        import sqlalchemy as sa

        in_key = column.name in self._spec.key
        sql_type = self._backend.ddl.sql_type(column, in_key=in_key)
        quoted = sa.sql.quoted_name(column.name, quote=True)
        return sa.Column(quoted, sql_type, primary_key=in_key, nullable=not in_key, autoincrement=False)

    def _extend(self, connection: Connection, shape: TableShape, block: Block, where: str) -> bool:
        """Add the columns that the rows or the declaration have and the table does not, if the author wants that.

        :return: whether there were any. Then look the table up again: another attempt may have dropped it meanwhile.
        """
        if self._spec.on_schema_change != "add_columns":
            return False
        existing = set(shape.by_name)
        folded = {name.casefold() for name in existing} if self._backend.folds_case else set()
        typed = [column for column in self._spec.declared_columns or () if column.kind is not None]
        if self._spec.load_id_column is not None:
            typed.append(_load_column(self._spec.load_id_column))
        missing = [column for column in typed if column.name not in existing]
        known = existing | {column.name for column in typed}
        numbers = [at for at, name in enumerate(block.names) if name not in known and name.casefold() not in folded]
        if numbers:
            values = [block.column(at) for at in numbers]
            part = Block(tuple(block.names[at] for at in numbers), list(zip(*values, strict=True)), block.sources)
            inferred = infer_columns(part, self._spec.declared_columns, shape.display_name, where)
            missing += inferred[-len(numbers) :]
        if not missing:
            return False
        check_columns([*(Column(name) for name in existing), *missing], self._spec, self._backend, where)
        for column in missing:
            sql_type = self._backend.ddl.sql_type(column, in_key=False)
            add_column(connection, shape, column.name, sql_type, self._backend)
        self.invalidate_shape()
        return True


def _load_column(name: str) -> Column:
    return Column(name, Kind.TEXT, length=32)
