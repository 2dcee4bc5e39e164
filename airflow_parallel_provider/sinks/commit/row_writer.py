# SPDX-License-Identifier: Apache-2.0
"""The rows of a chunk on their way into the table: made into a block, converted to the column types, written."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import SchemaMismatch
from airflow_parallel_provider.rows.arrow_rows import ArrowRows, takes_without_loss
from airflow_parallel_provider.rows.block import Block, to_block, unchecked_block
from airflow_parallel_provider.rows.fit import RowSlices, check_columns, fit_block
from airflow_parallel_provider.rows.reject import without_line
from airflow_parallel_provider.rows.texts.arrow_texts import parsed_texts
from airflow_parallel_provider.rows.texts.line_rows import CopyLines, LineRows, texts_of
from airflow_parallel_provider.sinks.commit.blame import rows_dropped
from airflow_parallel_provider.sinks.commit.target_checks import missing_key, require_key
from airflow_parallel_provider.values.annotations import dumps_as_annotated

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.sinks.spec.table_spec import TableSpec
    from airflow_parallel_provider.sql.backends.base import Backend
    from airflow_parallel_provider.sql.backends.row_dml import Rows
    from airflow_parallel_provider.values.table_shape import TableShape


class RowWriter:
    """Converts and writes the rows of a load.

    :param load: id of the load, which goes into the load column if there is one.
    """

    def __init__(self, spec: TableSpec, backend: Backend, *, load: str = "") -> None:
        self._spec = spec
        self._backend = backend
        self._load = load
        self.lines: CopyLines | None = None
        """What was offered to the source; with names if its rows are lines of COPY."""

    def block(self, rows: Sequence[Any], *, unchecked: bool = False) -> Block:
        """Rows of any shape as a block.

        :param unchecked: do not look at each tuple now, if the backend asks for some rows at a time and nothing but the
            writing depends on what the rows are: to look at all takes longer than to begin the transaction.
        """
        if self.lines is not None and self.lines.names and set(map(type, rows)) <= {bytes}:
            return Block(self.lines.names, LineRows(rows) if rows else [])
        names = self._spec.column_names
        if unchecked and self._may_be_unchecked():
            block = unchecked_block(rows, names, self._backend.rows_ahead or 0)
            if block is not None:
                return block
        block = to_block(rows, names, arrow=bool(self._backend.arrow_kinds))
        if dumps_as_annotated(self._spec.validate):  # the rows are dicts that the model has dumped
            block = Block(block.names, block.rows, (*block.sources, self._spec.validate))
        load_column = self._spec.load_id_column
        if load_column is None or not block.rows:
            return block
        if load_column in block.names:
            raise SchemaMismatch(
                f"table {self._spec.display_name!r}: the rows have a column {load_column!r}, which receives the id of "
                "the load: name another one as load_column"
            )
        if isinstance(block.rows, ArrowRows):
            rows_with_id = block.rows.append_text_column(load_column, self._load)
            source = rows_with_id.table.select([load_column])
            return Block((*block.names, load_column), rows_with_id, (*block.sources, source))
        return Block((*block.names, load_column), [(*row, self._load) for row in block.rows], block.sources)

    def readable(self, row: Any) -> Any:
        """A row as people read it: a line of COPY as a dict of texts, a row of a file without its line."""
        if type(row) is bytes and self.lines is not None and self.lines.names:
            return dict(zip(self.lines.names, texts_of(row), strict=True))
        return without_line(row)

    def names(self, rows: Sequence[Any]) -> tuple[str, ...]:
        """Columns of rows of which some may be bad; empty where one of them has no columns at all."""
        try:
            return self.block(rows).names
        except SchemaMismatch:
            return ()

    def _may_be_unchecked(self) -> bool:
        return (
            self._backend.rows_ahead is not None
            and self._spec.validate is None
            and self._spec.load_id_column is None
            and self._spec.on_schema_change != "add_columns"
        )

    def fit(self, block: Block, shape: TableShape, where: str) -> Rows:
        """The rows of a block as the driver takes them; to be iterated once.

        :raises SchemaMismatch: here, or during the iteration.
        """
        if block.rows and not block.names:
            raise SchemaMismatch(
                f"table {shape.display_name!r}: the rows have no columns at all ({where}): return dicts with keys"
            )
        for name in self._spec.key:
            if name not in block.names and not shape.by_name[name].has_default:
                raise missing_key(name, shape.display_name, where)
            if name in block.names and not block.unchecked:
                require_key(block, shape, name, where)
        newest = self._spec.newest
        if newest is not None and block.rows and newest not in block.names:
            raise SchemaMismatch(
                f"table {shape.display_name!r}: the rows have no column {newest!r}, which newest names ({where}): "
                "return it from the last stage"
            )
        block = self._with_parsed_columns(block, shape)
        if isinstance(block.rows, LineRows):
            check_columns(block, shape, where)
            return block.rows
        if self._goes_as_arrow(block, shape):
            check_columns(block, shape, where)
            return block.rows
        size = self._backend.rows_ahead
        if size is None:
            return fit_block(block, shape, self._backend.adapters, where)
        check_columns(block, shape, where)  # before anything is sent
        return RowSlices(block, shape, self._backend.adapters, where, size)

    def _with_parsed_columns(self, block: Block, shape: TableShape) -> Block:
        """The columns of texts of an Arrow table parsed as a whole, where that is possible."""
        if not self._spec.parse_texts or not isinstance(block.rows, ArrowRows) or block.rows.materialized:
            return block
        return replace(block, rows=ArrowRows(parsed_texts(block.rows.table, shape)))

    def parsed(self, block: Block, shape: TableShape, where: str) -> Block:
        """A block with the values that the table reads in its texts, for aggregates: these are of values, not texts.

        :raises SchemaMismatch: if a column does not take them.
        """
        if not self._spec.parse_texts or not self._spec.aggregates or not block.rows:
            return block
        block = self._with_parsed_columns(block, shape)
        return Block(block.names, fit_block(block, shape, {}, where), block.sources)

    def _goes_as_arrow(self, block: Block, shape: TableShape) -> bool:
        """Whether the backend gets the Arrow table itself, because no value of it needs to be looked at."""
        rows = block.rows
        if not isinstance(rows, ArrowRows) or rows.materialized:
            return False
        columns = [shape.by_name.get(name) for name in block.names]
        return all(
            column is not None
            and column.kind in self._backend.arrow_kinds
            and takes_without_loss(column, field.type, rows.table.column(at))
            for at, (column, field) in enumerate(zip(columns, rows.table.schema, strict=True))
        )

    def claim_statement(
        self, shape: TableShape | None, block: Block
    ) -> Callable[[Connection, Any, dict[str, Any]], object]:
        """A function that runs the ledger's INSERT, if these rows follow it."""
        backend, names = self._backend, block.names

        def execute(connection: Connection, insert: Any, row: dict[str, Any]) -> None:
            backend.dml.claim(connection, insert, row, shape if block.rows else None, names)

        return execute

    def write(self, connection: Connection, shape: TableShape, names: Sequence[str], rows: Rows, where: str) -> None:
        """Write rows that fit, in the transaction that is open.

        :param where: which chunk, for errors.
        :raises WriteRefused: if the database has dropped some of them without an error.
        """
        if self._spec.write_disposition == "merge":
            lost = self._backend.dml.merge(connection, shape, names, rows, self._spec.key, newest=self._spec.newest)
        else:
            lost = self._backend.dml.insert(connection, shape, names, rows)
        if lost > 0:  # fewer than none: a key that the table holds twice by its collation has two rows updated
            triggers = self._backend.catalog.triggers(connection, shape)
            raise rows_dropped(shape.display_name, where, lost, len(rows), triggers)
