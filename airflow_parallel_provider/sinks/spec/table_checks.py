"""What can be wrong with a ``SinkTable``, found when the DAG file is parsed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airflow_parallel_provider.checks import check_name
from airflow_parallel_provider.errors import PlanError
from airflow_parallel_provider.sinks.files.dead_letter_files import DeadLetterFiles

if TYPE_CHECKING:
    from airflow_parallel_provider.sinks.table import SinkTable

DISPOSITIONS = ("append", "merge", "replace")
RERUNS = (None, "resume", "replace", "append")
SCHEMA_CHANGES = ("fail", "add_columns")
LOAD_COLUMN = "_load_id"
"""Column for the load's id where ``on_rerun="replace"`` needs one and the author has not named it."""
_DOTTED = re.compile(r"\w+(\.\w+)+")


def check_names(sink: SinkTable) -> None:
    """Names are texts that a database can have."""
    check_name("table", sink.table)
    check_name("conn_id", sink.conn_id)
    check_name("ledger_table", sink.ledger_table)
    if sink.schema is not None:
        check_name("schema", sink.schema)
    for name in ("dead_letters", "rejected"):
        value = getattr(sink, name)
        if value is not None and not (name == "dead_letters" and isinstance(value, DeadLetterFiles)):
            check_name(name, value)
    if sink.schema is None and _DOTTED.fullmatch(sink.table):
        schema, _, name = sink.table.rpartition(".")
        cure = f"names are quoted as they stand; write SinkTable({name!r}, schema={schema!r}, ...)"
        raise PlanError("SinkTable.table", sink.table, cure)


def check_distinct(sink: SinkTable) -> None:
    """No two tables are one."""
    ledger = sink.ledger_table
    given = (sink.table, sink.dead_letter_table, sink.rejected_table, ledger, f"{ledger}__loads")
    names = [name for name in given if name is not None]
    if len(set(names)) != len(names):
        cure = "table, dead_letters, rejected and ledger_table must differ"
        raise PlanError("SinkTable.ledger_table", ledger, cure)


def check_modes(sink: SinkTable) -> None:
    """Words that are one of a few."""
    if sink.write_disposition not in DISPOSITIONS:
        cure = "write 'append', 'merge' or 'replace'"
        raise PlanError("SinkTable.write_disposition", sink.write_disposition, cure)
    if sink.on_rerun not in RERUNS:
        raise PlanError("SinkTable.on_rerun", sink.on_rerun, "write 'resume', 'replace' or 'append'")
    if sink.on_schema_change not in SCHEMA_CHANGES:
        raise PlanError("SinkTable.on_schema_change", sink.on_schema_change, "write 'fail' or 'add_columns'")


def check_load_column(sink: SinkTable) -> None:
    """It is nobody else's column."""
    if sink.load_column is not None:
        check_name("load_column", sink.load_column)
    name = sink.load_id_column
    if name is not None and name in [*sink.key, *(column.name for column in sink.declared or ())]:
        raise PlanError("SinkTable.load_column", name, "primary_key and columns have it too; give it another name")


def check_key(sink: SinkTable) -> None:
    """What makes a row unique is among its columns."""
    if sink.write_disposition == "merge" and not sink.primary_key:
        cure = "merge needs the columns that make a row unique, e.g. primary_key=['id']"
        raise PlanError("SinkTable.primary_key", sink.primary_key, cure)
    columns = sink.declared
    if columns is None or any(column.kind is None for column in columns):
        return  # the rows may bring more columns
    for name in sink.key:
        if name not in [column.name for column in columns]:
            raise PlanError("SinkTable.primary_key", name, "it is not among columns; add it there with its type")
