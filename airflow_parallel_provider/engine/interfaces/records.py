# SPDX-License-Identifier: Apache-2.0
"""What a sink receives and what it stores: results of chunks, dead letters, the load."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One item that could not be processed."""

    position: int
    """Position of the item in the source, from 0."""
    stage: str
    """Name of the stage that gave up on it."""
    cause: str
    """Error type and text, e.g. ``ValueError: no such airport``."""
    attempts: int
    """How many times the stage's function was called with it."""
    traceback: str
    """Traceback in the worker; empty when the worker died or was ended."""
    item: Any
    """The value that reached the stage: in the first stage the source's item, in a later one a result."""


@dataclass(frozen=True, slots=True)
class ChunkResult:
    """The results of one chunk, in source order: what a sink commits in one transaction."""

    chunk_id: str
    """Stable across tries; sorts in source order."""
    index: int
    """Ordinal of the chunk, from 0."""
    first_position: int
    """Position of its first item in the source."""
    items: int
    """How many items of the source the chunk has."""
    items_filtered: int
    """How many of them ended without a row of their own."""
    rows: list[Any]
    """The rows, in source order. A row may also be a table (Arrow, DataFrame) that holds many."""
    dead_letters: Sequence[DeadLetter] = ()
    """Its items that could not be processed."""
    positions: Callable[[], Sequence[int]] | None = None
    """Gives, for each row, the position in the source of its item (of several, the first)."""
    failed_items: float | None = None
    """As how many items its dead letters count for a fraction as ``tolerance``; None: not known."""
    message_ids: Sequence[str] = ()
    """Of a queue: the ids of its messages. A sink that stores them does so in the chunk's own transaction."""


@dataclass(frozen=True, slots=True)
class CommittedChunk:
    """The ledger's entry of a chunk that has committed, in this try of the load or an earlier one."""

    chunk_id: str
    items: int
    rows: int
    dead_letters: int = 0
    rows_rejected: int = 0
    failed_items: float | None = None
    """See :attr:`ChunkResult.failed_items`; None, too, if an earlier version has written the entry."""
    items_filtered: int = 0


@dataclass(frozen=True, slots=True)
class EarlierLoad:
    """What an earlier load into the same target has read."""

    state: Mapping[str, Any]
    """:meth:`Source.get_state` of its source."""
    committed: Sequence[tuple[int, int]]
    """First position and number of items of each chunk that has committed."""
    complete: bool
    """Whether that is all of them."""
    load_key: str = ""
    """Its key, for error texts."""
    is_own: bool = False
    """Whether it is the load that runs now, in an earlier try."""
    failed: Sequence[tuple[int, int]] = ()
    """Those of ``committed`` that have dead letters or rejected rows."""


@dataclass(frozen=True, slots=True)
class EarlierLoads:
    """What a source that leaves something out may ask about the loads before."""

    oldest_first: Callable[[], Sequence[EarlierLoad]]
    """All loads into the target that have committed something, read at once."""
    newest_first: Callable[[], Iterator[EarlierLoad]]
    """The same and those that are complete without a chunk, one at a time: for a source that needs the last ones."""
    chunk_size: int
    """Items per chunk of the load that begins."""
    merges: bool
    """Whether an item that comes again updates its row, and adds none."""


STREAM = "stream"
"""Of the state of a source that needs only the last complete load of its kind: a text that all of them share."""

Narrow = Callable[[EarlierLoads], Mapping[str, Any]]
"""Gives the state of a source without what earlier loads have committed."""


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """Which load a run belongs to, and what its chunks depend on.

    Two runs with the same ``load_key`` are tries of the same load: the later one skips what the earlier one committed.
    """

    load_key: str | None
    """Names the load, at most 200 characters; None: the run cannot be resumed (a new key is generated)."""
    chunk_size: int
    """Items per chunk."""
    source: str
    """:meth:`Source.identity` of the source."""
    attempt: int = 1
    """Which try this is, from 1; only stored, never part of a key."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Information for people: ``dag_id``, ``run_id``, ``task_id``, ``map_index``."""
    family: str | None = None
    """Shared by all loads that do the same work again (a task cleared in Airflow): a sink may resume or replace what an
    earlier one has left. None: ``load_key``, the author's own name of the load."""
    generation: str = ""
    """Which of the family's loads this is: the same text for every try that belongs together."""
    source_state: Mapping[str, Any] | None = None
    """:meth:`Source.get_state` of the source; kept by the first try of a load, never compared."""
    narrow: Narrow | None = None
    """:attr:`Source.narrow` of the source: of an author who wants only what no earlier load has committed."""
    ordered: bool = False
    """Whether the run commits its chunks in source order."""
    mapped: int | None = None
    """Of a task that Airflow has mapped: how many task instances there are now; None: unknown, or not mapped."""
    part: Literal["whole", "plan", "shard", "finish"] = "whole"
    """What this run does of the load: all of it, or of one that several write together its beginning, a shard of its
    chunks, or its end."""
    coordinator: str | None = None
    """Of a load whose shards another run coordinates: that run. A shard stops when the load has another one."""
    queue: str | None = None
    """Names the queue whose messages are the items; the sink then stores the ids of those it has committed."""
