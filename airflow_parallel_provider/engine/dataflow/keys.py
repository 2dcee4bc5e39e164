# SPDX-License-Identifier: Apache-2.0
"""Keys: the positions of items and results in their chunk."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, Self

Key = int | tuple[int, ...]

Keys = Sequence[Key]
"""Keys of several items or results: a list, or a ``range`` of step 1. Never changed in place."""

TABLE: Final = -1
"""Shape of a call that returned one table for its whole batch."""

ResultShape = int | list[int]
"""What one call returned: a number of results, the indexes of the items that were kept, or TABLE."""

Splits = Mapping[Key, int]
"""How many results a call has made of the item or result under a key, where it is more than one."""

_NONE_SPLIT: Final[Splits] = MappingProxyType({})


class TableKey(tuple[int, ...]):  # noqa: SLOT001 - a tuple's subclass cannot have slots
    """Key of one result that stands for several items (a table returned for a batch), or of a part of such a result.

    As a tuple it is its path, so it sorts like any other key.

    :param positions: of the items in the chunk, ascending.
    :param path: the first position and the numbers appended to it; default: the first position alone.
    :param share: as how many items it counts; default: one for each position.
    """

    positions: tuple[int, ...]
    share: float

    def __new__(
        cls, positions: Iterable[int], path: Iterable[int] | None = None, *, share: float | None = None
    ) -> Self:
        """Make a key."""
        positions = tuple(positions)
        self = super().__new__(cls, positions[:1] if path is None else path)
        self.positions = positions
        self.share = len(positions) if share is None else share
        return self


def item_positions(key: Key) -> Iterable[int]:
    """Positions in the chunk of the items a key stands for."""
    if isinstance(key, TableKey):
        return key.positions
    return (key if isinstance(key, int) else key[0],)


def share_of(key: Key, splits: Splits) -> float:
    """As how many items a result counts: the results of an item are equal parts of it.

    The shares of all results of an item never add up to more than one, whatever the order in which they are made.
    """
    if isinstance(key, int):
        return 1.0
    if isinstance(key, TableKey):
        return key.share
    share = 1.0 / splits.get(key[0], 1)
    for length in range(2, len(key)):
        share /= splits.get(key[:length], 1)
    return share


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
    if type(key) is int:
        return list(zip(itertools.repeat(key), range(count)))  # the first has no end
    return [_numbered(key, number, count) for number in range(count)]


def _numbered(key: Key, number: int, count: int) -> Key:
    path = (*sort_key(key), number)
    return TableKey(key.positions, path, share=key.share / count) if isinstance(key, TableKey) else path


def batch_splits(keys: Keys, shape: ResultShape) -> dict[Key, int]:
    """How many results each key of a batch has, of a function that returned more results than items."""
    if isinstance(shape, list) or shape <= len(keys):
        return {}
    firsts = [-(-number * shape // len(keys)) for number in range(len(keys) + 1)]  # result j belongs to item j*n//m
    return {key: firsts[at + 1] - firsts[at] for at, key in enumerate(keys)}


def batch_keys(keys: Keys, shape: ResultShape, splits: Splits = _NONE_SPLIT) -> Keys:
    """Keys of what a batch function returned for a batch with ``keys``.

    With as many results as items they match one to one. Otherwise result j of m belongs to item j*n//m of n: every
    result has an item, and order is kept. With fewer results than items, some items have no row of their own.

    :param splits: of the chunk, for the share of a table.
    """
    if isinstance(shape, list):
        return [keys[index] for index in shape]
    if shape == TABLE:
        share = float(len(keys)) if isinstance(keys, range) else sum(share_of(key, splits) for key in keys)
        return [TableKey(sorted({position for key in keys for position in item_positions(key)}), share=share)]
    if shape == len(keys):
        return keys
    owners = [keys[number * len(keys) // shape] for number in range(shape)]
    if shape <= len(keys):
        return owners
    counts = batch_splits(keys, shape)
    return [_numbered(key, number, counts[key]) for number, key in enumerate(owners)]
