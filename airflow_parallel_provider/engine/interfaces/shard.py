# SPDX-License-Identifier: Apache-2.0
"""A shard: one of several runs that write one load together, each its own chunks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from airflow_parallel_provider.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet

_CURE = "give (i, n): shard i of n, with i from 0 to n - 1, as shard=(2, 8)"


@dataclass(frozen=True, slots=True)
class Shard:
    """Shard ``index`` of ``of``. It has every ``of``-th chunk of the whole source, or run of chunks."""

    index: int
    of: int

    @classmethod
    def checked(cls, value: object) -> Self:
        """The shard that an author has given as a pair.

        :raises PlanError: for anything else.
        """
        if isinstance(value, cls):
            return value
        pair = value if isinstance(value, (tuple, list)) and len(value) == 2 else (None, None)
        index, of = pair
        if type(index) is not int or type(of) is not int or not 0 <= index < of:
            raise PlanError("Pipeline.run(shard)", value, _CURE)
        return cls(index, of)

    def takes(self, neighbors: int) -> Callable[[int], bool]:
        """Whether a chunk, by its number, belongs to this shard.

        :param neighbors: how many chunks in a row belong together, because the source reads them together.
        """
        owner = self.owner(neighbors)
        return lambda chunk: owner(chunk) == self.index

    def helps_with(
        self, chunks: int, done: AbstractSet[int], taken: AbstractSet[int], *, own: AbstractSet[int], neighbors: int
    ) -> set[int]:
        """Chunks of others that this shard takes when it has done its own ones: one, or those that are read with it.

        It is far from where the other shard is at work, and another one for each shard that helps. Only shards that
        have begun are helped: those of which a chunk is done. No chunk is helped with twice: one that has made a
        shard fail would make all of them fail, one after the other.

        :param chunks: how many the source has.
        :param done: those that are committed, by any shard.
        :param taken: those that any run has taken over before.
        :param own: those that this run has read.
        :return: nothing if there is nothing to help with.
        """
        owner = self.owner(neighbors)
        begun = set(map(owner, done))
        missing = [at for at in range(chunks) if at not in done and at not in taken | own and owner(at) in begun]
        if not missing:
            return set()
        far = missing[-1 - self.index % min(len(missing), self.of)]
        return {at for at in missing if at // neighbors == far // neighbors}

    def owner(self, neighbors: int) -> Callable[[int], int]:
        """The number of the shard that a chunk belongs to; see :meth:`takes`."""
        return lambda chunk: chunk // neighbors % self.of
