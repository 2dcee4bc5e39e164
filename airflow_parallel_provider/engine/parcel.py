"""What travels through channels: parcels of items with the keys that say where each one came from.

An item's *key* is its position in its chunk. Where one call turns an item into several results, each result's key is
the item's key with its number appended, so sorting a chunk's rows by key puts them in source order whatever the workers
did (law 5), and the first number of a key is always the item that a result belongs to (law 1).

As long as every item has one result, the keys of neighbours are a ``range``: cutting, joining and counting a thousand
of them costs as much as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, Self

from airflow_parallel_provider.engine.weight import weigh

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.flow import Chunk

Key = int | tuple[int, ...]

Keys = Sequence[Key]
"""Keys of several items or results: a list, or a ``range`` of step 1. Never changed in place."""

JOINT: Final = -1
"""Shape of a call that returned one table for its whole batch."""

Shape = int | list[int]
"""What one call gave back: a number of results, the indexes of the items that were kept, or JOINT."""


class JointKey(tuple[int, ...]):  # noqa: SLOT001 - a tuple's subclass cannot have slots of its own
    """Key of one result that stands for several items (a table returned for a batch), or of a part of such a result.

    As a tuple it is its place: it sorts like any other key.

    :param positions: of the items in the chunk, ascending.
    :param place: the first position and the numbers below it; default: the first position.
    """

    positions: tuple[int, ...]

    def __new__(cls, positions: Iterable[int], place: Iterable[int] | None = None) -> Self:
        """Make one."""
        positions = tuple(positions)
        self = super().__new__(cls, positions[:1] if place is None else place)
        self.positions = positions
        return self


class Parcel:
    """Calls to be made at one stage, all of one chunk.

    In a stage with ``batch_size`` each element of ``keys`` and ``values`` is the list of one batch, elsewhere one item.
    """

    __slots__ = ("alone", "attempt", "bytes", "chunk", "keys", "size", "splitting", "values")

    def __init__(
        self,
        chunk: Chunk,
        keys: Sequence[Any],
        values: list[Any],
        size: int,
        attempt: int = 1,
        *,
        splitting: bool = False,
        alone: bool = False,
    ) -> None:
        self.chunk = chunk
        self.keys = keys
        self.values = values
        self.size = size  # items in all calls together
        self.bytes = weigh(values)
        self.attempt = attempt
        self.splitting = splitting  # part of a batch that is being bisected: no further retries
        self.alone = alone  # suspected of killing its worker: travels in a message of its own

    def cut(self, calls: int, size: int) -> Parcel:
        """Take the first ``calls`` calls (``size`` items) out into a parcel of their own."""
        head = Parcel(
            self.chunk,
            self.keys[:calls],
            self.values[:calls],
            size,
            self.attempt,
            splitting=self.splitting,
            alone=self.alone,
        )
        self.keys = self.keys[calls:]
        del self.values[:calls]
        self.size -= size
        self.bytes -= head.bytes
        return head

    def one(self, index: int, *, batched: bool) -> Parcel:
        """Copy one call into a parcel of its own."""
        size = len(self.values[index]) if batched else 1
        return Parcel(
            self.chunk,
            [self.keys[index]],
            [self.values[index]],
            size,
            self.attempt,
            splitting=self.splitting,
            alone=self.alone,
        )


def origins(key: Key) -> Iterable[int]:
    """Positions in the chunk of the items a key stands for."""
    if isinstance(key, JointKey):
        return key.positions
    return (key if isinstance(key, int) else key[0],)


def sort_key(key: Key) -> tuple[int, ...]:
    """Make keys of different depth comparable."""
    return (key,) if isinstance(key, int) else key


def joined(first: Keys, second: Keys) -> Keys:
    """The keys of both, one after the other."""
    if not first:
        return second
    if isinstance(first, range) and isinstance(second, range) and first.stop == second.start:
        return range(first.start, second.stop)
    return [*first, *second]


def joined_batches(batches: Sequence[Keys]) -> Keys:
    """The keys of all batches, one after the other."""
    first, last = batches[0], batches[-1]
    if isinstance(first, range) and isinstance(last, range):
        whole = range(first.start, last.stop)
        if len(whole) == sum(map(len, batches)) and all(type(keys) is range for keys in batches):
            return whole  # ranges of one chunk never overlap: nothing is missing between them
    return [key for keys in batches for key in keys]


def below(key: Key, count: int) -> list[Key]:
    """Keys of ``count`` results of the one item or result ``key``."""
    return [_numbered(key, number) for number in range(count)]


def _numbered(key: Key, number: int) -> Key:
    place = (*sort_key(key), number)
    return JointKey(key.positions, place) if isinstance(key, JointKey) else place


def batch_keys(keys: Keys, shape: Shape) -> Keys:
    """Keys of what a batch function returned for a batch with ``keys``.

    As many results as items: one to one. More or fewer: result j of m belongs to item j*n//m of n, so every result has
    an owner, order is kept, and with fewer results than items the rest ended without a row of their own.
    """
    if isinstance(shape, list):
        return [keys[index] for index in shape]
    if shape == JOINT:
        return [JointKey(sorted({origin for key in keys for origin in origins(key)}))]
    if shape == len(keys):
        return keys
    owners = [keys[number * len(keys) // shape] for number in range(shape)]
    if shape <= len(keys):
        return owners
    return [_numbered(key, number) for number, key in enumerate(owners)]
