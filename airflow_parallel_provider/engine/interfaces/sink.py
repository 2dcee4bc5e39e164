# SPDX-License-Identifier: Apache-2.0
"""Where chunk results are committed: the contract of a sink, and two sinks without a database."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Protocol

from airflow_parallel_provider.engine.interfaces.records import ChunkResult, CommittedChunk, DeadLetter, LoadSpec
from airflow_parallel_provider.errors import PlanError
from airflow_parallel_provider.foreign.fork_guard import guarded

Choice = Callable[[Mapping[str, CommittedChunk], AbstractSet[str]], AbstractSet[str]]
"""Chooses ids of chunks of other shards; gets the chunks that are committed, and the ids that runs have taken over."""


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

    # One method for each thing that a run asks of its sink; nearly all have a default.

    @property
    def order_matters(self) -> bool:
        """Whether the rows that are there in the end depend on the order in which chunks are committed.

        A run commits them in source order then, unless its author says otherwise with ``Pipeline(ordered=False)``.
        """
        return False

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

    def check_shards(self) -> None:
        """Check that several runs at the same time may write one load into this sink (``LoadSpec.part``).

        :raises PlanError: if they may not, as for any sink without a ledger.
        """
        cure = (
            "several shards need a ledger that says which chunks are in: use a SinkTable, SinkFiles, SinkDelta or "
            "SinkIceberg, or run without shards"
        )
        raise PlanError("Pipeline.sink", self, cure)

    def check_narrow(self, field: str, value: Any, again: str | None = None) -> None:  # noqa: ARG002 - other sinks
        """Check that the sink knows what earlier loads have committed, for a source that leaves that out.

        :param field: the argument of the source that asks for it, with its value.
        :param again: the argument by which items come again all the same, so that rows must be merged; None: none do.
        :raises PlanError: if it does not, as any sink but a table.
        """
        raise PlanError(field, value, "the ledger of a SinkTable knows what is in: use one")

    @property
    def forgets(self) -> Sequence[str]:
        """The arguments by which an item that is given up, or a row that is refused, leaves no more than a count."""
        return ()

    def check_cleaned(self, field: str, value: Any, *, knows: bool) -> None:  # noqa: ARG002 - other sinks
        """Check that no later run needs the items again, for a source that removes them after the load.

        :param field: the argument of the source that asks for it.
        :param value: its value.
        :param knows: whether the source leaves out what earlier loads have committed.
        :raises PlanError: if one may, as with any sink but tables.
        """
        raise PlanError(field, value, "what is in must be known for good: use a SinkTable, SinkDelta or SinkIceberg")

    def finish_shard(self, chunks: int) -> None:
        """Every chunk of this shard is committed. The load goes on.

        :param chunks: how many chunks the whole source has.
        """
        raise NotImplementedError

    def chunks_of_source(self) -> int | None:
        """After ``open``: the number that the shards have given to :meth:`finish_shard`; None: none has."""
        raise NotImplementedError

    def takes_lines(self) -> object | None:
        """What a source must know to send rows in a form of the sink's own database; None: there is none.

        Asked for after :meth:`open`, where no stage looks at the rows.
        """
        return None

    def committed_now(self) -> Mapping[str, CommittedChunk] | None:
        """The chunks of this load that are committed by now, by any of its runs; None: the sink cannot say.

        Asked for between two commits.
        """
        return None

    def take_over(self, choose: Choice) -> AbstractSet[str]:  # noqa: ARG002 - other sinks need it
        """Note that this run takes chunks of other shards; no other run gets one of them.

        Asked for between two commits, of a shard that has nothing left to do. Nothing is locked: the owner of a chunk
        works on it all the same when it comes to it, and the ledger decides whose commit is in.

        :return: the ids of the chunks that this run has now; nothing if there are none, or if the sink cannot say.
        """
        return frozenset()

    def dismiss_shards(self) -> None:
        """After ``open``: tell all shards that a coordinator has sent (``LoadSpec.coordinator``) to stop.

        Each notices that at its next commit. Until the load is begun again, none of them can commit.
        """
        raise NotImplementedError

    def seconds_of_load(self) -> float | None:
        """After ``open``: seconds from the beginning of a load that shards write to its last commit; None: unknown."""
        return None

    def known_messages(self) -> frozenset[str]:
        """For a load with a ``queue``, after ``open``: ids of messages that are committed, by any load."""
        return frozenset()

    def commit(self, chunk: ChunkResult) -> int | None:
        """Commit one chunk, all of it or nothing. Called for each chunk once.

        :return: the number of rows written; None if another attempt at the load, which runs at the same time, has
            committed the chunk: it then counts as skipped.
        """
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


class ListSink(Sink):
    """Keeps the rows in memory. For tests, notebooks and small results.

    ``rows`` is the list of rows in arrival order (chunk by chunk; with ``ordered=True`` that is source order);
    ``dead_letters`` the items that could not be processed. A row with a value that the source could not read
    (``Unreadable``) is rejected; where the run's tolerance does not allow that, the run fails.
    """

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self.dead_letters: list[DeadLetter] = []
        self._context: SinkContext | None = None

    def bind(self, run: SinkContext) -> None:
        """Remember the run that decides how many rows may be rejected."""
        self._context = run

    def commit(self, chunk: ChunkResult) -> int:
        """Append the chunk's rows.

        :raises SourceError: with the reason, if a value was not read and its row may not be rejected.
        """
        unread = {at: found for at, row in enumerate(chunk.rows) if (found := _unreadable_in(row)) is not None}
        if unread and (self._context is None or not self._context.may_reject(len(unread))):
            next(iter(unread.values())).refuse()
        rows = [row for at, row in enumerate(chunk.rows) if at not in unread] if unread else chunk.rows
        self.rows.extend(rows)
        self.dead_letters.extend(chunk.dead_letters)
        if unread and self._context is not None:
            positions = () if chunk.positions is None else chunk.positions()
            for at, found in unread.items():
                self._context.rejected(found.reason, 1, positions[at] if at < len(positions) else None)
        return len(rows)


def _unreadable_in(row: Any) -> Any:
    """The first value of a row that was not read; of rows whose values are at hand."""
    values = row.values() if type(row) is dict else row if type(row) in (tuple, list) else ()
    return next((value for value in values if getattr(type(value), "is_unreadable", False)), None)


class CallableSink(Sink):
    """Calls a function with each chunk's list of rows.

    Known limitation: there is no ledger, so a retry calls the function again for chunks it has seen (at least once).
    """

    def __init__(self, function: Callable[[list[Any]], object]) -> None:
        self.function = function

    def commit(self, chunk: ChunkResult) -> int:
        """Call the function with the rows; its result is ignored."""
        guarded(self.function)(chunk.rows)
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
