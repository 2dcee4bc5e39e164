# SPDX-License-Identifier: Apache-2.0
"""A chunk: a run of consecutive items, the unit of commit and of resume."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from typing import Any

from airflow_parallel_provider.engine.dataflow.keys import Key, Keys
from airflow_parallel_provider.engine.interfaces.records import DeadLetter


class Chunk:
    """A chunk on its way through the stages."""

    __slots__ = (
        "dead",
        "dead_letters",
        "failed_items",
        "first_position",
        "front",
        "gathered_keys",
        "gathered_values",
        "index",
        "lock",
        "open",
        "reserved",
        "row_keys",
        "rows",
        "size",
        "source_done",
        "splits",
    )

    def __init__(self, index: int, first_position: int, stages: int) -> None:
        self.index = index
        self.first_position = first_position
        self.size = 0
        self.reserved = 0  # items that it counts in flight beyond its own
        self.source_done = False  # the source has yielded all its items
        self.front = 0  # the first stage that is not finished with it
        self.lock = threading.Lock()
        self.open = [0] * stages
        self.gathered_keys: list[Keys] = [()] * stages
        self.gathered_values: list[list[Any]] = [[] for _ in range(stages)]
        self.row_keys: list[Keys] = []  # of the rows, in runs as they arrived
        self.rows: list[Any] = []
        self.dead: set[int] = set()
        self.splits: dict[Key, int] = {}  # how many results a call made of an item or result, where there were several
        self.failed_items = 0.0  # what its dead letters add up to: each as much of its item as it is
        self.dead_letters: list[tuple[tuple[int, ...], DeadLetter]] = []  # each with its sort key

    @property
    def chunk_id(self) -> str:
        """The id: stable across tries, and sorts in source order."""
        return chunk_id(self.index)


def chunk_id(index: int) -> str:
    """Id of the chunk at an index."""
    return f"{index:08d}"


class ChunkCuts:
    """Where the chunks of a source begin and how many items they have at most.

    :param lengths: of each chunk, where the source cuts them itself; a load test reads it over and over. None:
        ``chunk_size`` each.
    """

    def __init__(self, chunk_size: int, lengths: Sequence[int] | None) -> None:
        self.are_full = lengths is None
        self._lengths = lengths or [chunk_size]
        self._firsts = list(itertools.accumulate(self._lengths, initial=0))

    def length(self, index: int) -> int:
        """Most items of a chunk."""
        return self._lengths[index % len(self._lengths)]

    def first(self, index: int) -> int:
        """Position of its first item."""
        rounds, at = divmod(index, len(self._lengths))
        return rounds * self._firsts[-1] + self._firsts[at]
