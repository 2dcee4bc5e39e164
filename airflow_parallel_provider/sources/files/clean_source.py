# SPDX-License-Identifier: Apache-2.0
"""Files that are moved or deleted once their load is complete."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from airflow_parallel_provider.engine.dataflow.chunk import chunk_id
from airflow_parallel_provider.engine.interfaces.records import ChunkResult, CommittedChunk, LoadSpec
from airflow_parallel_provider.engine.interfaces.sink import Sink, SinkContext
from airflow_parallel_provider.engine.interfaces.wrapped_sink import WrappedSink
from airflow_parallel_provider.errors import SinkError
from airflow_parallel_provider.sources.files.moving import CHANGED, GONE, Mover
from airflow_parallel_provider.sources.files.remembered import files_in
from airflow_parallel_provider.values.items import SourceFile

if TYPE_CHECKING:
    from airflow_parallel_provider.sources.files.moving import Outcome

log = logging.getLogger(__name__)

_AT_ONCE = 16
"""Files that are moved at the same time: each is two or three requests to an object store."""
_NAMED = 5
"""Most files that a text names."""


class CleaningSink(WrappedSink):
    """Commits in another sink, and when the load is complete there moves or deletes the files of its chunks.

    :param mover: does that to a file.
    :param conn_id: of the source.
    :param on_open: called with the ids of the chunks that are committed, and the files of a chunk.
    """

    def __init__(
        self,
        inner: Sink,
        mover: Mover,
        conn_id: str | None,
        on_open: Callable[[Collection[str], int], None],
    ) -> None:
        super().__init__(inner)
        self._mover = mover
        self._conn_id = conn_id
        self._on_open = on_open
        self._spec: LoadSpec | None = None
        self._committed: dict[str, CommittedChunk] = {}
        self._unknown = False
        self._rejected = 0
        self._stopped = threading.Event()

    def bind(self, run: SinkContext) -> None:
        """Let the inner sink report rejected rows to the run, and note them."""
        self.inner.bind(_Noting(run, self._note_rejected))

    def prepare(self, spec: LoadSpec) -> None:
        """Prepare the inner sink, and ask Airflow for the connections that the move will need."""
        self._spec = spec
        self._mover.prepare()
        self.inner.prepare(spec)

    def open(self) -> Mapping[str, CommittedChunk]:
        """Open the inner sink. The files of what is committed there may be gone."""
        committed = self.inner.open()
        self._committed = dict(committed)
        assert self._spec is not None
        self._on_open(committed.keys(), self._spec.chunk_size)
        return committed

    def commit(self, chunk: ChunkResult) -> int | None:
        """Commit in the inner sink, and note whether something of the chunk failed."""
        self._rejected = 0
        rows = self.inner.commit(chunk)
        if rows is None:
            self._unknown = True
        else:
            self._committed[chunk.chunk_id] = CommittedChunk(
                chunk.chunk_id, chunk.items, rows, len(chunk.dead_letters), self._rejected
            )
        return rows

    def finish(self) -> None:
        """Complete the load; then move or delete its files.

        :raises SinkError: if some could not be moved; names them. The load is complete then, and a retry, which reads
            nothing, moves the others.
        """
        self.inner.finish()
        assert self._spec is not None
        state = self.inner.source_state() or self._spec.source_state
        if state is None:  # no file has ever been listed
            return
        if self._unknown:  # another attempt has committed some
            self._committed.update(self.inner.committed_now() or {})
        files, left_over = files_in(state, self._spec.chunk_size, self._conn_id)
        clean = [file for file, number in files if self._is_clean(number)]
        failed = len(files) - len(clean)
        if failed:
            log.warning("%d files are in chunks of which something failed: they stay where they are", failed)
        self._clean([*clean, *left_over])

    def interrupt(self) -> None:
        """Stop between two files."""
        self._stopped.set()
        self.inner.interrupt()

    def _note_rejected(self, rows: int) -> None:
        self._rejected += rows

    def _is_clean(self, number: int) -> bool:
        chunk = self._committed.get(chunk_id(number))
        return chunk is not None and not chunk.dead_letters and not chunk.rows_rejected

    def _clean(self, files: Sequence[SourceFile]) -> None:
        self._mover.assign(files)
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="clean-source") as threads:
            outcomes = list(threads.map(self._clean_one, files))
        self._mover.count(outcomes)
        failed = [(file, each) for file, each in zip(files, outcomes, strict=True) if isinstance(each, Exception)]
        changed = [file.path for file, each in zip(files, outcomes, strict=True) if each == CHANGED]
        if changed:
            named = ", ".join(changed[:_NAMED]) + (f" and {len(changed) - _NAMED} more" if changed[_NAMED:] else "")
            log.warning("%s: changed since the load has read it, so it stays where it is", named)
        log.info("%s %d files, after their load", self._mover.done_text, sum(each != GONE for each in outcomes))
        if failed:
            file, error = failed[0]
            raise SinkError(
                f"the load is complete, but {len(failed)} of its {len(files)} files could not be {self._mover.verb}: "
                f"{file.path}: {type(error).__name__}: {error}. A retry of the task reads nothing again and goes on "
                "with them"
            ) from error

    def _clean_one(self, file: SourceFile) -> Outcome | Exception:
        if self._stopped.is_set():
            return InterruptedError("the run was stopped")
        try:
            return self._mover.clean(file)
        except Exception as error:  # noqa: BLE001 - the others are moved first
            return error


class _Noting:
    """Passes rejected rows on to the run."""

    def __init__(self, run: SinkContext, note: Callable[[int], None]) -> None:
        self._run = run
        self._note = note

    def may_reject(self, rows: int) -> bool:
        """What the run says."""
        return self._run.may_reject(rows)

    def rejected(self, cause: str, rows: int, position: int | None) -> None:
        """Note them, and tell the run."""
        self._note(rows)
        self._run.rejected(cause, rows, position)
