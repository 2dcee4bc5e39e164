"""The table rows go into: looked up, made from the data when absent, checked against what the author declared."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import SchemaMismatch, SinkError
from airflow_parallel_provider.sinks.fit import fit_block, fit_in_slices
from airflow_parallel_provider.sinks.infer import infer_columns
from airflow_parallel_provider.sinks.kinds import Column
from airflow_parallel_provider.sinks.rows import Block, to_block

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.sinks.shape import TableShape
    from airflow_parallel_provider.sinks.table import SinkTable
    from airflow_parallel_provider.sinks.writers.base import Rows, Writer


class Target:
    """One table, on one backend."""

    def __init__(self, declared: SinkTable, writer: Writer) -> None:
        self._declared = declared
        self._writer = writer
        self._shape: TableShape | None = None

    @property
    def shown(self) -> str:
        """Name for people."""
        return self._declared.shown

    def forget_shape(self) -> None:
        """Look again next time: somebody may have changed the table."""
        self._shape = None

    def look(self, connection: Connection) -> TableShape | None:
        """The table as it is; None when it is not there yet.

        :raises SchemaMismatch: when it cannot be what the author declared.
        :raises UnsafeTable: when it cannot take part in a transaction.
        """
        if self._shape is None:
            declared = self._declared
            shape = self._writer.reflect(connection, declared.table, declared.schema)
            connection.rollback()  # looking has opened a transaction that nobody needs
            if shape is not None:
                self._writer.check_transactional(connection, declared.table, declared.schema)
                connection.rollback()
                self._check(shape)
            self._shape = shape
        return self._shape

    def ensure(self, connection: Connection, block: Block, where: str) -> TableShape | None:
        """The table, made from the declaration and these rows when it is not there.

        Never inside the transaction of a chunk: on MySQL a CREATE TABLE commits what went before.
        """
        shape = self.look(connection)
        if shape is None and (block.rows or self._is_declared()):
            declared = self._declared
            columns = infer_columns(block, declared.declared, declared.shown, where)
            self._create(connection, columns, where)
            shape = self.look(connection)
            if shape is None:
                raise SinkError(f"table {declared.shown!r} was made and is not there: check the rights of the login")
        return shape

    def _is_declared(self) -> bool:
        columns = self._declared.declared
        return columns is not None and all(column.kind is not None for column in columns)

    def block(self, rows: Sequence[Any]) -> Block:
        """Rows of any shape as a block."""
        columns = self._declared.declared
        names = tuple(column.name for column in columns) if columns is not None else None
        return to_block(rows, names)

    def fit(self, block: Block, shape: TableShape, where: str) -> Rows:
        """The block's rows as the driver takes them; to be gone through once.

        :raises SchemaMismatch: here, or from the rows when the writer asks for them.
        """
        if block.rows and not block.names:
            raise SchemaMismatch(
                f"table {shape.shown!r}: the rows have no columns at all ({where}): return dicts with keys"
            )
        for name in self._declared.key:
            if name not in block.names and not shape.by_name[name].optional:
                raise SchemaMismatch(
                    f"table {shape.shown!r}: the rows have no column {name!r}, which is in primary_key ({where}): "
                    "return it from the last stage"
                )
        size = self._writer.rows_ahead
        if size is None:
            return fit_block(block, shape, self._writer.adapters, where)
        return chain.from_iterable(fit_in_slices(block, shape, self._writer.adapters, where, size))

    def write(self, connection: Connection, shape: TableShape, names: Sequence[str], rows: Rows) -> None:
        """Write rows that fit, in the transaction that is open."""
        if self._declared.write_disposition == "merge":
            self._writer.merge(connection, shape, names, rows, self._declared.key)
        else:
            self._writer.insert(connection, shape, names, rows)

    def _check(self, shape: TableShape) -> None:
        declared = self._declared
        named = [column.name for column in declared.declared or ()]
        for name in [*named, *declared.key]:
            if name not in shape.by_name:
                raise SchemaMismatch(
                    f"table {shape.shown!r} has no column {name!r}, which the sink names: add it to the table, or take "
                    "it out of columns and primary_key"
                )
        key = frozenset(declared.key)
        if declared.write_disposition == "merge" and key not in shape.unique_keys:
            raise SchemaMismatch(
                f"table {shape.shown!r} has no primary key or unique index on ({', '.join(declared.key)}), which "
                "write_disposition='merge' needs: add one, or name the table's own key in primary_key"
            )

    def _create(self, connection: Connection, columns: Sequence[Column], where: str) -> None:
        import sqlalchemy as sa

        declared = self._declared
        self._check_names(columns, where)
        quoted = sa.sql.quoted_name(declared.table, quote=True)
        place = None if declared.schema is None else sa.sql.quoted_name(declared.schema, quote=True)
        table = sa.Table(
            quoted,
            sa.MetaData(),
            *(self._sql_column(column) for column in columns),
            schema=place,
            **self._writer.table_options(),
        )
        create_table(connection, table, self._writer)

    def _sql_column(self, column: Column) -> Any:
        import sqlalchemy as sa

        in_key = column.name in self._declared.key
        sql_type = self._writer.sql_type(column, in_key=in_key)
        quoted = sa.sql.quoted_name(column.name, quote=True)
        return sa.Column(quoted, sql_type, primary_key=in_key, nullable=not in_key, autoincrement=False)

    def _check_names(self, columns: Sequence[Column], where: str) -> None:
        names = [column.name for column in columns]
        shown = self._declared.shown
        for name in self._declared.key:
            if name not in names:
                raise SchemaMismatch(
                    f"table {shown!r}: the rows have no column {name!r}, which is in primary_key ({where}): "
                    "return it from the last stage"
                )
        for name in names:
            check_name(name, f"a column of table {shown!r}", self._writer)
        folded: dict[str, str] = {}
        for name in names:
            other = folded.setdefault(name.casefold(), name)
            if other is not name and self._writer.folds_case:
                raise SchemaMismatch(
                    f"table {shown!r}: columns {other!r} and {name!r} differ only in case, which this database does "
                    f"not tell apart ({where}): rename one in a stage"
                )


def check_name(name: str, what: str, writer: Writer) -> None:
    """Refuse a name that the database cannot have, or would cut.

    :raises SchemaMismatch: saying what to do.
    """
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        raise SchemaMismatch(
            f"{what} has the name {name!r}, which is not valid Unicode: rename it in a stage"
        ) from None
    if not name or "\x00" in name:
        raise SchemaMismatch(f"{what} has the name {name!r}, which is empty or holds a NUL: rename it in a stage")
    refused = writer.refused_in_names and writer.refused_in_names.search(name)
    if refused:
        raise SchemaMismatch(
            f"{what} has the name {name!r}, but this database takes no {refused[0]!r} there: rename it"
        )
    longest = writer.longest_name
    if longest is not None and length > longest:
        raise SchemaMismatch(f"{what} has the name {name!r} of {length} bytes, but only {longest} are kept: shorten it")


def create_table(connection: Connection, table: Any, writer: Writer) -> None:
    """Create a table in a transaction of its own, unless somebody else is faster."""
    import sqlalchemy as sa

    try:
        writer.begin(connection)
        table.create(connection, checkfirst=False)
        writer.commit(connection)
    except sa.exc.DBAPIError as error:
        connection.rollback()
        there = writer.reflect(connection, str(table.name), None if table.schema is None else str(table.schema))
        connection.rollback()
        if there is None:
            if writer.is_transient(error):
                raise  # whoever waits for this chunk may try again
            raise SinkError(
                f"cannot create table {str(table.name)!r} ({writer.explain(error)}): check the rights of the login and "
                "that the schema exists, or create the table beforehand"
            ) from None
