# SPDX-License-Identifier: Apache-2.0
"""The control tables of a load: created if they do not exist, else checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from airflow_parallel_provider.errors import SinkError, UnsafeTable
from airflow_parallel_provider.sinks.ledger.chunks import ChunkLedger
from airflow_parallel_provider.sinks.ledger.dead_letters import DeadLetterTable
from airflow_parallel_provider.sinks.ledger.loads import LoadsTable
from airflow_parallel_provider.sinks.ledger.messages import MessageTable
from airflow_parallel_provider.sinks.ledger.rejected_rows import RejectedTable
from airflow_parallel_provider.sql.ddl import add_column, create_table
from airflow_parallel_provider.sql.disk_full import is_transient
from airflow_parallel_provider.sql.names import check_identifier
from airflow_parallel_provider.values.table_shape import TableShape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.engine.interfaces.records import DeadLetter
    from airflow_parallel_provider.sinks.ledger.entry_table import ChunkKey
    from airflow_parallel_provider.sql.database import Database


_IDS_PER_STATEMENT = 500
"""No database refuses so many parameters."""


class DeadLetterStore(Protocol):
    """Where dead letters are kept: a table, or files."""

    def insert(self, connection: Connection, chunk: ChunkKey, dead_letters: Sequence[DeadLetter], /) -> None:
        """Write the dead letters of a chunk; called for a chunk without any, too."""

    def delete(self, connection: Connection, load: str, /) -> int:
        """Delete those of a load; return how many entries there were."""


@dataclass(slots=True)
class ControlTables:
    """The ledger, and the dead letters and rejected rows where they are kept."""

    ledger: ChunkLedger
    loads: LoadsTable
    dead_letters: DeadLetterStore | None
    rejected: RejectedTable | None = None
    """Created when the first row is rejected."""
    messages: MessageTable | None = None
    """Only if the items are messages of a queue."""
    keys_hold: bool = True
    """Whether the ledger's keys are enforced. If not, a chunk locks its load and looks before it claims."""
    _rejected_exists: bool = False

    def dead_letter_table(self) -> DeadLetterTable:
        """The table of dead letters.

        :raises SinkError: if there is none.
        """
        if not isinstance(self.dead_letters, DeadLetterTable):
            raise SinkError("SinkTable.dead_letters: this sink has no table of dead letters")
        return self.dead_letters

    def ensure_rejected(self, database: Database) -> None:
        """Create the table of rejected rows. Not inside a chunk's transaction: on MySQL that would commit it."""
        if self.rejected is not None and not self._rejected_exists:
            ensure_table(database, self.rejected.table, "rejected")
            self._rejected_exists = True

    def ensure_messages(self, database: Database, queue: str) -> None:
        """Create the table of message ids. Not inside a transaction, either."""
        options = database.backend.ddl.table_options()
        self.messages = MessageTable(self.ledger.name, self.ledger.schema, options, queue)
        ensure_table(database, self.messages.table, "ledger_table")
        backend = database.backend
        with database.session() as connection:
            self.messages.prepare(connection, backend.session.begin, lambda error: is_transient(error, backend))

    def delete_chunks(self, connection: Connection, load: str, chunk_ids: Sequence[str]) -> None:
        """Delete everything about some chunks of a load, so that they are committed again."""
        tables = [self.ledger.chunks]
        if isinstance(self.dead_letters, DeadLetterTable):  # a file of dead letters is written again as a whole
            tables.append(self.dead_letters.table)
        if self.rejected is not None and _exists(connection, self.rejected.table):
            tables.append(self.rejected.table)
        for at in range(0, len(chunk_ids), _IDS_PER_STATEMENT):
            some = list(chunk_ids[at : at + _IDS_PER_STATEMENT])
            for table in tables:
                connection.execute(table.delete().where((table.c.load_id == load) & table.c.chunk_id.in_(some)))

    def delete(self, connection: Connection, load: str) -> int:
        """Delete everything about a load; return how many chunks it had."""
        if self.dead_letters is not None:
            self.dead_letters.delete(connection, load)
        if self.rejected is not None and _exists(connection, self.rejected.table):
            self.rejected.delete(connection, load)
        messages = self.messages or MessageTable(self.ledger.name, self.ledger.schema, {}, "")
        if _exists(connection, messages.table):
            messages.delete(connection, load)
        return self.ledger.delete(connection, load)


def _exists(connection: Connection, table: Any) -> bool:
    import sqlalchemy as sa

    return bool(sa.inspect(connection).has_table(table.name, schema=table.schema))


def ensure_table(database: Database, table: Any, field: str) -> None:
    """Create a control table if it does not exist, else check it.

    :param field: of ``SinkTable``, which names the table.
    :raises UnsafeTable: if it is something else, or takes no part in transactions.
    """
    connection, backend = database.connection(), database.backend
    name, schema = str(table.name), None if table.schema is None else str(table.schema)
    check_identifier(name, f"SinkTable.{field}", backend)
    found = backend.catalog.column_names(connection, name, schema)
    connection.rollback()
    if found is None:
        create_table(connection, table, backend)
    else:
        missing = [str(column.name) for column in table.columns if str(column.name) not in found]
        if missing and len(missing) < len(table.columns) / 2 and all(table.c[name].nullable for name in missing):
            for column in missing:  # an earlier version of this package has created the table
                add_column(connection, TableShape(name, schema, ()), column, table.c[column].type, backend)
        elif missing:
            raise UnsafeTable(
                f"SinkTable.{field}: table {name!r} exists but is something else (it has no column {missing[0]!r}): "
                f"give another name as {field}"
            )
    backend.catalog.check_transactional(connection, name, schema)
    connection.rollback()
