"""The tables a load keeps its books in: made when absent, checked when there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import UnsafeTable
from airflow_parallel_provider.sinks.files.dead_letter_files import DeadLetterFileStore
from airflow_parallel_provider.sinks.ledger.chunks import ChunkLedger
from airflow_parallel_provider.sinks.ledger.dead_letters import DeadLetterTable
from airflow_parallel_provider.sinks.ledger.loads import LoadsTable
from airflow_parallel_provider.sinks.ledger.messages import MessageTable
from airflow_parallel_provider.sinks.ledger.rejected_rows import RejectedTable
from airflow_parallel_provider.sql.ddl import add_column, create_table
from airflow_parallel_provider.sql.names import check_name
from airflow_parallel_provider.values.table_shape import TableShape

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.sinks.table import SinkTable
    from airflow_parallel_provider.sql.database import Database


@dataclass(slots=True)
class ControlTables:
    """The ledger, and the dead letters and rejected rows where they are kept."""

    ledger: ChunkLedger
    loads: LoadsTable
    dead_letters: DeadLetterTable | DeadLetterFileStore | None
    rejected: RejectedTable | None = None
    """Not made before the first row is rejected."""
    messages: MessageTable | None = None
    """Only where the items are messages of a queue."""
    _rejected_is_there: bool = False

    def ensure_rejected(self, database: Database) -> None:
        """Make the table of rejected rows. Not inside a chunk's transaction: on MySQL that would commit it."""
        if self.rejected is not None and not self._rejected_is_there:
            _ensure(database, self.rejected.table, "rejected")
            self._rejected_is_there = True

    def ensure_messages(self, database: Database, declared: SinkTable, queue: str) -> None:
        """Make the table of message ids; not inside a transaction, either."""
        options = database.backend.table_options()
        self.messages = MessageTable(declared.ledger_table, declared.schema, options, queue)
        _ensure(database, self.messages.table, "ledger_table")

    def delete(self, connection: Connection, load: str) -> int:
        """Remove all that is written down of a load; return how many chunks it had."""
        if self.dead_letters is not None:
            self.dead_letters.delete(connection, load)
        if self.rejected is not None and _is_there(connection, self.rejected.table):
            self.rejected.delete(connection, load)
        messages = self.messages or MessageTable(str(self.ledger.chunks.name), self.ledger.chunks.schema, {}, "")
        if _is_there(connection, messages.table):
            messages.delete(connection, load)
        return self.ledger.delete(connection, load)


def _is_there(connection: Connection, table: Any) -> bool:
    import sqlalchemy as sa

    return bool(sa.inspect(connection).has_table(table.name, schema=table.schema))


def _ensure(database: Database, table: Any, field: str) -> None:
    connection, backend = database.connection(), database.backend
    name, schema = str(table.name), None if table.schema is None else str(table.schema)
    check_name(name, f"SinkTable.{field}", backend)
    found = backend.column_names(connection, name, schema)
    connection.rollback()
    if found is None:
        create_table(connection, table, backend)
    else:
        missing = [str(column.name) for column in table.columns if str(column.name) not in found]
        if missing and len(missing) < len(table.columns) / 2 and all(table.c[name].nullable for name in missing):
            for column in missing:  # made by an earlier version of this package
                add_column(connection, TableShape(name, schema, ()), column, table.c[column].type, backend)
        elif missing:
            raise UnsafeTable(
                f"SinkTable.{field}: table {name!r} is there but is something else (it has no column {missing[0]!r}): "
                f"give another name as {field}"
            )
    backend.check_transactional(connection, name, schema)
    connection.rollback()
