"""Dead letters through the stages again: where they come from, and the sink that marks them with the rows.

A replay is a load of its own. Its ledger plays no part in what is left to do: that is what no letter says that is not
resolved. A letter is marked in the very transaction that commits what became of it, so a replay that was killed, at
whatever moment, is gone on with by the next one, and two at a time cannot both have a letter.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.engine.interfaces.records import ChunkResult, CommittedChunk, DeadLetter, LoadSpec
from airflow_parallel_provider.engine.interfaces.sink import Sink, SinkContext
from airflow_parallel_provider.engine.interfaces.source import Source
from airflow_parallel_provider.errors import PlanError, SinkError
from airflow_parallel_provider.sinks.ledger.dead_letters import DeadLetterKey, FailedAgain

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.hooks.sink_table import SinkTableHook
    from airflow_parallel_provider.sinks.table import SinkTable


def check_replayable(declared: object) -> None:
    """Refuse a sink whose dead letters cannot be replayed.

    :raises PlanError: saying why.
    """
    from airflow_parallel_provider.sinks.table import SinkTable

    if not isinstance(declared, SinkTable):
        raise PlanError("sink", declared, "give the SinkTable whose dead letters are to be replayed")
    if declared.dead_letter_table is None:
        cure = f"with dead_letters={declared.dead_letters!r} it has no table of dead letters that could be replayed"
        raise PlanError("sink", declared, cure)
    if declared.write_disposition not in ("append", "merge"):
        cure = "a replay adds rows to the table: give the same SinkTable with write_disposition='append' or 'merge'"
        raise PlanError("sink.write_disposition", declared.write_disposition, cure)


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where a replayed item comes from."""

    key: DeadLetterKey
    load_key: str
    position: int


class Replay:
    """The letters of one stage on their way: the source writes down which is where, the sink asks.

    :param declared: the table and its dead letters.
    :param stage: the stage that gave the items up.
    :param load_key: only letters of this load; None: of all loads.
    :param own: the key of the replay itself: what it gives up again is not read again.
    :param allow_pickle: unpickle items whose JSON does not give them back.
    """

    def __init__(
        self, declared: SinkTable, stage: str, *, own: str, load_key: str | None = None, allow_pickle: bool = False
    ) -> None:
        self.declared = declared
        self.stage = stage
        self.load_key = load_key
        self.own = own
        self.allow_pickle = allow_pickle
        self._origins: dict[int, _Origin] = {}
        self._lock = threading.Lock()

    def put(self, position: int, origin: _Origin) -> None:
        """An item has been read."""
        with self._lock:
            self._origins[position] = origin

    def take(self, chunk: ChunkResult) -> list[_Origin]:
        """The letters of a chunk that is about to commit; stays until :meth:`done`."""
        with self._lock:
            return [self._origins[chunk.first_position + at] for at in range(chunk.items)]

    def done(self, chunk: ChunkResult) -> None:
        """The chunk is in: forget its letters, so that memory does not grow with their number."""
        with self._lock:
            for at in range(chunk.items):
                self._origins.pop(chunk.first_position + at, None)

    def source(self) -> Source:
        """The items, from the table."""
        return _LetterSource(self)

    def sink(self) -> Sink:
        """The table of rows; each chunk marks its letters."""
        return _ResolvingSink(self)


class _LetterSource(Source):
    """Yields the items of unresolved letters, over a connection of its own."""

    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        self._hook: SinkTableHook | None = None

    def prepare(self) -> None:
        """Resolve the connection."""
        from airflow_parallel_provider.hooks.sink_table import SinkTableHook

        self._hook = SinkTableHook.of(self._replay.declared)
        self._hook.resolve()

    def identity(self) -> str:
        """Which letters."""
        replay = self._replay
        return f"dead letters of {replay.declared.display_name}, stage {replay.stage}"

    def __iter__(self) -> Iterator[Any]:
        """The items; each letter is written down before its item goes out."""
        replay, hook = self._replay, self._hook
        assert hook is not None, "prepare comes first"
        with hook:
            position = 0
            for dead_letter in hook.dead_letters(replay.load_key, stage=replay.stage, but_of=replay.own):
                if dead_letter.replayable(allow_pickle=replay.allow_pickle):
                    replay.put(position, _Origin(dead_letter.key, dead_letter.load_key, dead_letter.position))
                    position += 1
                    yield dead_letter.item(allow_pickle=replay.allow_pickle)


class _ResolvingSink(Sink):
    """Commits rows, new dead letters and the marks on the old ones together."""

    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        self._run: SinkContext | None = None
        self._hook: SinkTableHook | None = None
        self._spec: LoadSpec | None = None

    def bind(self, run: SinkContext) -> None:
        """Remember who judges rejected rows."""
        self._run = run

    def prepare(self, spec: LoadSpec) -> None:
        """Resolve the connection."""
        from airflow_parallel_provider.hooks.sink_table import SinkTableHook

        self._spec = spec
        self._hook = SinkTableHook.of(self._replay.declared)
        if self._run is not None:
            self._hook.attach(self._run)
        self._hook.resolve()

    def open(self) -> Mapping[str, CommittedChunk]:
        """Begin the replay's own load."""
        assert self._spec is not None, "prepare comes first"
        return self._opened().open(self._spec)

    def commit(self, chunk: ChunkResult) -> int:
        """Commit a chunk and mark the letters it was made of.

        :raises SinkError: when somebody else has replayed one of them meanwhile; nothing is written then.
        """
        hook = self._opened()
        origins = self._replay.take(chunk)

        def mark(connection: Connection) -> None:
            marked = hook.resolve_dead_letters(connection, [origin.key for origin in origins], chunk.chunk_id)
            if marked != len(origins):
                raise SinkError(
                    f"chunk {chunk.chunk_id}: {len(origins) - marked} of its dead letters were resolved by somebody "
                    "else meanwhile, so nothing of it was written. Run the replay again: it takes those that are left"
                )

        receipt = hook.write_chunk(
            chunk.chunk_id,
            chunk.rows,
            items=chunk.items,
            items_filtered=chunk.items_filtered,
            first_position=chunk.first_position,
            dead_letters=[self._relapsed(dead_letter, chunk, origins) for dead_letter in chunk.dead_letters],
            positions=chunk.positions,
            within=mark,
        )
        self._replay.done(chunk)
        return receipt.rows

    def _relapsed(self, dead_letter: DeadLetter, chunk: ChunkResult, origins: list[_Origin]) -> FailedAgain:
        """It keeps the position and the load of the item it is about, however often that is replayed."""
        origin = origins[dead_letter.position - chunk.first_position]
        given = {each.name: getattr(dead_letter, each.name) for each in fields(DeadLetter)}
        return FailedAgain(**{**given, "position": origin.position}, load_key=origin.load_key)

    def finish(self) -> None:
        """Mark the replay's load as complete."""
        self._opened().consolidate()

    def aggregate_values(self) -> Mapping[str, Any]:
        """None: figures belong to whole loads."""
        return {}

    def close(self) -> None:
        """Let go of the connection."""
        hook, self._hook = self._hook, None
        if hook is not None:
            hook.close()

    def interrupt(self) -> None:
        """Break off the commit that is going on."""
        hook = self._hook
        if hook is not None:
            hook.interrupt()

    def describe(self) -> str:
        """Where the rows go."""
        return f"{self._replay.declared.describe()}, marking dead letters"

    def _opened(self) -> SinkTableHook:
        assert self._hook is not None, "prepare comes first"
        return self._hook
