"""Where chunk results are committed: the contract of a sink, and the two sinks that need no database."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from airflow_parallel_provider.engine.interfaces.records import ChunkResult, CommittedChunk, DeadLetter, LoadSpec
from airflow_parallel_provider.errors import PlanError


class SinkContext(Protocol):
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

    def bind(self, run: SinkContext) -> None:
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

    def aggregate_values(self) -> Mapping[str, Any]:
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

    def bind(self, run: SinkContext) -> None:
        """Of the inner sink."""
        self.inner.bind(run)

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

    def aggregate_values(self) -> Mapping[str, Any]:
        """Of the inner sink."""
        return self.inner.aggregate_values()

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
