# SPDX-License-Identifier: Apache-2.0
"""Dead letters through the stages again: a source that reads them, and a sink that resolves them with the rows.

A replay is a load of its own, but its ledger does not decide what is left to do: the dead letters that are not resolved
do. A dead letter is marked as resolved in the very transaction that commits what became of it. So after a kill, at
whatever moment, the next replay continues, and two replays at a time cannot both have one dead letter.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.engine.interfaces.records import ChunkResult, CommittedChunk, DeadLetter, LoadSpec
from airflow_parallel_provider.engine.interfaces.sink import Sink, SinkContext
from airflow_parallel_provider.engine.interfaces.source import Source
from airflow_parallel_provider.errors import PlanError, RowsRejected, SchemaMismatch, SinkError, WriteRefused
from airflow_parallel_provider.foreign.errors import error_text
from airflow_parallel_provider.sinks.ledger.dead_letters import DeadLetterKey, FailedAgain
from airflow_parallel_provider.sinks.table import SinkTable

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.sinks.ledger.dead_letters import StoredDeadLetter
    from airflow_parallel_provider.sinks.load.table_loader import TableLoader


log = logging.getLogger(__name__)

_KEY_EXISTS = (
    "If the table has the key of a replayed row already, that row may come from a later item, so it is not replaced: "
    "write ReplayDeadLettersOperator(overwrite=True) to replace it, or SinkTable(newest=...) to let a column decide"
)


def check_replayable(sink: object, *, overwrite: bool = False) -> None:
    """Refuse a sink whose dead letters cannot be replayed.

    :param overwrite: a replayed row is to replace the row with its key.
    :raises PlanError: with the reason.
    """
    if not isinstance(sink, SinkTable):
        raise PlanError("sink", sink, "give the SinkTable whose dead letters are to be replayed")
    spec = sink.spec
    if spec.dead_letter_table is None:
        cure = f"with dead_letters={spec.dead_letters!r} it has no table of dead letters that could be replayed"
        raise PlanError("sink", sink, cure)
    if spec.write_disposition not in ("append", "merge"):
        cure = "a replay adds rows to the table: give the same SinkTable with write_disposition='append' or 'merge'"
        raise PlanError("sink.write_disposition", spec.write_disposition, cure)
    if overwrite and not spec.order_matters:
        why = "only a merge replaces rows" if spec.newest is None else f"newest={spec.newest!r} decides which row stays"
        raise PlanError("overwrite", overwrite, f"{why}: leave it out")


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where a replayed item comes from."""

    key: DeadLetterKey
    load_key: str
    position: int


class Replay:
    """The dead letters of one stage on their way: the source records the origin of each item, the sink looks it up.

    :param sink: the table and its dead letters.
    :param stage: the stage that could not process the items.
    :param load_key: only dead letters of this load; None: of all loads.
    :param own: the key of the replay itself: the dead letters it writes are not read again.
    :param allow_pickle: unpickle items whose JSON does not give back the same item.
    :param overwrite: of a merge without ``newest``: a row replaces the row with its key. Else such a row is refused, as
        one that the table refuses: the row that is there may come from a later item, or a later load.
    """

    def __init__(
        self,
        sink: SinkTable,
        stage: str,
        *,
        own: str,
        load_key: str | None = None,
        allow_pickle: bool = False,
        overwrite: bool = False,
    ) -> None:
        self.spec = sink.spec
        self.inserts_only = self.spec.order_matters and not overwrite
        if self.inserts_only:
            self.spec = replace(self.spec, write_disposition="append")
        self.stage = stage
        self.load_key = load_key
        self.own = own
        self.allow_pickle = allow_pickle
        self._origins: dict[int, _Origin] = {}
        self._lock = threading.Lock()

    def put(self, position: int, origin: _Origin) -> None:
        """Record where an item comes from."""
        with self._lock:
            self._origins[position] = origin

    def origins(self, chunk: ChunkResult) -> list[_Origin]:
        """The origins of the items of a chunk."""
        with self._lock:
            return [self._origins[chunk.first_position + at] for at in range(chunk.items)]

    def forget(self, chunk: ChunkResult) -> None:
        """Delete the origins of a chunk that has committed, so that memory does not grow with their number."""
        with self._lock:
            for at in range(chunk.items):
                self._origins.pop(chunk.first_position + at, None)

    def source(self) -> Source:
        """The items, from the table of dead letters."""
        return _DeadLetterSource(self)

    def sink(self) -> Sink:
        """The table of rows; each chunk resolves its dead letters."""
        return _ResolvingSink(self)


class _DeadLetterSource(Source):
    """Yields the items of unresolved dead letters, over a connection of its own."""

    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        self._loader: TableLoader | None = None

    def prepare(self) -> None:
        """Resolve the connection."""
        from airflow_parallel_provider.sinks.load.table_loader import TableLoader

        self._loader = TableLoader(self._replay.spec)
        self._loader.resolve()

    def identity(self) -> str:
        """Which dead letters."""
        return f"dead letters of {self._replay.spec.display_name}, stage {self._replay.stage}"

    def __iter__(self) -> Iterator[Any]:
        """The items; the origin of each is recorded before it is yielded."""
        from airflow_parallel_provider.sinks.load.maintenance import unresolved_dead_letters

        replay, loader = self._replay, self._loader
        assert loader is not None, "prepare comes first"
        with loader:
            position = 0
            for dead_letter in unresolved_dead_letters(loader.destination(), replay.load_key, replay.stage, replay.own):
                if dead_letter.replayable(allow_pickle=replay.allow_pickle):
                    item = _item_of(dead_letter, allow_pickle=replay.allow_pickle)
                    if item is _MALFORMED:
                        continue
                    replay.put(position, _Origin(dead_letter.key, dead_letter.load_key, dead_letter.position))
                    position += 1
                    yield item


_MALFORMED: Any = object()


def _item_of(dead_letter: StoredDeadLetter, *, allow_pickle: bool) -> Any:
    """The item of a dead letter; :data:`_MALFORMED` where it cannot be read. That is the end of this letter only."""
    try:
        return dead_letter.item(allow_pickle=allow_pickle)
    except BaseException as error:  # noqa: BLE001 - a pickle runs code, which may raise anything
        load, chunk, number = dead_letter.key
        log.warning(
            "The dead letter %d of chunk %s, load %s (item %d of %s) stays unresolved: its item cannot be read (%s)",
            *(number, chunk, load, dead_letter.position, dead_letter.load_key, error_text(error)),
        )
        return _MALFORMED


class _ResolvingSink(Sink):
    """Commits rows, new dead letters and the marks on the old ones together."""

    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        self._context: SinkContext | None = None
        self._loader: TableLoader | None = None
        self._load_spec: LoadSpec | None = None

    @property
    def order_matters(self) -> bool:
        """Whether replayed rows replace each other."""
        return self._replay.spec.order_matters

    def bind(self, run: SinkContext) -> None:
        """Remember the run that decides how many rows may be rejected."""
        self._context = run

    def prepare(self, spec: LoadSpec) -> None:
        """Resolve the connection."""
        from airflow_parallel_provider.sinks.load.table_loader import TableLoader

        self._load_spec = spec
        self._loader = TableLoader(self._replay.spec)
        if self._context is not None:
            self._loader.bind(self._context)
        self._loader.resolve()

    def open(self) -> Mapping[str, CommittedChunk]:
        """Begin the replay's own load."""
        assert self._load_spec is not None, "prepare comes first"
        return self._running().open(self._load_spec)

    def commit(self, chunk: ChunkResult) -> int | None:
        """Commit a chunk and mark the dead letters that its items came from.

        One stays as it was if the table has refused its rows and taken none.

        :raises SinkError: if another replay has resolved one of them meanwhile; nothing is written then.
        """
        loader = self._running()
        origins = self._replay.origins(chunk)

        def mark(connection: Connection, unwritten: frozenset[int]) -> None:
            settled = [each for at, each in enumerate(origins, chunk.first_position) if at not in unwritten]
            marked = loader.load.resolve_dead_letters(connection, [each.key for each in settled], chunk.chunk_id)
            if marked != len(settled):
                raise SinkError(
                    f"chunk {chunk.chunk_id}: another replay has resolved {len(settled) - marked} of its dead letters "
                    "meanwhile, so nothing of it was written. Run the replay again: it takes those that are left"
                )

        dead_letters = [self._failed_again(dead_letter, chunk, origins) for dead_letter in chunk.dead_letters]
        try:
            receipt = loader.commit(chunk, dead_letters=dead_letters, settle=mark)
        except (RowsRejected, SchemaMismatch) as error:
            if isinstance(error, WriteRefused) or not self._replay.inserts_only:
                raise
            raise type(error)(f"{error}. {_KEY_EXISTS}") from error
        self._replay.forget(chunk)
        return None if receipt.already_committed else receipt.rows

    def _failed_again(self, dead_letter: DeadLetter, chunk: ChunkResult, origins: list[_Origin]) -> FailedAgain:
        """The new dead letter, with the position and the load of the first, however often the item is replayed."""
        origin = origins[dead_letter.position - chunk.first_position]
        values = {each.name: getattr(dead_letter, each.name) for each in fields(DeadLetter)}
        return FailedAgain(**{**values, "position": origin.position}, load_key=origin.load_key)

    def finish(self) -> None:
        """Mark the replay's load as complete."""
        self._running().consolidate()

    def aggregate_values(self) -> Mapping[str, Any]:
        """None: aggregates belong to whole loads."""
        return {}

    def close(self) -> None:
        """Close the connection."""
        loader, self._loader = self._loader, None
        if loader is not None:
            loader.close()

    def interrupt(self) -> None:
        """Abort the commit in progress."""
        loader = self._loader
        if loader is not None:
            loader.interrupt()

    def describe(self) -> str:
        """Where the rows go."""
        return f"{self._replay.spec.describe()}, marking dead letters"

    def _running(self) -> TableLoader:
        assert self._loader is not None, "prepare comes first"
        return self._loader
