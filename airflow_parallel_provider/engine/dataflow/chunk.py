"""A chunk: a run of consecutive items, the unit of commit and of resume."""

from __future__ import annotations

import threading
from typing import Any

from airflow_parallel_provider.engine.dataflow.keys import Keys
from airflow_parallel_provider.engine.interfaces.records import DeadLetter


class Chunk:
    """A chunk on its way through the stages."""

    __slots__ = (
        "dead",
        "dead_letters",
        "first_position",
        "front",
        "gathered_keys",
        "gathered_values",
        "index",
        "lock",
        "made_of",
        "open",
        "row_keys",
        "rows",
        "size",
        "source_done",
    )

    def __init__(self, index: int, first_position: int, stages: int) -> None:
        self.index = index
        self.first_position = first_position
        self.size = 0
        self.source_done = False  # the source has yielded all its items
        self.front = 0  # the first stage that is not finished with it
        self.lock = threading.Lock()
        self.open = [0] * stages
        self.gathered_keys: list[Keys] = [()] * stages
        self.gathered_values: list[list[Any]] = [[] for _ in range(stages)]
        self.row_keys: list[Keys] = []  # of the rows, in runs as they arrived
        self.rows: list[Any] = []
        self.dead: set[int] = set()
        self.made_of: dict[int, int] = {}  # results of an item of which a stage made several
        self.dead_letters: list[tuple[tuple[int, ...], DeadLetter]] = []  # each with its sort key

    def count_results(self, position: int, results: int) -> None:
        """A stage made several results of one item, or of one of its results."""
        with self.lock:
            self.made_of[position] = self.made_of.get(position, 1) + results - 1

    @property
    def chunk_id(self) -> str:
        """The id: stable across tries, and sorts in source order."""
        return chunk_id(self.index)


def chunk_id(index: int) -> str:
    """Id of the chunk at an index."""
    return f"{index:08d}"
