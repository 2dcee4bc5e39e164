"""Opening the control tables of a load."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_parallel_provider.sinks.files.dead_letter_files import DeadLetterFiles, DeadLetterFileStore
from airflow_parallel_provider.sinks.ledger.chunks import ChunkLedger
from airflow_parallel_provider.sinks.ledger.control_tables import ControlTables, _ensure
from airflow_parallel_provider.sinks.ledger.dead_letters import DeadLetterTable
from airflow_parallel_provider.sinks.ledger.loads import LoadsTable
from airflow_parallel_provider.sinks.ledger.rejected_rows import RejectedTable
from airflow_parallel_provider.sql.names import check_name

if TYPE_CHECKING:
    from airflow_parallel_provider.sinks.table import SinkTable
    from airflow_parallel_provider.sql.database import Database


def open_control_tables(database: Database, declared: SinkTable) -> ControlTables:
    """Make the tables that are absent, check those that are there, and prove that a rollback rolls back.

    :raises UnsafeTable: when a table of that name is something else, or takes no part in transactions.
    """
    check_name(declared.table, "SinkTable.table", database.backend)
    options = database.backend.table_options()
    ledger = ChunkLedger(declared.ledger_table, declared.schema, options)
    dead_letters: DeadLetterTable | DeadLetterFileStore | None = None
    if isinstance(declared.dead_letters, DeadLetterFiles):
        dead_letters = declared.dead_letters.opened(declared.dead_letter_length)
    if declared.dead_letter_table is not None:
        dead_letters = DeadLetterTable(
            declared.dead_letter_table, declared.schema, options, declared.dead_letter_length
        )
        dead_letters.keeps_pickles = declared.dead_letter_pickle
    _ensure(database, ledger.loads, "ledger_table")
    _ensure(database, ledger.chunks, "ledger_table")
    if isinstance(dead_letters, DeadLetterTable):
        _ensure(database, dead_letters.table, "dead_letters")
    ledger.prove_transactional(database.connection(), database.backend.begin)
    rejected = None
    if declared.rejected_table is not None:
        rejected = RejectedTable(declared.rejected_table, declared.schema, options, declared.dead_letter_length)
    return ControlTables(ledger, LoadsTable(ledger.loads, ledger.chunks), dead_letters, rejected)
