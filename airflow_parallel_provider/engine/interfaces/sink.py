"""Where chunk results are committed: the contract of a sink, and two sinks without a database."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from airflow_parallel_provider.engine.interfaces.records import ChunkResult, CommittedChunk, DeadLetter, LoadSpec
from airflow_parallel_provider.errors import PlanError


class SinkContext(Protocol):
    """What a sink may ask of its run, and report to it, while it commits."""

    def may_reject(self, rows: int) -> bool:
        """Whether the run would stay within its tolerance if ``rows`` more rows were rejected."""

    def rejected(self, cause: str, rows: int, position: int | None) -> None:
        """Report rows that were rejected, once that has committed.

        :param cause: a text without any value of a row.
        :param position: in the source, of the first one's item.
        """


class Sink:
    """Commits chunks. Subclass and implement :meth:`commit`; the rest has defaults.

    ``prepare`` runs on the thread that called ``run`` (in Airflow the task's main thread, the only one that may talk to
    Airflow). All other methods run on the one sink thread, so a database connection opened in ``open`` never changes
    threads. The order of calls is bind, prepare, open, source_state, commit*, finish and aggregate_values (only
    after success), close (always). ``interrupt`` may come from any thread, during another call.
    """

    def bind(self, run: SinkContext) -> None:
        """Give the sink its run; for sinks that reject rows."""

    def prepare(self, spec: LoadSpec) -> None:
        """Resolve connections and check what can be checked. An error here fails the run before it starts."""

    def open(self) -> Mapping[str, CommittedChunk]:
        """Connect; return the chunks of this load that are committed already, by chunk id. They will be skipped."""
        return {}

    def source_state(self) -> Mapping[str, Any] | None:
        """The stored :meth:`Source.get_state` of the try that committed the first chunk; None: there is none."""
        return None

    def known_messages(self) -> frozenset[str]:
        """For a load with a ``queue``, after ``open``: ids of messages that are committed, by any load."""
        return frozenset()

    def commit(self, chunk: ChunkResult) -> int:
        """Commit one chunk, all of it or nothing; return the number of rows written. Called for each chunk once."""
        raise NotImplementedError

    def finish(self) -> None:
        """Every chunk is committed: mark the load as complete."""

    def aggregate_values(self) -> Mapping[str, Any]:
        """After ``finish``: the aggregates over all rows of the load, plain JSON, for the report."""
        return {}

    def close(self) -> None:
        """Release everything. Always called."""

    def interrupt(self) -> None:
        """The run is being torn down: abort the call that is running. Called from another thread."""

    def describe(self) -> str:
        """A short text for people: the destination of the rows."""
        return type(self).__name__

    def __repr__(self) -> str:
        # Part of a serialized DAG: an address in it would make a new DAG version with every parse.
        return self.describe()


class WrappedSink(Sink):
    """A wrapper around another sink: every method that a subclass does not override is the inner sink's."""

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

    Known limitation: there is no ledger, so a retry calls the function again for chunks it has seen (at least once).
    """

    def __init__(self, function: Callable[[list[Any]], object]) -> None:
        self.function = function

    def commit(self, chunk: ChunkResult) -> int:
        """Call the function with the rows; its result is ignored."""
        self.function(chunk.rows)
        return len(chunk.rows)

    def describe(self) -> str:
        """Name of the function."""
        return getattr(self.function, "__qualname__", repr(self.function))


def as_sink(target: object) -> Sink:
    """Turn the ``sink`` argument of a pipeline into a :class:`Sink`.

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
