"""The table rows go into: looked up, made from the data when absent, checked against what the author declared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import LoadMismatch, SchemaMismatch, SinkError
from airflow_parallel_provider.rows.arrow_rows import ArrowRows, takes
from airflow_parallel_provider.rows.block import Block, to_block, unchecked_block
from airflow_parallel_provider.rows.fit import RowSlices, check_names, fit_block
from airflow_parallel_provider.rows.infer import infer_columns
from airflow_parallel_provider.sql.backends.base import core_of
from airflow_parallel_provider.sql.ddl import TRIES, add_column, create_table, make_table
from airflow_parallel_provider.sql.missing_table import missing_table_message
from airflow_parallel_provider.sql.names import check_name
from airflow_parallel_provider.values.annotations import written_as_annotated
from airflow_parallel_provider.values.kinds import Column, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.sinks.table import SinkTable
    from airflow_parallel_provider.sql.backends.base import Backend, Rows
    from airflow_parallel_provider.values.table_shape import TableShape


class TargetTable:
    """One table, on one backend."""

    def __init__(self, declared: SinkTable, backend: Backend, *, load: str = "", staging: str | None = None) -> None:
        """Of a load.

        :param load: what goes into the load column, where there is one.
        :param staging: table that receives the rows in the stead of the declared one.
        """
        self._declared = declared
        self._backend = backend
        self._load = load
        self.name = staging or declared.table
        self._shape: TableShape | None = None
        self._was_there = False

    @property
    def declared_name(self) -> str:
        """Of the table that has the rows in the end."""
        return self._declared.table

    @property
    def display_name(self) -> str:
        """Name for people."""
        return self._declared.display_name

    def invalidate_shape(self) -> None:
        """Look again next time: somebody may have changed the table."""
        self._shape = None

    def reflect(self, connection: Connection) -> TableShape | None:
        """The table as it is; None when it is not there yet.

        :raises SchemaMismatch: when it cannot be what the author declared.
        :raises UnsafeTable: when it cannot take part in a transaction.
        """
        if self._shape is None:
            declared = self._declared
            self._shape = self._reflect(connection, self.name, declared.schema)
            self._was_there |= self._shape is not None
        return self._shape

    def _reflect(self, connection: Connection, name: str, schema: str | None) -> TableShape | None:
        shape = self._backend.reflect(connection, name, schema)
        connection.rollback()  # looking has opened a transaction that nobody needs
        if shape is not None:
            self._backend.check_transactional(connection, name, schema)
            connection.rollback()
            self._check(shape)
        return shape

    def create_or_alter(self, connection: Connection, block: Block, where: str) -> TableShape | None:
        """The table, made from the declaration and these rows when it is not there.

        Never inside the transaction of a chunk: on MySQL a CREATE TABLE commits what went before.

        :raises LoadMismatch: when it was there, and is gone.
        """
        for _ in range(TRIES):
            shape = self.reflect(connection)
            if shape is None:
                if self._was_there and self.name == self.declared_name:  # a staging table may be dropped as stale
                    raise LoadMismatch(missing_table_message(self.display_name))
                if not self._make(connection, block, where):
                    return None
            elif not self._extend(connection, shape, block, where):
                return shape
        raise SinkError(f"table {self.name!r} was made and is not there: check the rights of the login")

    def _make(self, connection: Connection, block: Block, where: str) -> bool:
        """Make the table, if it is known by now what columns it has."""
        declared = self._declared
        like = None
        if self.name != declared.table:
            like = self._reflect(connection, declared.table, declared.schema)
        if like is not None:
            copied = like
            make_table(
                connection, self.name, like.schema, self._backend,
                lambda: self._backend.create_like(connection, self.name, copied),
            )  # fmt: skip
        elif block.rows or self._is_declared():
            self._create(connection, self._columns(block, where), where)
        else:
            return False
        return True

    def _columns(self, block: Block, where: str) -> tuple[Column, ...]:
        """Columns of a new table."""
        declared, mark = self._declared, self._declared.load_id_column
        columns = infer_columns(block, declared.declared, declared.display_name, where)
        if mark is None:
            return columns
        return (*(column for column in columns if column.name != mark), _load_column(mark))

    def _extend(self, connection: Connection, shape: TableShape, block: Block, where: str) -> bool:
        """Add the columns that the rows or the declaration have more, where that is wanted.

        :returns: whether there were some. Then look again: another attempt may have dropped the table meanwhile.
        """
        if self._declared.on_schema_change != "add_columns":
            return False
        there = set(shape.by_name)
        folded = {name.casefold() for name in there} if self._backend.folds_case else set()
        typed = [column for column in self._declared.declared or () if column.kind is not None]
        if self._declared.load_id_column is not None:
            typed.append(_load_column(self._declared.load_id_column))
        missing = [column for column in typed if column.name not in there]
        known = there | {column.name for column in typed}
        numbers = [at for at, name in enumerate(block.names) if name not in known and name.casefold() not in folded]
        if numbers:
            values = [block.column(at) for at in numbers]
            part = Block(tuple(block.names[at] for at in numbers), list(zip(*values, strict=True)), block.sources)
            missing += infer_columns(part, self._declared.declared, shape.display_name, where)[-len(numbers) :]
        if not missing:
            return False
        self._check_names([*(Column(name) for name in there), *missing], where)
        for column in missing:
            sql_type = self._backend.sql_type(column, in_key=False)
            add_column(connection, shape, column.name, sql_type, self._backend)
        self.invalidate_shape()
        return True

    def _is_declared(self) -> bool:
        columns = self._declared.declared
        return columns is not None and all(column.kind is not None for column in columns)

    def block(self, rows: Sequence[Any], *, lazily: bool = False) -> Block:
        """Rows of any shape as a block.

        :param lazily: tuples may be left unseen where the writer asks for some at a time: to look at each takes longer
            than to begin the transaction.
        """
        columns = self._declared.declared
        names = tuple(column.name for column in columns) if columns is not None else None
        if lazily and self._may_wait():
            unseen = unchecked_block(rows, names, self._backend.rows_ahead or 0)
            if unseen is not None:
                return unseen
        block = to_block(rows, names, arrow=bool(self._backend.arrow_kinds))
        if written_as_annotated(self._declared.validate):  # the rows are what it has dumped, as dicts
            block = Block(block.names, block.rows, (*block.sources, self._declared.validate))
        mark = self._declared.load_id_column
        if mark is None or not block.rows:
            return block
        if mark in block.names:
            raise SchemaMismatch(
                f"table {self.display_name!r}: the rows have a column {mark!r}, which is where the load's id goes: name "
                "another one as load_column"
            )
        if isinstance(block.rows, ArrowRows):
            marked = block.rows.with_text(mark, self._load)
            return Block((*block.names, mark), marked, (*block.sources, marked.table.select([mark])))
        return Block((*block.names, mark), [(*row, self._load) for row in block.rows], block.sources)

    def _may_wait(self) -> bool:
        """Whether nothing but the writing itself depends on what the rows are."""
        declared = self._declared
        return (
            self._backend.rows_ahead is not None
            and self._shape is not None
            and declared.validate is None
            and declared.load_id_column is None
            and declared.on_schema_change != "add_columns"
        )

    def fit(self, block: Block, shape: TableShape, where: str) -> Rows:
        """The block's rows as the driver takes them; to be gone through once.

        :raises SchemaMismatch: here, or from the rows when the writer asks for them.
        """
        if block.rows and not block.names:
            raise SchemaMismatch(
                f"table {shape.display_name!r}: the rows have no columns at all ({where}): return dicts with keys"
            )
        for name in self._declared.key:
            if name not in block.names and not shape.by_name[name].has_default:
                raise SchemaMismatch(
                    f"table {shape.display_name!r}: the rows have no column {name!r}, which is in primary_key ({where}): "
                    "return it from the last stage"
                )
        if self._goes_as_arrow(block, shape):
            check_names(block, shape, where)
            return block.rows
        size = self._backend.rows_ahead
        if size is None:
            return fit_block(block, shape, self._backend.adapters, where)
        check_names(block, shape, where)  # before anything is sent
        return RowSlices(block, shape, self._backend.adapters, where, size)

    def _goes_as_arrow(self, block: Block, shape: TableShape) -> bool:
        """Whether the writer gets the Arrow table itself, because no value of it needs to be looked at."""
        rows = block.rows
        if not isinstance(rows, ArrowRows) or rows.seen:
            return False
        columns = [shape.by_name.get(name) for name in block.names]
        return all(
            column is not None and column.kind in self._backend.arrow_kinds and takes(column, field.type)
            for column, field in zip(columns, rows.table.schema, strict=True)
        )

    def claim_statement(
        self, shape: TableShape | None, block: Block
    ) -> Callable[[Connection, Any, dict[str, Any]], object]:
        """How the ledger's INSERT is run, when these rows follow it."""
        backend, names = self._backend, block.names

        def execute(connection: Connection, insert: Any, row: dict[str, Any]) -> None:
            backend.claim(connection, insert, row, shape if block.rows else None, names)

        return execute

    def write(self, connection: Connection, shape: TableShape, names: Sequence[str], rows: Rows) -> None:
        """Write rows that fit, in the transaction that is open."""
        if self._declared.write_disposition == "merge":
            self._backend.merge(connection, shape, names, rows, self._declared.key)
        else:
            self._backend.insert(connection, shape, names, rows)

    def _check(self, shape: TableShape) -> None:
        declared = self._declared
        named = [column.name for column in declared.declared or ()]
        added = set()
        if declared.on_schema_change == "add_columns":
            added = {column.name for column in declared.declared or () if column.kind is not None}
        mark = declared.load_id_column
        if mark is not None and mark not in shape.by_name and declared.on_schema_change != "add_columns":
            raise SchemaMismatch(
                f"table {shape.display_name!r} has no column {mark!r} for the load's id: add it (text, 32 characters), "
                "name another one as load_column, or have it added: on_schema_change='add_columns'"
            )
        for name in [*named, *declared.key]:
            if name not in shape.by_name and (name not in added or name in declared.key):
                raise SchemaMismatch(
                    f"table {shape.display_name!r} has no column {name!r}, which the sink names: add it to the table, or take "
                    "it out of columns and primary_key"
                )
        key = frozenset(declared.key)
        if declared.write_disposition == "merge" and key not in shape.unique_keys:
            raise SchemaMismatch(
                f"table {shape.display_name!r} has no primary key or unique index on ({', '.join(declared.key)}), which "
                "write_disposition='merge' needs: add one, or name the table's own key in primary_key"
            )

    def _create(self, connection: Connection, columns: Sequence[Column], where: str) -> None:
        self._check_names(columns, where)
        made = (self._sql_column(column) for column in columns)
        table = core_of(self.name, self._declared.schema, *made, **self._backend.table_options())
        create_table(connection, table, self._backend)

    def _sql_column(self, column: Column) -> Any:
        import sqlalchemy as sa

        in_key = column.name in self._declared.key
        sql_type = self._backend.sql_type(column, in_key=in_key)
        quoted = sa.sql.quoted_name(column.name, quote=True)
        return sa.Column(quoted, sql_type, primary_key=in_key, nullable=not in_key, autoincrement=False)

    def _check_names(self, columns: Sequence[Column], where: str) -> None:
        names = [column.name for column in columns]
        shown = self._declared.display_name
        for name in self._declared.key:
            if name not in names:
                raise SchemaMismatch(
                    f"table {shown!r}: the rows have no column {name!r}, which is in primary_key ({where}): "
                    "return it from the last stage"
                )
        for name in names:
            check_name(name, f"a column of table {shown!r}", self._backend)
        folded: dict[str, str] = {}
        for name in names:
            other = folded.setdefault(name.casefold(), name)
            if other is not name and self._backend.folds_case:
                raise SchemaMismatch(
                    f"table {shown!r}: columns {other!r} and {name!r} differ only in case, which this database does "
                    f"not tell apart ({where}): rename one in a stage"
                )


def _load_column(name: str) -> Column:
    return Column(name, Kind.TEXT, length=32)
