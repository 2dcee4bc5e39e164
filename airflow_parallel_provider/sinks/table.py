"""``SinkTable``: what a DAG author writes to have the rows of a pipeline in a table, each chunk exactly once.

Importing this module costs next to nothing: DAG files are parsed over and over. The work is done by
:class:`~airflow_parallel_provider.hooks.sink_table.SinkTableHook`, which is imported when a run begins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, FrozenInstanceError, dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from uuid import uuid4

from airflow_parallel_provider.checks import check_number, check_whole, key_columns
from airflow_parallel_provider.engine.interfaces.records import ChunkResult, CommittedChunk, LoadSpec
from airflow_parallel_provider.engine.interfaces.sink import Sink, SinkContext
from airflow_parallel_provider.engine.plan.templates import is_template
from airflow_parallel_provider.errors import PlanError, SinkError
from airflow_parallel_provider.rows.validate import check_validate
from airflow_parallel_provider.sinks.aggregates.declare import Aggregate, declared_aggregates
from airflow_parallel_provider.sinks.files.dead_letter_files import DeadLetterFiles
from airflow_parallel_provider.sinks.spec.table_checks import (
    LOAD_COLUMN,
    check_distinct,
    check_key,
    check_load_column,
    check_modes,
    check_names,
)
from airflow_parallel_provider.values.column_specs import declared_columns
from airflow_parallel_provider.values.kinds import Column

if TYPE_CHECKING:
    from airflow_parallel_provider.hooks.sink_table import SinkTableHook

_LOAD_KEY_LENGTH = 200


@dataclass(unsafe_hash=True)  # safe: __setattr__ lets nothing change but templates
class SinkTable(Sink):
    """A table that receives the rows of a pipeline.

    Rows may be dicts, tuples (with ``columns``), named tuples, dataclass or pydantic objects, DataFrames of pandas or
    polars, or Arrow tables.
    The table is made from the first chunk when it is not there; a table that is there is changed by
    ``on_schema_change`` and ``load_column`` alone. All names are quoted as they stand.

    Known limitations: with ``replace`` the new table has the columns, defaults, keys and indexes of the old one; what
    else hangs on it decides how the swap is done, see docs/sinks.md. Arrow tables and frames become rows of Python
    objects where ``validate`` or ``aggregates`` looks at them; DuckDB and PostgreSQL else take them as they are.

    A declaration is frozen; only texts in ``template_fields`` change, when Airflow renders the template they hold.

    What it does not do: keep a promise across two databases (the ledger lives beside the table), or make the functions
    of the stages run only once: a retry may run them again for chunks that had not committed.

    :raises PlanError: for an argument that cannot be right, naming it.
    """

    template_fields: ClassVar[tuple[str, ...]] = (
        "table",
        "conn_id",
        "schema",
        "dead_letters",
        "rejected",
        "ledger_table",
    )
    """What Airflow renders when the sink is in a template field of an operator."""

    table: str
    """Name of the table, without its schema."""
    _: KW_ONLY
    conn_id: str
    """Airflow connection of any SQL database."""
    schema: str | None = None
    """Schema of the table and of its ledger; None: the connection's default."""
    write_disposition: Literal["append", "merge", "replace"] = "append"
    """``append`` inserts; ``merge`` updates the row with the same ``primary_key`` if there is one; ``replace`` gathers
    all rows in a table beside this one and puts them in its place when every chunk is in, so that readers see all of
    the old rows or all of the new ones."""
    primary_key: str | Iterable[str] = ()
    """Columns that make a row unique. Needed for ``merge``; the key of a table that is made."""
    columns: Mapping[str, Any] | Iterable[str | Column] | type | None = None
    """Names, or names and types (``{"id": int, "price": "decimal(18,4)"}``), or a class whose annotations say both: a
    TypedDict, dataclass, NamedTuple or pydantic model. None: taken from the rows, which means from the annotations of
    their class, else from their Arrow schema, else from the dtypes of their frame, else from the values of the first
    chunk."""
    on_rerun: Literal["resume", "replace", "append"] | None = None
    """What a new generation of a load does (in Airflow: after a Clear, or when another run uses the same ``load_key``)
    about the rows of the one before. ``resume`` skips what is in; ``replace`` removes the rows of the earlier
    generation, in the transaction that begins the new one (rows are told apart by ``load_column``); ``append`` adds
    them again. None: ``resume`` for a ``load_key`` of the author's own; else ``replace`` where that needs no column
    that the author did not ask for (``write_disposition="replace"``, or ``load_column``), and ``append`` with a
    warning everywhere else. A retry belongs to the same generation and always resumes."""
    load_column: str | None = None
    """Column that receives the id of the load (32 characters), so that a load's rows can be told apart. None: none,
    but ``_load_id`` where ``on_rerun="replace"`` needs it."""
    on_schema_change: Literal["fail", "add_columns"] = "fail"
    """What to do when rows have a column that the table has not: ``add_columns`` adds it, nullable, typed by the rows
    of that chunk."""
    dead_letters: str | DeadLetterFiles | None = "{table}__dead_letters"
    """Table of items that could not be processed; ``{table}`` stands for the table's name. None: only count them."""
    ledger_table: str = "airflow_parallel_ledger"
    """Table of committed chunks; ``<ledger_table>__loads`` goes with it. Any number of sinks may share one."""
    lock_timeout: float = 60.0
    """Seconds to wait for a lock somebody else holds, and to keep trying after errors that may pass."""
    statement_timeout: float = 600.0
    """Seconds one statement may take, where the database can limit it."""
    dead_letter_length: int = 32_000
    """Characters of a failed item's or a rejected row's JSON that are kept, at most 60 000."""
    dead_letter_pickle: bool = False
    """Keep a pickle, of at most 1 MB, of a failed item whose JSON does not give the same item back, so that it can be
    replayed. Who may write to the table can then run code in the task that unpickles it: say so only where nobody
    else writes there."""
    validate: Any = None
    """A function of a row, or a pydantic model: which rows are good. A function rejects a row by raising, or by
    returning False or a text (the reason); None and True let it pass, and anything else is written in its place. Of a
    model the validated values are written."""
    rejected: str | None = "{table}__rejected"
    """Table of rows that ``validate`` or the database refused; made when the first one comes. None: only count them."""
    max_rejected: int | None = None
    """Rows of a load that may be rejected. In a pipeline each also counts as one failed item for its ``tolerance``."""
    aggregates: Mapping[str, str | Aggregate] | None = None
    """Figures over all rows of the load, e.g. ``{"revenue": "sum(price)", "orders": "count by country"}``; see
    :class:`~airflow_parallel_provider.sinks.aggregates.declare.Aggregate`."""
    _run: _Run | None = field(default=None, init=False, repr=False, compare=False)
    _judge: SinkContext | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check and normalise."""
        check_names(self)
        check_distinct(self)
        check_modes(self)
        object.__setattr__(self, "primary_key", key_columns(self.primary_key))
        object.__setattr__(self, "columns", declared_columns(self.columns, "SinkTable.columns"))
        check_key(self)
        check_load_column(self)
        for name in ("lock_timeout", "statement_timeout"):
            check_number(f"SinkTable.{name}", getattr(self, name), 0.001, 86_400)
        check_whole("SinkTable.dead_letter_length", self.dead_letter_length, 200, 60_000)
        if not isinstance(self.dead_letter_pickle, bool):
            raise PlanError("SinkTable.dead_letter_pickle", self.dead_letter_pickle, "write True or False")
        if self.max_rejected is not None:
            check_whole("SinkTable.max_rejected", self.max_rejected, 0, 2**63 - 1)
        check_validate(self.validate)
        object.__setattr__(self, "aggregates", tuple(declared_aggregates(self.aggregates).items()))
        object.__setattr__(self, "_sealed", True)

    def __setattr__(self, name: str, value: Any) -> None:
        """Frozen, but for the way Airflow renders templates: it sets each template field to what came out.

        :raises FrozenInstanceError: for any other change.
        """
        if self.__dict__.get("_sealed"):
            before = getattr(self, name, None)
            if value == before:
                return
            if name not in self.template_fields or not is_template(before):
                raise FrozenInstanceError(f"a SinkTable is frozen: make a new one instead of setting {name!r}")
        object.__setattr__(self, name, value)
        if self.__dict__.get("_sealed"):
            check_names(self)

    @property
    def key(self) -> tuple[str, ...]:
        """``primary_key`` as a tuple."""
        return self.primary_key  # type: ignore[return-value]  # normalised at construction

    @property
    def declared(self) -> tuple[Column, ...] | None:
        """``columns`` as a tuple of columns."""
        return self.columns  # type: ignore[return-value]  # normalised at construction

    @property
    def load_id_column(self) -> str | None:
        """The column that receives the id of the load; None when there is none."""
        wanted = self.on_rerun == "replace" and self.write_disposition != "replace"
        return self.load_column or (LOAD_COLUMN if wanted else None)

    @property
    def dead_letter_table(self) -> str | None:
        """Name of the table of dead letters."""
        return self.dead_letters.replace("{table}", self.table) if isinstance(self.dead_letters, str) else None

    @property
    def rejected_table(self) -> str | None:
        """Name of the table of rejected rows."""
        return None if self.rejected is None else self.rejected.replace("{table}", self.table)

    @property
    def declared_aggregates(self) -> dict[str, Aggregate]:
        """``aggregates`` as a dict."""
        return dict(self.aggregates)  # type: ignore[arg-type]  # normalised at construction

    @property
    def column_names(self) -> tuple[str, ...] | None:
        """Names of ``columns``."""
        return None if self.declared is None else tuple(column.name for column in self.declared)

    @property
    def display_name(self) -> str:
        """Name of the table for people."""
        return f"{self.schema}.{self.table}" if self.schema else self.table

    def describe(self) -> str:
        """Where the rows go."""
        return f"table {self.display_name} ({self.write_disposition}, connection {self.conn_id})"

    def bind(self, run: SinkContext) -> None:
        """Remember who judges rejected rows."""
        object.__setattr__(self, "_judge", run)

    def prepare(self, spec: LoadSpec) -> None:
        """Resolve the Airflow connection; the last time Airflow is talked to.

        :raises PlanError: when the connection is missing or is not one of an SQL database.
        """
        from airflow_parallel_provider.hooks.sink_table import SinkTableHook

        check_distinct(self)
        if self._run is not None:
            raise PlanError("Pipeline.sink", self, "this SinkTable is in use by another run; give each run its own")
        load_key = f"run-{uuid4().hex}" if spec.load_key is None else spec.load_key
        if not load_key or len(load_key) > _LOAD_KEY_LENGTH:
            raise PlanError(
                "Pipeline.load_key", load_key, f"give a text of 1 to {_LOAD_KEY_LENGTH} characters, or None"
            )
        hook = SinkTableHook.of(self)
        if self._judge is not None:
            hook.attach(self._judge)
        hook.resolve()
        object.__setattr__(self, "_run", _Run(hook, replace(spec, load_key=load_key)))

    def open(self) -> Mapping[str, CommittedChunk]:
        """Connect, make the ledger if need be, and return the chunks that are in.

        :raises LoadMismatch: when the load was begun with another spec.
        :raises UnsafeTable: when rows and ledger could part ways.
        :raises SchemaMismatch: when the table is there and cannot be what was declared.
        """
        run = self._running()
        return run.hook.open(run.spec)

    def source_state(self) -> Mapping[str, Any] | None:
        """What the source froze at the first try of this load; None as long as no chunk is in."""
        return self._running().hook.source_state

    def known_messages(self) -> frozenset[str]:
        """Ids of the queue's messages that are in."""
        return self._running().hook.opened_load.known_messages()

    def commit(self, chunk: ChunkResult) -> int:
        """Commit a chunk; see :meth:`SinkTableHook.write_chunk`."""
        receipt = self._running().hook.write_chunk(
            chunk.chunk_id,
            chunk.rows,
            items=chunk.items,
            items_filtered=chunk.items_filtered,
            first_position=chunk.first_position,
            dead_letters=chunk.dead_letters,
            positions=chunk.positions,
            within=self._running().hook.opened_load.record_messages(chunk),
        )
        return receipt.rows

    def finish(self) -> None:
        """Mark the load as complete; with ``replace``, put its rows in the place of the old ones."""
        self._running().hook.consolidate(on_mismatch="warn")

    def aggregate_values(self) -> Mapping[str, Any]:
        """``aggregates`` over the whole load, as plain JSON; of one with ``by`` the first groups."""
        if not self.aggregates:
            return {}
        from airflow_parallel_provider.sinks.aggregates.report_view import report_view

        return report_view(self._running().hook.aggregates())

    def close(self) -> None:
        """Let go of the connection; the sink may then serve another run."""
        run = self._run
        object.__setattr__(self, "_run", None)
        object.__setattr__(self, "_judge", None)
        if run is not None:
            run.hook.close()

    def interrupt(self) -> None:
        """Break off the commit that is going on, from another thread; it then fails, and nothing of it is kept."""
        run = self._run
        if run is not None:
            run.hook.interrupt()

    def _running(self) -> _Run:
        if self._run is None:
            raise SinkError(f"{self.describe()} is not open: call prepare and open first, or let Pipeline.run do it")
        return self._run

    def __getstate__(self) -> dict[str, Any]:
        """What travels: the declaration, never a connection."""
        return {**self.__dict__, "_run": None, "_judge": None}


@dataclass(frozen=True, slots=True)
class _Run:
    """What a sink holds while it serves a run."""

    hook: SinkTableHook
    spec: LoadSpec
