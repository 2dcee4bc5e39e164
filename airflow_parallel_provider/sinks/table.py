# SPDX-License-Identifier: Apache-2.0
"""``SinkTable``: what a DAG author writes to have the rows of a pipeline in a table, each chunk exactly once.

Importing this module is cheap, because DAG files are parsed over and over. The work is done by
:class:`~airflow_parallel_provider.sinks.load.table_loader.TableLoader`, which is imported when a run begins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from copy import copy
from dataclasses import dataclass, replace
from inspect import signature
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import uuid4

from airflow_parallel_provider.engine.interfaces.records import ChunkResult, CommittedChunk, LoadSpec
from airflow_parallel_provider.engine.interfaces.sink import Choice, Sink, SinkContext
from airflow_parallel_provider.errors import PlanError, SinkError
from airflow_parallel_provider.sinks.spec.table_checks import check_cleaned, check_narrow
from airflow_parallel_provider.sinks.spec.table_spec import TableSpec

if TYPE_CHECKING:
    from typing import Self, Unpack

    from airflow_parallel_provider.sinks.load.table_loader import TableLoader
    from airflow_parallel_provider.sinks.spec.options import SinkTableOptions

_LOAD_KEY_LENGTH = 200


class SinkTable(Sink):
    """A table that receives the rows of a pipeline.

    Rows may be dicts, tuples (with ``columns``), named tuples, dataclass or pydantic objects, DataFrames of pandas or
    polars, or Arrow tables. If the table does not exist, it is created from the first chunk. An existing table is
    changed only by ``on_schema_change`` and ``load_column``. All names are quoted as they are.

    The arguments are the fields of :class:`~airflow_parallel_provider.sinks.spec.table_spec.TableSpec`, and the sink
    has them, and what is derived from them, as attributes. A declaration is frozen: only texts in ``template_fields``
    change, when Airflow renders the template in them.

    Known limitations: with ``replace`` the new table has the columns, defaults, keys and indexes of the old one; what
    else depends on the old table decides how the swap is done, see docs/sinks/rerun.md. Arrow tables and frames become
    Python rows where ``validate`` or ``aggregates`` needs them; else DuckDB and PostgreSQL take them as they are. The
    sink keeps no promise across two databases (the ledger is in the database of the table). The functions of the stages
    may run more than once: a retry runs them again for chunks that had not committed.

    :param table: name of the table, without its schema.
    :param conn_id: Airflow connection of any SQL database with transactions.
    :param options: the other fields of ``TableSpec``, by their names.
    :raises PlanError: for an invalid argument; names it.
    """

    # One method for each of the sink's contract, and those that make it look like its declaration.

    template_fields: ClassVar[tuple[str, ...]] = TableSpec.template_fields
    """What Airflow renders when the sink is in a template field of an operator."""

    __dataclass_fields__ = TableSpec.__dataclass_fields__  # so that dataclasses.replace() and fields() take a sink
    __signature__ = signature(TableSpec)

    def __init__(self, table: str, *, conn_id: str, **options: Unpack[SinkTableOptions]) -> None:
        self._spec = TableSpec(table, conn_id=conn_id, **options)
        self._spec.check_distinct()
        self._context: SinkContext | None = None
        self._run: _Run | None = None

    @property
    def spec(self) -> TableSpec:
        """The declaration, with the templates that are rendered so far."""
        return self._spec

    def __getattr__(self, name: str) -> Any:
        """The fields of the declaration, and what is derived from them."""
        if name.startswith("_"):  # also while a copy has no declaration yet
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self._spec, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Take what Airflow has rendered: it sets each template field to the result.

        :raises FrozenInstanceError: for any other change.
        """
        if name.startswith("_"):  # what the sink holds for its run
            super().__setattr__(name, value)
        else:
            self._spec = self._spec.with_rendered(name, value)

    def __eq__(self, other: object) -> bool:
        """Whether both are declared alike."""
        return self._spec == other._spec if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        """Of the declaration."""
        return hash(self._spec)

    def __repr__(self) -> str:
        """The declaration, as an author writes it."""
        return repr(self._spec).replace(TableSpec.__qualname__, type(self).__qualname__, 1)

    def __getstate__(self) -> dict[str, Any]:
        """What a pickle or copy has: the declaration, never a connection."""
        return {**self.__dict__, "_context": None, "_run": None}

    def with_parsed_texts(self) -> Self:
        """The same sink with ``parse_texts=True``."""
        sink = copy(self)
        sink._spec = replace(self._spec, parse_texts=True)
        return sink

    def describe(self) -> str:
        """Where the rows go."""
        return self._spec.describe()

    @property
    def order_matters(self) -> bool:
        """Whether it merges without ``newest``: then the later of two rows with one key must be committed later."""
        return self._spec.order_matters

    def bind(self, run: SinkContext) -> None:
        """Remember the run that decides how many rows may be rejected."""
        self._context = run

    def prepare(self, spec: LoadSpec) -> None:
        """Resolve the Airflow connection; nothing after this asks Airflow.

        :raises PlanError: if the connection does not exist or is not one of an SQL database.
        """
        from airflow_parallel_provider.sinks.load.table_loader import TableLoader

        self._spec.check_distinct()
        if self._run is not None:
            raise PlanError("Pipeline.sink", self, "this SinkTable is in use by another run; give each run its own")
        load_key = f"run-{uuid4().hex}" if spec.load_key is None else spec.load_key
        if not load_key or len(load_key) > _LOAD_KEY_LENGTH:
            raise PlanError(
                "Pipeline.load_key", load_key, f"give a text of 1 to {_LOAD_KEY_LENGTH} characters, or None"
            )
        loader = TableLoader(self._spec)
        if self._context is not None:
            loader.bind(self._context)
        loader.resolve()
        self._run = _Run(loader, replace(spec, load_key=load_key))

    def open(self) -> Mapping[str, CommittedChunk]:
        """Connect, create the control tables if they do not exist, and return the chunks that have committed.

        :raises LoadMismatch: if the load was begun with another spec.
        :raises UnsafeTable: if rows and ledger could become inconsistent.
        :raises SchemaMismatch: if the table exists and does not fit the declaration.
        """
        run = self._running()
        return run.loader.open(run.load_spec)

    def source_state(self) -> Mapping[str, Any] | None:
        """The state the source had at the first attempt at this load; None as long as no chunk has committed."""
        return self._running().loader.load.source_state

    def check_shards(self) -> None:
        """Several shards may write one load: the ledger keeps them apart."""

    def check_narrow(self, field: str, value: Any, again: str | None = None) -> None:
        """The ledger knows what is in; with ``replace`` it would not stay in.

        :raises PlanError: with ``replace``; and if items come again, without ``merge``.
        """
        spec = self._spec
        dispositions = {"write_disposition": spec.write_disposition, "on_rerun": spec.on_rerun}
        check_narrow(dispositions, spec.load_id_column, f"{field}={value!r}", again)

    @property
    def forgets(self) -> Sequence[str]:
        """Without a table of dead letters or of rejected rows."""
        return [f"SinkTable.{name}" for name in ("dead_letters", "rejected") if getattr(self._spec, name) is None]

    def check_cleaned(self, field: str, value: Any, *, knows: bool) -> None:
        """Rows whose source is gone must stay, and what is left of it must not be added again.

        :raises PlanError: with ``replace``; with ``append``, if the source does not ask the ledger.
        """
        spec = self._spec
        dispositions = {"write_disposition": spec.write_disposition, "on_rerun": spec.on_rerun}
        check_cleaned("SinkTable", dispositions, spec.load_id_column, f"{field}={value!r}", knows=knows)

    def finish_shard(self, chunks: int) -> None:
        """Store how many chunks the source has."""
        self._running().loader.load.finish_shard(chunks)

    def chunks_of_source(self) -> int | None:
        """How many chunks the source has, as its shards have found."""
        return self._running().loader.load.source_chunks

    def committed_now(self) -> Mapping[str, CommittedChunk]:
        """The chunks that are committed by now, by any shard; read from the ledger."""
        return self._running().loader.load.committed()

    def take_over(self, choose: Choice) -> AbstractSet[str]:
        """Note in the ledger that this shard takes chunks of others."""
        return self._running().loader.load.take_over(choose)

    def dismiss_shards(self) -> None:
        """Take the coordinator out of the ledger's row of the load."""
        self._running().loader.load.dismiss_shards()

    def seconds_of_load(self) -> float | None:
        """From the beginning of the load to its last commit, by the ledger."""
        return self._running().loader.load.seconds()

    def takes_lines(self) -> object | None:
        """Of a table of PostgreSQL that is there: lines of COPY."""
        return self._running().loader.load.takes_lines()

    def known_messages(self) -> frozenset[str]:
        """Ids of the queue's messages that have committed."""
        return self._running().loader.load.known_messages()

    def commit(self, chunk: ChunkResult) -> int | None:
        """Commit a chunk and, of a queue, the ids of its messages; return the number of rows."""
        loader = self._running().loader
        receipt = loader.commit(chunk, in_transaction=loader.load.record_messages(chunk))
        return None if receipt.already_committed else receipt.rows

    def finish(self) -> None:
        """Mark the load as complete; with ``replace``, swap its rows in."""
        self._running().loader.consolidate(on_mismatch="warn")

    def aggregate_values(self) -> Mapping[str, Any]:
        """``aggregates`` over the whole load, as plain JSON; of an aggregate with ``by``, the first groups."""
        if not self._spec.aggregates:
            return {}
        from airflow_parallel_provider.sinks.aggregates.report_view import report_view

        return report_view(self._running().loader.load.aggregates())

    def close(self) -> None:
        """Close the connection; the sink may then serve another run."""
        run, self._run, self._context = self._run, None, None
        if run is not None:
            run.loader.close()

    def interrupt(self) -> None:
        """Abort the commit in progress, from another thread: it fails, and nothing of it is kept."""
        run = self._run
        if run is not None:
            run.loader.interrupt()

    def _running(self) -> _Run:
        if self._run is None:
            raise SinkError(f"{self.describe()} is not open: call prepare and open first, or let Pipeline.run do it")
        return self._run


@dataclass(frozen=True, slots=True)
class _Run:
    """What a sink holds while it serves a run."""

    loader: TableLoader
    load_spec: LoadSpec
