# SPDX-License-Identifier: Apache-2.0
"""Checks of what an author declares of a table. They take plain values and run when the DAG file is parsed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from airflow_parallel_provider.checks import check_declared_name
from airflow_parallel_provider.errors import PlanError
from airflow_parallel_provider.values.kinds import SEQUENCE_KINDS

if TYPE_CHECKING:
    from airflow_parallel_provider.values.kinds import Column

DISPOSITIONS = ("append", "merge", "replace")
RERUNS = (None, "resume", "replace", "append")
SCHEMA_CHANGES = ("fail", "add_columns")
_DOTTED = re.compile(r"\w+(\.\w+)+")


def check_names(names: Mapping[str, object]) -> None:
    """Refuse a name that no database can have, and a table name that contains a schema.

    :param names: names by the field that gives them.
    """
    for field, name in names.items():
        check_declared_name(field, name)
    table = names["table"]
    if "schema" not in names and isinstance(table, str) and _DOTTED.fullmatch(table):
        schema, _, name = table.rpartition(".")
        cure = f"names are quoted as they are; write SinkTable({name!r}, schema={schema!r}, ...)"
        raise PlanError("SinkTable.table", table, cure)


def check_distinct(ledger_table: str, *others: str | None) -> None:
    """Refuse two tables with one name.

    :param others: names of the other tables; None: there is no such table.
    """
    names = [name for name in (*others, ledger_table, f"{ledger_table}__loads") if name is not None]
    if len(set(names)) != len(names):
        cure = "table, dead_letters, rejected and ledger_table must differ"
        raise PlanError("SinkTable.ledger_table", ledger_table, cure)


def check_modes(write_disposition: object, on_rerun: object, on_schema_change: object) -> None:
    """Refuse a word that is not one of the few a field may have."""
    if write_disposition not in DISPOSITIONS:
        cure = "write 'append', 'merge' or 'replace'"
        raise PlanError("SinkTable.write_disposition", write_disposition, cure)
    if on_rerun not in RERUNS:
        raise PlanError("SinkTable.on_rerun", on_rerun, "write 'resume', 'replace' or 'append'")
    if on_schema_change not in SCHEMA_CHANGES:
        raise PlanError("SinkTable.on_schema_change", on_schema_change, "write 'fail' or 'add_columns'")


def check_load_column(load_column: object, name: str | None, columns: Iterable[str]) -> None:
    """Refuse a load column that the rows have, too.

    :param load_column: as the author wrote it.
    :param name: its name, which may be a default; None: there is none.
    :param columns: names of the declared columns and of the key.
    """
    if load_column is not None:
        check_declared_name("load_column", load_column)
    if name is not None and name in columns:
        raise PlanError("SinkTable.load_column", name, "primary_key and columns have it too; give it another name")


def check_key(key: tuple[str, ...], columns: tuple[Column, ...] | None, write_disposition: str) -> None:
    """Refuse a merge without a key, and a key that is not among the declared columns."""
    if write_disposition == "merge" and not key:
        cure = "merge needs the columns that make a row unique, e.g. primary_key=['id']"
        raise PlanError("SinkTable.primary_key", key, cure)
    if columns is None or any(column.kind is None for column in columns):
        return  # the rows may have more columns
    for name in key:
        if name not in [column.name for column in columns]:
            raise PlanError("SinkTable.primary_key", name, "it is not among columns; add it there with its type")


def check_newest(
    newest: object, key: tuple[str, ...], columns: tuple[Column, ...] | None, write_disposition: str
) -> None:
    """Refuse a column that cannot say which of two rows with one key is newer.

    :param columns: as declared; those without a kind are checked when the table is known.
    """
    if newest is None:
        return
    check_declared_name("newest", newest)
    if write_disposition != "merge":
        cure = "it decides which row a merge keeps: write write_disposition='merge', or leave it out"
        raise PlanError("SinkTable.newest", newest, cure)
    if newest in key:
        cure = "it is part of primary_key, so it is the same in both rows: name another column, as updated_at"
        raise PlanError("SinkTable.newest", newest, cure)
    if columns is None:
        return
    kinds = {column.name: column.kind for column in columns}
    if newest not in kinds:
        if None in kinds.values():
            return  # the rows may have more columns
        raise PlanError("SinkTable.newest", newest, "it is not among columns; add it there with its type")
    if kinds[newest] is not None and kinds[newest] not in SEQUENCE_KINDS:
        cure = f"its type {kinds[newest]} cannot say so: name a column of times, dates, numbers or texts"
        raise PlanError("SinkTable.newest", newest, cure)


def check_narrow(dispositions: Mapping[str, object], load_column: str | None, asked: str, again: str | None) -> None:
    """Refuse a table from which rows would be missing, or in which they would be twice, with an incremental source.

    :param dispositions: ``write_disposition`` and ``on_rerun``.
    :param asked: the argument of the source, with its value.
    :param again: the argument by which items come again; None: none do.
    """
    for field, value in dispositions.items():
        if value == "replace":
            cure = f"{asked} reads nothing again that was loaded before, so its rows would be gone: append or merge"
            raise PlanError(f"SinkTable.{field}", value, cure)
    if load_column is not None and dispositions["on_rerun"] is None:
        cure = f"with load_column= a Clear replaces what it has loaded, but {asked} reads nothing again: on_rerun="
        raise PlanError("SinkTable.on_rerun", None, f"{cure}'append'")
    if again is not None and dispositions["write_disposition"] != "merge":
        cure = f"{again} reads rows again, which would be twice in the table: write 'merge', with a primary_key"
        raise PlanError("SinkTable.write_disposition", dispositions["write_disposition"], cure)


def check_cleaned(
    sink: str, dispositions: Mapping[str, object], load_column: str | None, asked: str, *, knows: bool
) -> None:
    """Refuse a table from which rows would be missing, or in which they would be twice, when its files are gone.

    :param sink: name of its class.
    :param dispositions: ``write_disposition`` and ``on_rerun``.
    :param asked: the argument of the source, with its value.
    :param knows: whether the source leaves out what earlier loads have committed.
    """
    for field, value in dispositions.items():
        if value == "replace":
            cure = f"with {asked} files are gone when a later run would need them: merge, or append with only_new=True"
            raise PlanError(f"{sink}.{field}", value, cure)
    if load_column is not None and dispositions["on_rerun"] is None:
        cure = f"with load_column= a Clear removes what it has loaded, but with {asked} files are gone: on_rerun="
        raise PlanError(f"{sink}.on_rerun", None, f"{cure}'append'")
    if dispositions["write_disposition"] == "append" and not knows:
        cure = f"a run that ends in the middle of {asked} leaves files that the next one would append again: "
        more = "add FilesSource(only_new=True), or write 'merge'" if sink == "SinkTable" else "write 'merge'"
        raise PlanError(f"{sink}.write_disposition", "append", cure + more)
