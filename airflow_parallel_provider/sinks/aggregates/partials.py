# SPDX-License-Identifier: Apache-2.0
"""The partials of a chunk, how they are merged, and the results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from airflow_parallel_provider.errors import SchemaMismatch
from airflow_parallel_provider.rows.fit import plain_column
from airflow_parallel_provider.sinks.aggregates.distinct import digest
from airflow_parallel_provider.sinks.aggregates.operations import NUMBERS, OPERATION, UnsuitableValue
from airflow_parallel_provider.values.json_text import JsonNumber
from airflow_parallel_provider.values.typed_json import dumps, loads
from airflow_parallel_provider.values.unreadable import Unreadable

if TYPE_CHECKING:
    from airflow_parallel_provider.rows.block import Block
    from airflow_parallel_provider.sinks.aggregates.declare import Aggregate

OTHER: Final = "(other)"
"""The name under which the values of ``by`` are aggregated that are too many to have their own result."""
_KEYS = (str, int, float, bool, Decimal, date, datetime, time, UUID, type(None))
_KEY_LENGTH = 200
_NO_CAP = 1 << 62

Partials = Mapping[str, Any]
"""Name of an aggregate -> its state; with ``by``, ``{"groups": [[value, state], ...], "other": state or None}``."""


def partials_of(block: Block, aggregates: Mapping[str, Aggregate], where: str) -> dict[str, Any]:
    """The partials of a chunk's rows.

    :param where: which chunk, for error texts.
    :raises SchemaMismatch: if an aggregate cannot be computed from the values of a column; names no value.
    """
    columns = _Columns(block)
    found = {}
    for name, aggregate in aggregates.items():
        try:
            found[name] = _partial(columns, aggregate)
        except (UnsuitableValue, TypeError) as reason:  # TypeError: values that are not hashable
            what = (
                str(reason) if isinstance(reason, UnsuitableValue) else "values that are not hashable (a dict, a list)"
            )
            raise SchemaMismatch(
                f"aggregates[{name!r}]: {aggregate.as_text()} cannot take {what} ({where}): convert the column in a "
                "stage, or leave the aggregate out"
            ) from None
    return found


def merge_partials(all_partials: Sequence[Partials], aggregates: Mapping[str, Aggregate]) -> dict[str, Any]:
    """The partials of all rows together; of no partials, those of no rows.

    :raises SchemaMismatch: if the values of different chunks cannot be combined; names no value.
    """
    merged = {}
    for name, aggregate in aggregates.items():
        states = [partials[name] for partials in all_partials if name in partials]
        try:
            merged[name] = _merge_states(states, aggregate)
        except UnsuitableValue as reason:
            raise SchemaMismatch(
                f"aggregates[{name!r}]: {aggregate.as_text()} cannot take {reason} (in different chunks). The rows "
                "have committed: convert the column in a stage, or leave the aggregate out, and use another load_key"
            ) from None
    return merged


def _merge_states(states: Sequence[Any], aggregate: Aggregate) -> Any:
    if aggregate.by is not None:
        return _merge_groups(states, aggregate)
    operation = OPERATION[aggregate.operation]
    return operation.merge(states) if states else operation.of(())


def results_of(partials: Partials, aggregates: Mapping[str, Aggregate]) -> dict[str, Any]:
    """A result for each name; of an aggregate with ``by``, a dict of results by the values of the column."""
    return {name: _result_of(partials[name], aggregate) for name, aggregate in aggregates.items()}


def to_text(partials: Partials) -> str:
    """For the ledger."""
    text, exact = dumps(dict(partials), _NO_CAP)
    assert exact, "a partial holds what cannot be read back"
    return text


def from_text(text: str) -> Partials:
    """From the ledger."""
    found: Partials = loads(text)
    return found


class _Columns:
    """Columns of a block in plain values; each is read once, however many aggregates need it."""

    def __init__(self, block: Block) -> None:
        self._block = block
        self._values: dict[str, list[Any]] = {}
        self.rows = len(block.rows)

    def __getitem__(self, name: str) -> list[Any]:
        if name not in self._values:
            self._values[name] = self._read(name)
        return self._values[name]

    def _read(self, name: str) -> list[Any]:
        if name not in self._block.names:
            return [None] * self.rows
        number = self._block.names.index(name)
        values, present = plain_column(self._block, number)
        values = list(self._block.column(number)) if values is None else values
        if Unreadable in present:
            found = next(value for value in values if type(value) is Unreadable)
            raise UnsuitableValue(f"{found.reason}, read from {found.place}")
        if JsonNumber in present:
            return [value.decimal if type(value) is JsonNumber else value for value in values]
        return values


def _partial(columns: _Columns, aggregate: Aggregate) -> Any:
    operation = OPERATION[aggregate.operation]
    values = [True] * columns.rows if aggregate.column is None else columns[aggregate.column]
    if aggregate.by is None:
        return operation.of(_present(values, aggregate))
    groups: dict[Any, list[Any]] = {}
    for key, value in zip(columns[aggregate.by], values, strict=True):
        groups.setdefault(_group_key(key), []).append(value)
    states = [[key, operation.of(_present(group, aggregate))] for key, group in groups.items()]
    return _bounded(states, aggregate)


def _present(values: Iterable[Any], aggregate: Aggregate) -> list[Any]:
    present = [value for value in values if value is not None and value == value]  # noqa: PLR0124  # NaN is not
    if OPERATION[aggregate.operation].numbers_only:
        unsuitable = set(map(type, present)) - NUMBERS
        if unsuitable:
            kinds = " and ".join(sorted(kind.__qualname__ for kind in unsuitable))
            raise UnsuitableValue(f"values of type {kinds}")
    return present


class _Other:
    """Stands for the group of the values that have no result of their own."""


def _group_key(key: Any) -> Any:
    if not isinstance(key, _KEYS):
        raise UnsuitableValue(f"a value of type {type(key).__qualname__} in the column of by=")
    if isinstance(key, str) and len(key) > _KEY_LENGTH:
        return _Other
    return None if key != key else key  # noqa: PLR0124  # NaN


def _bounded(states: Iterable[Sequence[Any]], aggregate: Aggregate) -> dict[str, Any]:
    """Keep the groups with the smallest digests of their values, merge the others.

    A value that is kept in the end was kept in every chunk then, so the result does not depend on how the rows are
    divided into chunks, nor on the order of the chunks.
    """
    named = [[key, state] for key, state in states if key is not _Other]
    rest = [state for key, state in states if key is _Other]
    if len(named) > aggregate.groups:
        named.sort(key=lambda pair: digest(pair[0]))
        rest += [state for _, state in named[aggregate.groups :]]
        named = named[: aggregate.groups]
    merge = OPERATION[aggregate.operation].merge
    return {"groups": named, "other": merge(rest) if rest else None}


def _merge_groups(partials: Sequence[Any], aggregate: Aggregate) -> dict[str, Any]:
    merge = OPERATION[aggregate.operation].merge
    by_key: dict[Any, list[Any]] = {}
    for partial in partials:
        for key, state in partial["groups"]:
            by_key.setdefault(key, []).append(state)
        if partial["other"] is not None:
            by_key.setdefault(_Other, []).append(partial["other"])
    return _bounded([[key, merge(states)] for key, states in by_key.items()], aggregate)


def _result_of(partial: Any, aggregate: Aggregate) -> Any:
    result = OPERATION[aggregate.operation].result
    if aggregate.by is None:
        return result(partial, aggregate)
    found = {key: result(state, aggregate) for key, state in sorted(partial["groups"], key=lambda pair: str(pair[0]))}
    if partial["other"] is not None:
        found[OTHER] = result(partial["other"], aggregate)
    return found
