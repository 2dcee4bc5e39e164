# SPDX-License-Identifier: Apache-2.0
"""Finds the rows of a chunk that a file cannot hold, so that the others are written."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_parallel_provider.errors import SchemaMismatch
from airflow_parallel_provider.rows.block import enumerate_rows
from airflow_parallel_provider.rows.fit import WrongColumns
from airflow_parallel_provider.rows.reject import RejectedRow, cause_of, with_line, without_line

if TYPE_CHECKING:
    from airflow_parallel_provider.rows.block import NumberedRow
    from airflow_parallel_provider.rows.rejection_limit import RejectionLimit

_Encoder = TypeVar("_Encoder")
_A_ROW = "a row"
"""In place of the chunk in the reasons of rejected rows, so that equal ones read alike."""


def encode_good_rows(
    encoder: _Encoder,
    encode: Callable[[_Encoder, Sequence[Any], str], Any],
    rows: Sequence[Any],
    where: str,
    limit: RejectionLimit,
    *,
    numbers: Sequence[int] | None = None,
    rejected: Sequence[RejectedRow] = (),
) -> tuple[Any, list[RejectedRow]]:
    """Encode rows; those that cannot be encoded are rejected one by one, if the load may have rejected rows.

    :param encoder: what ``encode`` is called with. It keeps the columns of what it has encoded, and nothing of what it
        has refused.
    :param where: which chunk, for errors.
    :param numbers: of the rows in the chunk; None: they are all of its rows.
    :param rejected: rows of the chunk that were rejected before.
    :return: what ``encode`` has returned, None if no row is left; and the rejected rows, those from before as well.
    :raises SchemaMismatch: if no single row is to blame, or if none has the columns of the file.
    :raises RowsRejected: if more rows are refused than the load may have.
    """
    every = list(rejected)
    if not rows:
        return None, every
    try:
        return _kept(encoder, lambda trial: encode(trial, rows, where)), every
    except SchemaMismatch:
        if not limit.allows(len(every) + 1):
            raise

    def refuse(row: RejectedRow) -> None:
        every.append(row)
        limit.enforce(every, where)

    numbered = list(enumerate_rows(rows) if numbers is None else zip(rows, numbers, strict=True))
    good = _good_rows(numbered, lambda part: encode(copy.copy(encoder), part, _A_ROW), where, refuse)
    if not good:
        return None, every
    return _kept(encoder, lambda trial: encode(trial, [row for row, _ in good], where)), every


def _kept(encoder: _Encoder, encode: Callable[[_Encoder], Any]) -> Any:
    """What comes out of a copy of an encoder, which then hands on what it has learned."""
    trial = copy.copy(encoder)
    found = encode(trial)
    vars(encoder).update(vars(trial))
    return found


def _good_rows(
    rows: list[NumberedRow],
    encode: Callable[[Sequence[Any]], object],
    where: str,
    refuse: Callable[[RejectedRow], None],
) -> list[NumberedRow]:
    """The rows that can be encoded alone, found by halving."""
    good: list[NumberedRow] = []
    misfits: list[str] = []
    parts = [rows]
    while parts:
        part = parts.pop()
        try:
            encode([row for row, _ in part])
        except SchemaMismatch as error:
            if len(part) > 1:
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]  # the first half is next
                continue
            ((row, at),) = part
            reason = str(error)
            if isinstance(error, WrongColumns):
                misfits.append(reason)
            refuse(RejectedRow(without_line(row), at, "table", with_line(row, reason), cause_of(reason)))
        else:
            good += part
    if len(rows) > 1 and len(misfits) == len(rows):
        raise SchemaMismatch(f"all {len(rows)} rows of {where}: {misfits[0]}")
    return good
