"""Opening the control tables of a load."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_parallel_provider.sinks.files.dead_letter_files import DeadLetterFiles, LetterFiles
from airflow_parallel_provider.sinks.ledger.chunks import Ledger
from airflow_parallel_provider.sinks.ledger.control_tables import Books, _ensure
from airflow_parallel_provider.sinks.ledger.dead_letters import DeadLetterTable
from airflow_parallel_provider.sinks.ledger.loads import Loads
from airflow_parallel_provider.sinks.ledger.rejected_rows import RejectedTable
from airflow_parallel_provider.sql.names import check_name

if TYPE_CHECKING:
    from airflow_parallel_provider.sinks.table import SinkTable
    from airflow_parallel_provider.sql.database import Database


def open_books(database: Database, declared: SinkTable) -> Books:
    """Make the tables that are absent, check those that are there, and prove that a rollback rolls back.

    :raises UnsafeTable: when a table of that name is something else, or takes no part in transactions.
    """
    check_name(declared.table, "SinkTable.table", database.writer)
    options = database.writer.table_options()
    ledger = Ledger(declared.ledger_table, declared.schema, options)
    letters: DeadLetterTable | LetterFiles | None = None
    if isinstance(declared.dead_letters, DeadLetterFiles):
        letters = declared.dead_letters.opened(declared.dead_letter_length)
    if declared.dead_letter_table is not None:
        letters = DeadLetterTable(declared.dead_letter_table, declared.schema, options, declared.dead_letter_length)
        letters.keeps_pickles = declared.dead_letter_pickle
    _ensure(database, ledger.loads, "ledger_table")
    _ensure(database, ledger.chunks, "ledger_table")
    if isinstance(letters, DeadLetterTable):
        _ensure(database, letters.table, "dead_letters")
    ledger.prove_transactional(database.connection(), database.writer.begin)
    rejected = None
    if declared.rejected_table is not None:
        rejected = RejectedTable(declared.rejected_table, declared.schema, options, declared.dead_letter_length)
    return Books(ledger, Loads(ledger.loads, ledger.chunks), letters, rejected)
