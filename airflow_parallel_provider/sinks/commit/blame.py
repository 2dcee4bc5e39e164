# SPDX-License-Identifier: Apache-2.0
"""Whether a row is to blame for what the database refuses. Only then may it be rejected, and the load go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_parallel_provider.errors import WriteRefused
from airflow_parallel_provider.sql.backends.error_classifier import Refusal
from airflow_parallel_provider.sql.disk_full import describe_error, is_transient

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_parallel_provider.sql.backends.base import Backend
    from airflow_parallel_provider.values.table_shape import TableShape


def is_fault_of_rows(error: BaseException, backend: Backend, shape: TableShape, names: Sequence[str]) -> bool:
    """Whether the database refuses a value of these rows.

    :param names: of the columns that the rows have.
    """
    if is_transient(error, backend) or not backend.errors.is_about_value(error):
        return False
    return not _is_numbered_key(backend.errors.violated_key(error), shape, names)


def no_fault_of_rows(error: BaseException, backend: Backend, table: str, where: str) -> WriteRefused:
    """The error for what no row is to blame for: why, and what helps.

    :param where: which chunk.
    """
    refusal = backend.errors.refusal(error)
    if refusal is None and backend.errors.violated_key(error):
        refusal = Refusal.NUMBERING
    cure = "see the database's log for the statement" if refusal is None else refusal.value
    return WriteRefused(
        f"table {table!r}: the database does not let {where} be written ({describe_error(error, backend)}), whatever "
        f"the values of its rows: {cure}. Then run the task again: nothing is lost or doubled"
    )


def rows_dropped(table: str, where: str, lost: int, sent: int, triggers: Sequence[str]) -> WriteRefused:
    """The error for rows that the database has dropped without an error.

    :param where: what was written.
    :param triggers: those that can have done it.
    """
    by = f"by trigger {', '.join(map(repr, triggers[:5]))}" if triggers else "by a rule or a clause of the table"
    return WriteRefused(
        f"table {table!r}: of {sent} rows that were sent ({where}) the database has written {sent - lost}, and dropped "
        f"{lost} without an error, most likely {by}. Nothing of them is kept. Leave such rows out in a stage, or write "
        "to the table that receives them"
    )


def _is_numbered_key(key: Sequence[str], shape: TableShape, names: Sequence[str]) -> bool:
    """Whether a key is one that the database fills itself: the rows have none of its columns."""
    return bool(key) and all(name in shape.by_name and name not in names for name in key)
