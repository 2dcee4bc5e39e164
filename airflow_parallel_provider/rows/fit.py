# SPDX-License-Identifier: Apache-2.0
"""Conversion of a block of rows for a table, or an error that names the column that does not fit and the cure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain
from operator import attrgetter, countOf
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import SchemaMismatch, WriteRefused
from airflow_parallel_provider.rows import narrow_floats
from airflow_parallel_provider.rows.block import Block
from airflow_parallel_provider.rows.column_bounds import without_bounds
from airflow_parallel_provider.rows.texts.database_texts import database_text
from airflow_parallel_provider.rows.texts.notations import from_text
from airflow_parallel_provider.values.convert import (
    CONVERTERS,
    UNIQUE_KEYS,
    ConversionError,
    Converter,
    unchanged,
    within_bits,
    within_digits,
    within_significant,
)
from airflow_parallel_provider.values.json_text import JsonNumber, tell_rounded
from airflow_parallel_provider.values.kinds import KIND_OF_TYPE, Kind
from airflow_parallel_provider.values.plain import plain
from airflow_parallel_provider.values.unreadable import Unreadable

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

    from airflow_parallel_provider.values.table_shape import TableColumn, TableShape

_PLAIN = frozenset(KIND_OF_TYPE)
_NONE = type(None)
_TIMES = frozenset({datetime, _NONE})
_FLOATS = frozenset({float, _NONE})
_ZONES = {Kind.DATETIME: None, Kind.DATETIMETZ: UTC}
"""Kind of column -> the time zone that its values must have."""


class WrongColumns(SchemaMismatch):
    """Rows have a column too many or too few. One such row is bad; if all have it, the table is not theirs."""


@dataclass(frozen=True, slots=True)
class DriverChecks:
    """Which values a driver refuses itself, so that they need no check before: by numbers of columns."""

    columns: frozenset[int] = frozenset()
    """Columns for which the driver accepts only values of the right type."""
    zones: frozenset[int] = frozenset()
    """Columns of times for which the driver refuses a time zone that does not belong there."""


def fit_block(
    block: Block,
    shape: TableShape,
    adapters: Mapping[Kind, Converter],
    context: str,
    *,
    first: int = 0,
    driver_checks: DriverChecks | None = None,
) -> list[tuple[Any, ...]]:
    """The rows of a block as the backend's driver takes them, columns in the order of the block.

    If no value needs a change, the list of the block itself is returned.

    :param adapters: ``Backend.adapters``.
    :param context: which chunk, for error texts.
    :param first: number of the block's first row in the chunk, for error texts.
    :param driver_checks: checks that are left to the driver; None: none.
    :raises SchemaMismatch: naming column, type and cure; never a value.
    """
    check_columns(block, shape, context)
    table = f"table {shape.display_name!r}"
    driver_checks = driver_checks or DriverChecks()
    changed: dict[int, list[Any]] = {}
    for number, types in _types_by_column(block, driver_checks.columns).items():
        column = shape.by_name[block.names[number]]
        values, present = plain_column(block, number, types)
        if values is not None:
            changed[number] = values
        in_zone = (number in driver_checks.zones and present <= _TIMES) or _is_in_zone(
            column, present, values or block.column(number), len(block.rows)
        )
        adapter = adapters.get(column.kind, unchanged)
        column = without_bounds(column, present, values or block.column(number))
        convert = _converter(column, present, adapter, table, context, in_zone=in_zone)
        if convert is not None:
            changed[number] = _apply(convert, values or list(block.column(number)), column, table, context, first=first)
        if JsonNumber in present and column.kind is Kind.FLOAT:
            tell_rounded(values or block.column(number), f"{table}, column {column.name!r}")
    return block.with_columns(changed)


@dataclass(frozen=True, slots=True)
class RowSlices:
    """The rows of a block, converted ``size`` at a time, when they are needed.

    So the server works on the first rows while the next ones are converted.
    """

    block: Block
    shape: TableShape
    adapters: Mapping[Kind, Converter]
    context: str
    size: int

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.block.rows)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """Iterate over all rows, fully checked."""
        starts = range(0, len(self.block.rows), self.size)
        return chain.from_iterable(self.fit(start, start + self.size) for start in starts)

    def fit(self, start: int, stop: int, driver_checks: DriverChecks | None = None) -> list[tuple[Any, ...]]:
        """Some of the rows, as :func:`fit_block` converts them.

        :raises NonUniformRows: as :meth:`Block.slice`.
        """
        part = self.block.slice(start, stop)
        return fit_block(part, self.shape, self.adapters, self.context, first=start, driver_checks=driver_checks)


def check_columns(block: Block, shape: TableShape, context: str) -> None:
    """Require that the table has every column of the rows, and the rows every column that must be filled.

    :raises WrongColumns: naming the columns and the cure.
    :raises WriteRefused: for a column that the table computes.
    """
    unknown = [name for name in block.names if name not in shape.by_name]
    if unknown:
        folded = {name.casefold(): name for name in shape.by_name}
        similar = [folded[name.casefold()] for name in unknown if name.casefold() in folded]
        hint = (
            f"it has {similar[0]!r}: write it the same way"
            if similar
            else "add the column to the table, or drop it in a stage"
        )
        names = ", ".join(map(repr, unknown[:5]))
        raise WrongColumns(
            f"table {shape.display_name!r} has no column {names}, which the rows have ({context}): {hint}"
        )
    computed = [name for name in block.names if shape.by_name[name].computed]
    if computed:
        raise WriteRefused(
            f"table {shape.display_name!r} computes column {', '.join(map(repr, computed[:5]))} itself, and accepts no "
            f"value for it ({context}): drop it in a stage"
        )
    given = set(block.names)
    missing = [c.name for c in shape.columns if c.name not in given and not c.nullable and not c.has_default]
    if missing:
        raise WrongColumns(
            f"table {shape.display_name!r} needs column {', '.join(map(repr, missing[:5]))} (NOT NULL, no default), "
            f"which the rows do not have ({context}): return it from the last stage"
        )


def plain_column(
    block: Block, number: int, types: list[type] | None = None
) -> tuple[list[Any] | None, frozenset[type]]:
    """The values of a column reduced to plain types, None when they are plain already; and which types occur.

    :param types: the type of each value, if known.
    """
    present = _distinct(list(map(type, block.column(number))) if types is None else types)
    if present <= _PLAIN:
        return None, present
    values = list(map(plain, block.column(number)))
    return values, _distinct(list(map(type, values)))


def _distinct(types: list[type]) -> frozenset[type]:
    # Nearly always there is only one type, and counting it takes a third less time than building a set.
    if types and types.count(types[0]) == len(types):
        return frozenset((types[0],))
    return frozenset(types)


def _types_by_column(block: Block, skipped: Container[int]) -> dict[int, list[type]]:
    """Number of a column -> the type of each value.

    One pass over all columns takes little more than half as long as one pass for each.

    :param skipped: columns that are left out.
    """
    width = len(block.names)
    wanted = [number for number in range(width) if number not in skipped]
    if not isinstance(block.rows, list) or len(wanted) * 2 <= width:
        return {number: list(map(type, block.column(number))) for number in wanted}
    types = list(map(type, chain.from_iterable(block.rows)))
    return {number: types[number::width] for number in wanted}


def _converter(
    column: TableColumn, present: frozenset[type], adapter: Converter, table: str, context: str, *, in_zone: bool
) -> Converter | None:
    """One function for all values of a column; None when no value needs a change."""
    steps: dict[type, Converter] = {}
    for kind in present:
        if kind is _NONE:
            steps[kind] = unchanged
            continue
        step = unchanged if in_zone else _conversion(column, kind)
        if step is None:
            raise SchemaMismatch(
                f"{table}, column {column.name!r}: a value of type {kind.__module__}.{kind.__qualname__} cannot be "
                f"stored in a table: convert it to a number, text, bytes, date, dict or list in a stage ({context})"
            )
        steps[kind] = _compose(_compose(step, _bound_check(column, kind)), adapter)
    if all(step is unchanged for step in steps.values()):
        return None
    if len(steps) == 1:
        return next(iter(steps.values()))
    if len(steps) == 2 and _NONE in steps:
        del steps[_NONE]
        return _skip_none(next(iter(steps.values())))
    return lambda value: steps[type(value)](value)


def _is_in_zone(column: TableColumn, present: frozenset[type], values: Iterable[Any], count: int) -> bool:
    """Whether all values of a column of times have the time zone that they must have."""
    zone = _ZONES.get(column.kind, ...)
    if zone is ... or not present <= _TIMES:
        return False
    if _NONE in present:
        values = [value for value in values if value is not None]
        count = len(values)
    return countOf(map(attrgetter("tzinfo"), values), zone) == count


def _conversion(column: TableColumn, kind: type) -> Converter | None:
    if kind is Unreadable:
        return partial(database_text, column.takes_texts_of)
    if column.kind is Kind.OTHER:
        return CONVERTERS[Kind.OTHER].get(kind) or unchanged
    if kind not in KIND_OF_TYPE:
        return None
    if column.takes_spans and issubclass(kind, timedelta):
        return unchanged
    parse = None
    if column.parse_texts and kind is str:
        parse = from_text(column.kind, bits=column.bits, unique_keys=column.unique_keys)
    checked = UNIQUE_KEYS.get(kind) if column.unique_keys else None
    by_type = CONVERTERS[Kind.INT if column.kind is Kind.HUGEINT else column.kind]
    return parse or checked or by_type.get(kind) or _refuse


def _bound_check(column: TableColumn, kind: type) -> Converter:
    """Refuses a value that the database would not refuse, but round or cut off."""
    if column.kind is Kind.DECIMAL and column.precision is not None:
        return _skip_none(within_digits(column.precision, column.scale or 0))
    if column.kind is Kind.DECIMAL and column.digits is not None:
        return _skip_none(within_significant(column.digits))
    if column.kind is Kind.INT and (kind is not int or column.bits < 64 or column.unsigned):
        # Drivers refuse an integer beyond 64 bit, but psycopg cuts off one beyond 32 or 16.
        return _skip_none(within_bits(column.bits, unsigned=column.unsigned))
    if column.kind is Kind.FLOAT and column.scale is not None:
        return _skip_none(narrow_floats.limited(column.scale))
    if column.kind is Kind.FLOAT and column.bits < 64:
        return _skip_none(narrow_floats.rounded if issubclass(kind, float) else narrow_floats.exact)
    return unchanged


def _skip_none(check: Converter) -> Converter:
    return lambda value: None if value is None else check(value)


def _compose(first: Converter, second: Converter) -> Converter:
    if second is unchanged:
        return first
    if first is unchanged:
        return second

    def both(value: Any) -> Any:
        result = first(value)
        return None if result is None else second(result)

    return both


def _apply(
    convert: Converter, values: Sequence[Any], column: TableColumn, table: str, context: str, *, first: int
) -> list[Any]:
    try:
        return list(map(convert, values))
    except ConversionError as reason:
        row = first + _first_unconvertible(convert, values)
        raise SchemaMismatch(
            f"{table}, column {column.name!r} ({column.type_name()}) cannot take {reason} ({context}, row {row}): "
            f"{getattr(reason, 'cure', None) or _cure(column, str(reason))}"
        ) from None


def _first_unconvertible(convert: Converter, values: Sequence[Any]) -> int:
    for row, value in enumerate(values):
        try:
            convert(value)
        except ConversionError:
            return row
    return -1


def _refuse(value: Any) -> Any:
    raise ConversionError(f"a value of type {type(value).__qualname__}")


def _cure(column: TableColumn, reason: str) -> str:
    if reason.startswith("a text that is not") and column.parse_texts:
        return f"correct it, or say how {column.name!r} is written (CSV: formats= or na_values= of csv_options)"
    parse = ""
    if reason.endswith("type str") and not column.parse_texts and from_text(column.kind) is not None:
        parse = "; SinkTable(parse_texts=True) reads numbers in texts"
    if column.declared:
        return (
            f"convert {column.name!r} in a stage, or change the type of the column in the table: what "
            f"SinkTable(columns=...) declares is used only when the table is created{parse}"
        )
    return (
        f"convert {column.name!r} in a stage, or declare its type before the table is created: "
        f"SinkTable(columns={{{column.name!r}: ...}}){parse}"
    )
