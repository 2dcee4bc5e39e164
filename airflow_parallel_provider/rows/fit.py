"""Make a block of rows fit a table, or say which column does not and what to do about it."""

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
    same,
    within_bits,
    within_digits,
    within_significant,
)
from airflow_parallel_provider.values.kinds import KIND_OF_TYPE, Kind
from airflow_parallel_provider.values.plain import plain

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

    from airflow_parallel_provider.values.table_shape import TableColumn, TableShape

_PLAIN = frozenset(KIND_OF_TYPE)
_NONE = type(None)
_TIMES = frozenset({datetime, _NONE})
_ZONES = {Kind.DATETIME: None, Kind.DATETIMETZ: UTC}
"""The zone of the values that a column of times takes."""


def plain_column(
    block: Block, number: int, types: list[type] | None = None
) -> tuple[list[Any] | None, frozenset[type]]:
    """A column's values reduced to plain types, None when they are plain already; and the types among them.

    :param types: of the column's values, if they are known.
    """
    present = _distinct(list(map(type, block.column(number))) if types is None else types)
    if present <= _PLAIN:
        return None, present
    values = list(map(plain, block.column(number)))
    return values, _distinct(list(map(type, values)))


def _distinct(types: list[type]) -> frozenset[type]:
    # Nearly always there is one type only, and counting it takes a third less time than putting each into a set.
    if types and types.count(types[0]) == len(types):
        return frozenset((types[0],))
    return frozenset(types)


def _types_by_column(block: Block, left: Container[int]) -> dict[int, list[type]]:
    """The types of all values. One pass over all of them takes little more than half as long as one per column.

    :param left: columns that nobody asks about.
    """
    width = len(block.names)
    asked = [number for number in range(width) if number not in left]
    if not isinstance(block.rows, list) or len(asked) * 2 <= width:
        return {number: list(map(type, block.column(number))) for number in asked}
    types = list(map(type, chain.from_iterable(block.rows)))
    return {number: types[number::width] for number in asked}


@dataclass(frozen=True, slots=True)
class DriverChecks:
    """What a driver refuses by itself, so that nobody needs to look for it before: numbers of columns."""

    columns: frozenset[int] = frozenset()
    """Whose driver takes nothing but what belongs there."""
    zones: frozenset[int] = frozenset()
    """Of times, where it refuses those of another zone."""


def fit_block(
    block: Block,
    shape: TableShape,
    adapters: Mapping[Kind, Converter],
    where: str,
    *,
    first: int = 0,
    strict: DriverChecks | None = None,
) -> list[tuple[Any, ...]]:
    """The block's rows as the backend's driver takes them, columns in the block's order.

    Rows that need no change come back as the very list that was given.

    :param adapters: what the backend does with a value of a kind before its driver sees it.
    :param where: which chunk, for error texts.
    :param first: number of the block's first row in the chunk, for error texts.
    :param strict: what is left to the driver; None: nothing.
    :raises SchemaMismatch: naming column, type and cure; never a value.
    """
    check_names(block, shape, where)
    table = f"table {shape.display_name!r}"
    strict = strict or DriverChecks()
    changed: dict[int, list[Any]] = {}
    for number, types in _types_by_column(block, strict.columns).items():
        column = shape.by_name[block.names[number]]
        values, present = plain_column(block, number, types)
        if values is not None:
            changed[number] = values
        settled = (number in strict.zones and present <= _TIMES) or _is_settled(
            column, present, values or block.column(number), len(block.rows)
        )
        convert = _converter(column, present, adapters.get(column.kind, same), table, where, settled=settled)
        if convert is not None:
            changed[number] = _apply(convert, values or list(block.column(number)), column, table, where, first=first)
    return block.replaced(changed)


@dataclass(frozen=True, slots=True)
class RowSlices:
    """A block's rows made fit ``size`` at a time, when they are asked for.

    A server that has been sent the first rows works while the next ones are made fit.
    """

    block: Block
    shape: TableShape
    adapters: Mapping[Kind, Converter]
    where: str
    size: int

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """All rows, all checked."""
        starts = range(0, len(self.block.rows), self.size)
        return chain.from_iterable(self.fit(start, start + self.size) for start in starts)

    def fit(self, start: int, stop: int, strict: DriverChecks | None = None) -> list[tuple[Any, ...]]:
        """Some of the rows; as :func:`fit_block`.

        :raises NonUniformRows: when nobody has looked at the rows before, and they are not as they seemed.
        """
        part = self.block.part(start, stop)
        return fit_block(part, self.shape, self.adapters, self.where, first=start, strict=strict)


def check_names(block: Block, shape: TableShape, where: str) -> None:
    """Every column of the rows is in the table, and every column that must be filled is in the rows."""
    unknown = [name for name in block.names if name not in shape.by_name]
    if unknown:
        folded = {name.casefold(): name for name in shape.by_name}
        meant = [folded[name.casefold()] for name in unknown if name.casefold() in folded]
        hint = (
            f"it has {meant[0]!r}: write it the same way"
            if meant
            else "add the column to the table, or drop it in a stage"
        )
        names = ", ".join(map(repr, unknown[:5]))
        raise SchemaMismatch(
            f"table {shape.display_name!r} has no column {names}, which the rows have ({where}): {hint}"
        )
    computed = [name for name in block.names if shape.by_name[name].computed]
    if computed:
        raise SchemaMismatch(
            f"table {shape.display_name!r} works out column {', '.join(map(repr, computed[:5]))} by itself, and takes no "
            f"value for it ({where}): drop it in a stage"
        )
    given = set(block.names)
    missing = [c.name for c in shape.columns if c.name not in given and not c.nullable and not c.has_default]
    if missing:
        raise SchemaMismatch(
            f"table {shape.display_name!r} needs column {', '.join(map(repr, missing[:5]))} (NOT NULL, no default), "
            f"which the rows do not have ({where}): return it from the last stage"
        )


def _converter(
    column: TableColumn, present: frozenset[type], adapter: Converter, table: str, where: str, *, settled: bool
) -> Converter | None:
    """One function for all values of a column; None when they may stay as they are."""
    steps: dict[type, Converter] = {}
    for kind in present:
        if kind is _NONE:
            steps[kind] = same
            continue
        step = same if settled else _step(column, kind)
        if step is None:
            raise SchemaMismatch(f"{table}, {_refusal(column, kind)} ({where})")
        steps[kind] = _chain(_chain(step, _limit(column, kind)), adapter)
    if all(step is same for step in steps.values()):
        return None
    if len(steps) == 1:
        return next(iter(steps.values()))
    if len(steps) == 2 and _NONE in steps:
        del steps[_NONE]
        return _unless_none(next(iter(steps.values())))
    return lambda value: steps[type(value)](value)


def _is_settled(column: TableColumn, present: frozenset[type], values: Iterable[Any], count: int) -> bool:
    """Whether the values of a column of times are in the zone they must be in already."""
    zone = _ZONES.get(column.kind, ...)
    if zone is ... or not present <= _TIMES:
        return False
    if _NONE in present:
        values = [value for value in values if value is not None]
        count = len(values)
    return countOf(map(attrgetter("tzinfo"), values), zone) == count


def _step(column: TableColumn, kind: type) -> Converter | None:
    if column.kind is Kind.OTHER:
        return same
    if kind not in KIND_OF_TYPE:
        return None
    known = CONVERTERS[Kind.INT if column.kind is Kind.HUGEINT else column.kind]
    return known.get(kind)


def _limit(column: TableColumn, kind: type) -> Converter:
    """What the database would not check, or only round."""
    if column.kind is Kind.DECIMAL and column.precision is not None:
        return _unless_none(within_digits(column.precision, column.scale or 0))
    if column.kind is Kind.DECIMAL and column.digits is not None:
        return _unless_none(within_significant(column.digits))
    if column.kind is Kind.INT and (kind is not int or column.bits < 64 or column.unsigned):
        # Drivers refuse what is beyond 64 bit by themselves, but psycopg cuts what is beyond 32 and 16.
        return _unless_none(within_bits(column.bits, unsigned=column.unsigned))
    return same


def _unless_none(check: Converter) -> Converter:
    return lambda value: None if value is None else check(value)


def _chain(first: Converter, second: Converter) -> Converter:
    if second is same:
        return first
    if first is same:
        return second

    def both(value: Any) -> Any:
        middle = first(value)
        return None if middle is None else second(middle)

    return both


def _apply(
    convert: Converter, values: Sequence[Any], column: TableColumn, table: str, where: str, *, first: int
) -> list[Any]:
    try:
        return list(map(convert, values))
    except ConversionError as reason:
        row = first + _first_unconvertible(convert, values)
        raise SchemaMismatch(
            f"{table}, column {column.name!r} ({column.type_name()}) cannot take {reason} ({where}, row {row}): "
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
            f"column {column.name!r}: a value of type {kind.__module__}.{kind.__qualname__} has no place in a table; "
            "turn it into a number, text, bytes, date, dict or list in a stage"
        )
    return f"column {column.name!r} ({column.type_name()}) cannot take a value of type {kind.__qualname__}: {_cure(column)}"


def _cure(column: TableColumn) -> str:
    return (
        f"convert {column.name!r} in a stage, or declare its type before the table is made: "
        f"SinkTable(columns={{{column.name!r}: ...}})"
    )
