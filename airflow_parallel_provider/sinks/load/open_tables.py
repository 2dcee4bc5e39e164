# SPDX-License-Identifier: Apache-2.0
"""Opening the control tables of a load."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow_parallel_provider.sinks.files.dead_letter_store import DeadLetterFileStore
from airflow_parallel_provider.sinks.ledger.chunks import ChunkLedger
from airflow_parallel_provider.sinks.ledger.control_tables import ControlTables, ensure_table
from airflow_parallel_provider.sinks.ledger.dead_letters import DeadLetterTable
from airflow_parallel_provider.sinks.ledger.keys import refuse_without_rollback
from airflow_parallel_provider.sinks.ledger.loads import LoadsTable
from airflow_parallel_provider.sinks.ledger.rejected_rows import RejectedTable
from airflow_parallel_provider.sql.disk_full import is_transient
from airflow_parallel_provider.sql.names import check_identifier

if TYPE_CHECKING:
    from airflow_parallel_provider.sinks.ledger.control_tables import DeadLetterStore
    from airflow_parallel_provider.sinks.load.destination import Destination

log = logging.getLogger(__name__)


def open_control_tables(destination: Destination) -> ControlTables:
    """Create the control tables that do not exist, check the others, and find out what the database promises.

    That is: a rollback must roll back, and keys may be enforced or not.

    :raises UnsafeTable: if a table of that name is something else, or takes no part in transactions.
    """
    spec, database = destination.spec, destination.database
    refuse_without_rollback(database.backend.session.dialect)
    check_identifier(spec.table, "SinkTable.table", database.backend)
    options = database.backend.ddl.table_options()
    ledger = ChunkLedger(spec.ledger_table, spec.schema, options)
    ensure_table(database, ledger.loads, "ledger_table")
    ensure_table(database, ledger.chunks, "ledger_table")
    dead_letters: DeadLetterStore | None = None
    if destination.dead_letter_folder is not None:
        dead_letters = DeadLetterFileStore(destination.dead_letter_folder, spec.dead_letter_length)
    elif spec.dead_letter_table is not None:
        dead_letters = DeadLetterTable(
            spec.dead_letter_table,
            spec.schema,
            options,
            spec.dead_letter_length,
            keeps_pickles=spec.dead_letter_pickle,
        )
        ensure_table(database, dead_letters.table, "dead_letters")
    backend = database.backend
    keys_hold = ledger.prove_transactional(
        database.connection(), backend.session.begin, lambda error: is_transient(error, backend)
    )
    if not keys_hold:
        log.info(
            "The keys of the ledger %s are not enforced here: each chunk locks the row of its load, and looks, before "
            "it is written",
            spec.ledger_table,
        )
    rejected = None
    if spec.rejected_table is not None:
        rejected = RejectedTable(spec.rejected_table, spec.schema, options, spec.dead_letter_length)
    loads = LoadsTable(ledger.loads, ledger.chunks, keys_hold=keys_hold)
    return ControlTables(ledger, loads, dead_letters, rejected, keys_hold=keys_hold)
