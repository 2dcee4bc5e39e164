"""Conversion of a block of rows for a table, or an error that names the column that does not fit and the cure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from operator import attrgetter, countOf
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import SchemaMismatch
from airflow_parallel_provider.rows.block import Block
from airflow_parallel_provider.values.convert import (
    CONVERTERS,
    ConversionError,
    Converter,
    unchanged,
    within_bits,
    within_digits,
    within_significant,
)
from airflow_parallel_provider.values.json_text import JsonNumber
from airflow_parallel_provider.values.kinds import KIND_OF_TYPE, Kind
from airflow_parallel_provider.values.plain import plain

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

    from airflow_parallel_provider.values.table_shape import TableColumn, TableShape

_PLAIN = frozenset(KIND_OF_TYPE)
_NONE = type(None)
_TIMES = frozenset({datetime, _NONE})
_ZONES = {Kind.DATETIME: None, Kind.DATETIMETZ: UTC}
"""Kind of column -> the time zone that its values must have."""


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
        convert = _converter(column, present, adapters.get(column.kind, unchanged), table, context, in_zone=in_zone)
        if convert is not None:
            changed[number] = _apply(convert, values or list(block.column(number)), column, table, context, first=first)
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

    :raises SchemaMismatch: naming the columns and the cure.
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
        raise SchemaMismatch(
            f"table {shape.display_name!r} has no column {names}, which the rows have ({context}): {hint}"
        )
    computed = [name for name in block.names if shape.by_name[name].computed]
    if computed:
        raise SchemaMismatch(
            f"table {shape.display_name!r} computes column {', '.join(map(repr, computed[:5]))} itself, and accepts no "
            f"value for it ({context}): drop it in a stage"
        )
    given = set(block.names)
    missing = [c.name for c in shape.columns if c.name not in given and not c.nullable and not c.has_default]
    if missing:
        raise SchemaMismatch(
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
            raise SchemaMismatch(f"{table}, {_refusal(column, kind)} ({context})")
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
    if column.kind is Kind.OTHER:
        return attrgetter("decimal") if kind is JsonNumber else unchanged
    if kind not in KIND_OF_TYPE:
        return None
    return CONVERTERS[Kind.INT if column.kind is Kind.HUGEINT else column.kind].get(kind)


def _bound_check(column: TableColumn, kind: type) -> Converter:
    """Refuses a value that the database would not refuse, but round or cut off."""
    if column.kind is Kind.DECIMAL and column.precision is not None:
        return _skip_none(within_digits(column.precision, column.scale or 0))
    if column.kind is Kind.DECIMAL and column.digits is not None:
        return _skip_none(within_significant(column.digits))
    if column.kind is Kind.INT and (kind is not int or column.bits < 64 or column.unsigned):
        # Drivers refuse an integer beyond 64 bit, but psycopg cuts off one beyond 32 or 16.
        return _skip_none(within_bits(column.bits, unsigned=column.unsigned))
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
            f"{_cure(column)}"
        ) from None


def _first_unconvertible(convert: Converter, values: Sequence[Any]) -> int:
    for row, value in enumerate(values):
        try:
            convert(value)
        except ConversionError:
            return row
    return -1


def _refusal(column: TableColumn, kind: type) -> str:
    if kind not in KIND_OF_TYPE:
        return (
            f"column {column.name!r}: a value of type {kind.__module__}.{kind.__qualname__} cannot be stored in a "
            "table: convert it to a number, text, bytes, date, dict or list in a stage"
        )
    return (
        f"column {column.name!r} ({column.type_name()}) cannot take a value of type {kind.__qualname__}: "
        f"{_cure(column)}"
    )


def _cure(column: TableColumn) -> str:
    return (
        f"convert {column.name!r} in a stage, or declare its type before the table is created: "
        f"SinkTable(columns={{{column.name!r}: ...}})"
    )
