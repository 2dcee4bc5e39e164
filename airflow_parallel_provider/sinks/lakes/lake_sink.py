# SPDX-License-Identifier: Apache-2.0
"""What sinks of lake tables have in common: what their authors declare, and their life in a run."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_parallel_provider.checks import check_text, check_whole, key_columns
from airflow_parallel_provider.engine.interfaces.records import ChunkResult, CommittedChunk, LoadSpec
from airflow_parallel_provider.engine.interfaces.sink import Sink, SinkContext
from airflow_parallel_provider.errors import PlanError, SinkError
from airflow_parallel_provider.rows.validate import check_validate
from airflow_parallel_provider.sinks.aggregates.declare import Aggregate, declared_aggregates
from airflow_parallel_provider.sinks.spec.table_checks import check_cleaned

if TYPE_CHECKING:
    from airflow_parallel_provider.sinks.files.store import FileStore
    from airflow_parallel_provider.sinks.lakes.arrow_types import TypeRules
    from airflow_parallel_provider.sinks.lakes.lake_load import LakeLoad
    from airflow_parallel_provider.sinks.lakes.publisher import Publisher


@dataclass(unsafe_hash=True)
class LakeSink(Sink):
    """A table that receives the rows of a load in one commit, when all of them are written; see its subclasses."""

    # One method for each of the sink's contract.

    own_name: ClassVar[str] = "LakeSink"
    """For error texts, also of subclasses."""
    format_name: ClassVar[str] = "lake"

    _: KW_ONLY
    conn_id: str | None = None
    """Airflow connection."""
    write_disposition: Literal["append", "merge", "replace"] = "append"
    """``append`` adds the rows. ``merge`` puts each in the place of the row with the same ``primary_key``, and adds it
    if there is none. ``replace`` puts them in the place of all rows that the table has. All in one commit; earlier
    versions stay readable until they are deleted."""
    primary_key: str | Iterable[str] = ()
    """For ``merge``: columns that make a row unique. Of two rows of a load with one key the later in the source stays.
    A row without a value in one of them is refused."""
    columns: Sequence[str] | None = None
    """Names for rows that are tuples, and the columns of a new table. None: those of the first chunk."""
    on_schema_change: Literal["refuse", "add_columns"] = "refuse"
    """What becomes of a column that the table does not have: its rows are refused, or the column is added, with NULL in
    all other rows. A column of nothing but None is not added, and no column changes its type."""
    on_rerun: Literal["resume", "append"] | None = None
    """What a Clear, or another run with the same ``load_key``, does after a load that is in the table: ``resume`` skips
    its chunks, ``append`` adds the rows again. None: ``resume`` if the author has set a ``load_key``, else ``append``.
    With ``write_disposition="replace"``, ``append`` replaces the rows again, with ``merge`` it merges them again. A
    retry always resumes."""
    validate: Any = None
    """A function of a row, or a pydantic model, that decides which rows are valid; as in ``SinkTable``."""
    max_rejected: int | None = None
    """How many rows of a load may be rejected. In a pipeline each rejected row also counts as one failed item for its
    ``tolerance``."""
    aggregates: Mapping[str, str | Aggregate] | None = None
    """Aggregates over all rows of the load, as in ``SinkTable``."""
    published_version: int | None = field(default=None, init=False, repr=False, compare=False)
    """The version of the table after the last run of this sink; None if it has not run."""
    _context: SinkContext | None = field(default=None, init=False, repr=False, compare=False)
    _run: _Run | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check and normalize."""
        check_text(f"{self.own_name}.conn_id", self.conn_id, optional=True)
        _check_choice(self, "write_disposition", ("append", "merge", "replace"))
        _check_choice(self, "on_schema_change", ("refuse", "add_columns"))
        if self.on_rerun is not None:
            _check_choice(self, "on_rerun", ("resume", "append"), "; rows of one earlier load cannot be replaced there")
        if self.columns is not None:
            if isinstance(self.columns, str) or not all(isinstance(name, str) and name for name in self.columns):
                raise PlanError(f"{self.own_name}.columns", self.columns, "give a list of names, or leave it out")
            self.columns = tuple(self.columns)
        self.primary_key = self._checked_key()
        check_validate(self.validate)
        if self.max_rejected is not None:
            check_whole(f"{self.own_name}.max_rejected", self.max_rejected, 0, 2**63 - 1)
        self.aggregates = tuple(declared_aggregates(self.aggregates).items())  # type: ignore[assignment]  # hashable

    def _checked_key(self) -> tuple[str, ...]:
        field = f"{self.own_name}.primary_key"
        key = key_columns(self.primary_key, field)
        if self.write_disposition == "merge" and not key:
            raise PlanError(field, key, "merge needs the columns that make a row unique, e.g. primary_key=['id']")
        if self.write_disposition != "merge" and key:
            raise PlanError(field, key, "only write_disposition='merge' asks for a key: write it, or leave the key out")
        for name in key if self.columns is not None else ():
            if name not in self.columns:  # type: ignore[operator]  # not None
                raise PlanError(field, name, "it is not among columns; add it there")
        return key

    def bind(self, run: SinkContext) -> None:
        """Remember the run that decides how many rows may be rejected."""
        self._context = run

    @abstractmethod
    def _open_table(self) -> tuple[FileStore, Publisher, TypeRules, threading.Event]:
        """Where parts go, what publishes them, the types of the format, and what is set to end a wait.

        :raises PlanError: if the library is not installed, or there is no such connection or storage.
        """

    def prepare(self, spec: LoadSpec) -> None:
        """Open the storage; nothing after this asks Airflow.

        :raises PlanError: if there is no such connection or storage, or the library is not installed.
        :raises SinkError: if the table cannot be read.
        """
        from airflow_parallel_provider.rows.rejection_limit import RejectionLimit
        from airflow_parallel_provider.sinks.lakes.encoder import LakeEncoder
        from airflow_parallel_provider.sinks.lakes.lake_load import LakeLoad, LoadOptions

        if self._run is not None:
            cure = f"this {self.own_name} is in use by another run; give each run its own"
            raise PlanError("Pipeline.sink", self, cure)
        store, publisher, rules, stopped = self._open_table()
        columns = None if self.columns is None else tuple(self.columns)
        options = LoadOptions(
            columns,
            replace=self.write_disposition == "replace",
            key=tuple(self.primary_key),
            add_columns=self.on_schema_change == "add_columns",
            validate=self.validate,
            aggregates=self._aggregates(),
        )
        encoder = LakeEncoder(columns, rules, publisher, add_columns=options.add_columns, key=options.key)
        limit = RejectionLimit(self.max_rejected, self._context)
        load = LakeLoad(
            store, _named(spec, self.on_rerun), encoder, publisher, options, limit=limit, reached=self.reached
        )
        self._run = _Run(load, publisher, stopped)

    def open(self) -> Mapping[str, CommittedChunk]:
        """Create the folder; return the chunks whose parts exist, and all of a load that is in the table.

        :raises LoadMismatch: if the load was begun with another chunk size or source, or another task instance of a
            mapped task has it, or replaces the table, too.
        :raises SinkError: if the table cannot be read, or asks of its files what is not done here.
        """
        columns = None if self.columns is None else list(self.columns)
        return self._running().load.begin(self.format_name, columns, replaces=self.write_disposition == "replace")

    def source_state(self) -> Mapping[str, Any] | None:
        """The state the source had at the first attempt at this load; None as long as no part exists."""
        return self._running().load.source_state

    def check_shards(self) -> None:
        """Several shards may write one load: each notes its parts in a file of its own.

        :raises PlanError: if columns may be added: the shards would have to agree on them.
        """
        if self.on_schema_change == "add_columns":
            cure = "shards cannot agree on new columns: add them to the table first, or run without shards"
            raise PlanError(f"{self.own_name}.on_schema_change", self.on_schema_change, cure)

    def check_cleaned(self, field: str, value: Any, *, knows: bool) -> None:
        """What is left of a source must not be added again, so the table must merge.

        :raises PlanError: unless it does.
        """
        dispositions = {"write_disposition": self.write_disposition, "on_rerun": self.on_rerun}
        check_cleaned(self.own_name, dispositions, None, f"{field}={value!r}", knows=knows)

    def finish_shard(self, chunks: int) -> None:
        """Note how many chunks the source has."""
        self._running().load.finish_shard(chunks)

    def chunks_of_source(self) -> int | None:
        """How many chunks the source has, as its shards have found."""
        return self._running().load.source_chunks

    def committed_now(self) -> Mapping[str, CommittedChunk] | None:
        """The chunks that shards have noted by now, for who watches them; a shard notes its parts once a second."""
        return self._running().load.notes.chunks()

    def dismiss_shards(self) -> None:
        """Take the coordinator out of the load's note."""
        self._running().load.notes.dismiss()

    def seconds_of_load(self) -> float | None:
        """From the beginning of the load to its last part, by the notes."""
        return self._running().load.span.seconds

    def commit(self, chunk: ChunkResult) -> int | None:
        """Write the part of a chunk; a chunk without rows has none."""
        return self._running().load.write(chunk)

    def finish(self) -> None:
        """Publish the load in one commit, unless it is in the table."""
        run = self._running()
        run.load.check_mapped(replaces=self.write_disposition == "replace")
        run.load.complete()
        self.published_version = run.publisher.version()

    def aggregate_values(self) -> Mapping[str, Any]:
        """``aggregates`` over the whole load, as plain JSON."""
        if not self.aggregates:
            return {}
        from airflow_parallel_provider.sinks.aggregates.report_view import report_view

        return report_view(self._running().load.aggregates())

    def close(self) -> None:
        """Note which parts exist; the sink may then serve another run."""
        run, self._run, self._context = self._run, None, None
        if run is not None:
            try:
                run.load.record_progress()
            finally:
                run.publisher.close()

    def interrupt(self) -> None:
        """End the wait for a publication, from another thread."""
        if self._run is not None:
            self._run.stopped.set()

    def purge(self, older_than: timedelta) -> int:
        """Delete the parts and notes of loads that were begun so long ago and never published; return how many files.

        What a version of the table names, or has named, is left alone. Run it where no load into this table is older
        than that and still at work.

        :raises SinkError: if ``older_than`` is no ``timedelta``, or the table cannot be read.
        """
        from airflow_parallel_provider.sinks.lakes.orphans import delete_orphans

        if not isinstance(older_than, timedelta):
            raise SinkError(f"purge(): older_than={older_than!r}: give a datetime.timedelta, as timedelta(days=7)")
        store, publisher, _, _ = self._open_table()
        try:
            return delete_orphans(store, publisher, older_than)
        finally:
            publisher.close()

    def reached(self, point: str) -> None:
        """Called at ``after_part``, ``after_progress``, ``before_publication`` and ``after_publication``.

        Does nothing; a test overrides it to end the process there.
        """

    def _aggregates(self) -> dict[str, Aggregate]:
        return dict(self.aggregates or ())  # type: ignore[arg-type]  # normalized at construction

    def _running(self) -> _Run:
        if self._run is None:
            raise SinkError(f"{self.describe()} is not open: call prepare and open first, or let Pipeline.run do it")
        return self._run

    def __getstate__(self) -> dict[str, Any]:
        """What a pickle or copy has: the declaration only."""
        return {**self.__dict__, "_context": None, "_run": None}


@dataclass(frozen=True, slots=True)
class _Run:
    """What a sink holds while it serves a run."""

    load: LakeLoad
    publisher: Publisher
    stopped: threading.Event


def _check_choice(sink: LakeSink, name: str, choices: Sequence[str], more: str = "") -> None:
    if getattr(sink, name) not in choices:
        cure = f"write {' or '.join(map(repr, choices))}{more}"
        raise PlanError(f"{sink.own_name}.{name}", getattr(sink, name), cure)


def pairs_of(given: Any, field: str, cure: str) -> Any:
    """A mapping of texts as a tuple of pairs, which can be hashed.

    :param field: the argument, for errors.
    :raises PlanError: if it holds something else.
    """
    found = dict(given)
    if not all(isinstance(each, str) for pair in found.items() for each in pair):
        raise PlanError(field, "...", cure)
    return tuple(found.items())


def _named(spec: LoadSpec, on_rerun: str | None) -> LoadSpec:
    """The load with the key that it has in the table."""
    named_by_author = spec.family is None or spec.family == spec.load_key
    how = on_rerun or ("resume" if named_by_author else "append")
    key = spec.load_key
    if how == "resume":
        key = spec.family or key
    elif named_by_author and key is not None and spec.generation:
        key = f"{key}\n{spec.generation}"
    return replace(spec, load_key=key)
