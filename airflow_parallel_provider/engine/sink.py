"""Where chunk results are committed: the contract of a sink, and the two sinks that need no database."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from airflow_parallel_provider.errors import PlanError


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
    """The value the stage was given (at a later stage not the source's item, but what became of it)."""


@dataclass(frozen=True, slots=True)
class ChunkResult:
    """All that came out of one chunk, in source order: what a sink commits in one transaction."""

    chunk_id: str
    """Stable across tries; sorts in source order."""
    index: int
    """Ordinal of the chunk, from 0."""
    first_position: int
    """Position of its first item in the source."""
    items: int
    """How many items of the source it holds."""
    items_filtered: int
    """How many of them ended without a row of their own."""
    rows: list[Any]
    """The rows, in source order. A row may also be a table (Arrow, DataFrame) that holds many."""
    dead_letters: Sequence[DeadLetter] = ()
    """Its items that could not be processed."""
    positions: Callable[[], Sequence[int]] | None = None
    """Gives, for each row, the position in the source of its item (of several, the first)."""
    message_ids: Sequence[str] = ()
    """Of a queue: the ids of its messages. A sink that remembers them does so in the chunk's own transaction."""


@dataclass(frozen=True, slots=True)
class CommittedChunk:
    """What a ledger says of a chunk that has committed, in this try or an earlier one."""

    chunk_id: str
    items: int
    rows: int
    dead_letters: int = 0
    rows_rejected: int = 0


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """Which load a run belongs to, and what its chunks depend on.

    Two runs with the same ``load_key`` are tries of the same load: the later one skips what the earlier one committed.
    """

    load_key: str | None
    """Names the load, at most 200 characters; None: the run cannot be resumed (a new key is made up)."""
    chunk_size: int
    """Items per chunk."""
    source: str
    """:meth:`Source.identity` of the source."""
    attempt: int = 1
    """Which try this is, from 1; only written down, never part of a key."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """For people: ``dag_id``, ``run_id``, ``task_id``, ``map_index``."""
    family: str | None = None
    """What all loads have in common that do the same work again (a task cleared in Airflow): a sink may resume or
    replace what an earlier one of them has left. None: ``load_key``, the author's own name of the load."""
    generation: str = ""
    """Which of the family's loads this is: the same text for every try that belongs together."""
    source_state: Mapping[str, Any] | None = None
    """:meth:`Source.freeze` of the source; kept by the first try of a load, never compared."""
    queue: str | None = None
    """Names the queue whose messages are the items; the sink then remembers the ids of those it has committed."""


class SinkRun(Protocol):
    """What a sink may ask its run, and tell it, while it commits."""

    def may_reject(self, rows: int) -> bool:
        """Whether the run would stay within its tolerance if so many more rows were rejected."""

    def rejected(self, cause: str, rows: int, position: int | None) -> None:
        """So many rows were rejected for this cause (a text without any value of a row), and that has committed."""


class Sink:
    """Commits chunks. Subclass and implement :meth:`commit`; the rest has defaults.

    ``prepare`` runs on the thread that called ``run`` (in Airflow the task's main thread, the only one that may talk to
    Airflow). All other methods run on the one sink thread, so a database connection opened in ``open`` never changes
    threads. The order of calls is attach, prepare, open, commit*, finish and figures (only after success), close
    (always). ``interrupt`` may come from any thread, while another call is going on.
    """

    def attach(self, run: SinkRun) -> None:
        """Told who its run is, for sinks that reject rows."""

    def prepare(self, spec: LoadSpec) -> None:
        """Resolve connections and check what can be checked. Raise to fail before anything starts."""

    def open(self) -> Mapping[str, CommittedChunk]:
        """Connect; return the chunks of this load that are already in, by chunk id. They will be skipped."""
        return {}

    def source_state(self) -> Mapping[str, Any] | None:
        """Asked after ``open``: what the source froze when the chunks that are in were read; None: nothing is kept."""
        return None

    def known_messages(self) -> frozenset[str]:
        """Asked after ``open`` for a load with a ``queue``: ids of messages that are in, by whatever load."""
        return frozenset()

    def commit(self, chunk: ChunkResult) -> int:
        """Commit one chunk, all of it or nothing; return the number of rows written. Called for each chunk once."""
        raise NotImplementedError

    def finish(self) -> None:
        """Every chunk is in: seal the load."""

    def figures(self) -> Mapping[str, Any]:
        """After ``finish``: figures over all rows of the load, plain JSON, for the report."""
        return {}

    def close(self) -> None:
        """Let go of everything. Called on every path."""

    def interrupt(self) -> None:
        """The run is being torn down and a call has not come back: break it off. Called from another thread."""

    def describe(self) -> str:
        """A short text for people: where the rows go."""
        return type(self).__name__

    def __repr__(self) -> str:
        # Part of a serialised DAG: an address in it would make a new DAG version with every parse.
        return self.describe()


class WrappedSink(Sink):
    """Another sink with something around it: all that a subclass does not change is the inner sink's."""

    def __init__(self, inner: Sink) -> None:
        self.inner = inner

    def attach(self, run: SinkRun) -> None:
        """Of the inner sink."""
        self.inner.attach(run)

    def prepare(self, spec: LoadSpec) -> None:
        """Of the inner sink."""
        self.inner.prepare(spec)

    def open(self) -> Mapping[str, CommittedChunk]:
        """Of the inner sink."""
        return self.inner.open()

    def source_state(self) -> Mapping[str, Any] | None:
        """Of the inner sink."""
        return self.inner.source_state()

    def known_messages(self) -> frozenset[str]:
        """Of the inner sink."""
        return self.inner.known_messages()

    def commit(self, chunk: ChunkResult) -> int:
        """Of the inner sink."""
        return self.inner.commit(chunk)

    def finish(self) -> None:
        """Of the inner sink."""
        self.inner.finish()

    def figures(self) -> Mapping[str, Any]:
        """Of the inner sink."""
        return self.inner.figures()

    def close(self) -> None:
        """Of the inner sink."""
        self.inner.close()

    def interrupt(self) -> None:
        """Of the inner sink."""
        self.inner.interrupt()

    def describe(self) -> str:
        """Of the inner sink."""
        return self.inner.describe()


class ListSink(Sink):
    """Keeps the rows in memory. For tests, notebooks and small results.

    ``rows`` is the list of rows in arrival order (chunk by chunk; with ``ordered=True`` that is source order);
    ``dead_letters`` the items that could not be processed.
    """

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self.dead_letters: list[DeadLetter] = []

    def commit(self, chunk: ChunkResult) -> int:
        """Append the chunk's rows."""
        self.rows.extend(chunk.rows)
        self.dead_letters.extend(chunk.dead_letters)
        return len(chunk.rows)


class CallableSink(Sink):
    """Calls a function with each chunk's list of rows.

    Known limitation: there is no ledger, so a retry calls it again for chunks it has already seen (at least once).
    """

    def __init__(self, function: Callable[[list[Any]], object]) -> None:
        self.function = function

    def commit(self, chunk: ChunkResult) -> int:
        """Hand the rows over; whatever the function returns is ignored."""
        self.function(chunk.rows)
        return len(chunk.rows)

    def describe(self) -> str:
        """Name of the function."""
        return getattr(self.function, "__qualname__", repr(self.function))


def as_sink(target: object) -> Sink:
    """Turn what an author wrote into a :class:`Sink`.

    :raises PlanError: when it is neither a sink nor a function of a list of rows.
    """
    if isinstance(target, Sink):
        return target
    if callable(target) and not isinstance(target, type):
        return CallableSink(target)
    cure = "give a Sink (SinkTable(...), ListSink()) or a function that takes a list of rows"
    if isinstance(target, type) and issubclass(target, Sink):
        cure = f"this is the class; give an instance: {target.__name__}(...)"
    raise PlanError("Pipeline.sink", target, cure)
