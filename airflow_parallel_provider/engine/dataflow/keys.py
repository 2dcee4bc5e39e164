"""Keys: the positions of items and results in their chunk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Self

Key = int | tuple[int, ...]

Keys = Sequence[Key]
"""Keys of several items or results: a list, or a ``range`` of step 1. Never changed in place."""

TABLE: Final = -1
"""Shape of a call that returned one table for its whole batch."""

ResultShape = int | list[int]
"""What one call returned: a number of results, the indexes of the items that were kept, or TABLE."""


class TableKey(tuple[int, ...]):  # noqa: SLOT001 - a tuple's subclass cannot have slots
    """Key of one result that stands for several items (a table returned for a batch), or of a part of such a result.

    As a tuple it is its path, so it sorts like any other key.

    :param positions: of the items in the chunk, ascending.
    :param path: the first position and the numbers appended to it; default: the first position alone.
    """

    positions: tuple[int, ...]

    def __new__(cls, positions: Iterable[int], path: Iterable[int] | None = None) -> Self:
        """Make a key."""
        positions = tuple(positions)
        self = super().__new__(cls, positions[:1] if path is None else path)
        self.positions = positions
        return self


def item_positions(key: Key) -> Iterable[int]:
    """Positions in the chunk of the items a key stands for."""
    if isinstance(key, TableKey):
        return key.positions
    return (key if isinstance(key, int) else key[0],)


def sort_key(key: Key) -> tuple[int, ...]:
    """A form of the key that compares with keys of any depth."""
    return (key,) if isinstance(key, int) else key


def concat_keys(first: Keys, second: Keys) -> Keys:
    """The keys of both, one after the other."""
    if not first:
        return second
    if isinstance(first, range) and isinstance(second, range) and first.stop == second.start:
        return range(first.start, second.stop)
    return [*first, *second]


def concat_batches(batches: Sequence[Keys]) -> Keys:
    """The keys of all batches, one after the other."""
    first, last = batches[0], batches[-1]
    if isinstance(first, range) and isinstance(last, range):
        whole = range(first.start, last.stop)
        if len(whole) == sum(map(len, batches)) and all(type(keys) is range for keys in batches):
            return whole  # ranges of one chunk never overlap: nothing is missing between them
    return [key for keys in batches for key in keys]


def child_keys(key: Key, count: int) -> list[Key]:
    """Keys of ``count`` results of the one item or result ``key``."""
    return [_numbered(key, number) for number in range(count)]


def _numbered(key: Key, number: int) -> Key:
    path = (*sort_key(key), number)
    return TableKey(key.positions, path) if isinstance(key, TableKey) else path


def batch_keys(keys: Keys, shape: ResultShape) -> Keys:
    """Keys of what a batch function returned for a batch with ``keys``.

    With as many results as items they match one to one. Otherwise result j of m belongs to item j*n//m of n: every
    result has an item, and order is kept. With fewer results than items, some items have no row of their own.
    """
    if isinstance(shape, list):
        return [keys[index] for index in shape]
    if shape == TABLE:
        return [TableKey(sorted({position for key in keys for position in item_positions(key)}))]
    if shape == len(keys):
        return keys
    owners = [keys[number * len(keys) // shape] for number in range(shape)]
    if shape <= len(keys):
        return owners
    return [_numbered(key, number) for number, key in enumerate(owners)]
