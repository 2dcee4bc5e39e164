# SPDX-License-Identifier: Apache-2.0
"""``TableSpec``: the frozen declaration of a table that receives rows, under everything in ``sinks/``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, FrozenInstanceError, dataclass, replace
from typing import Any, ClassVar, Literal

from airflow_parallel_provider.checks import check_number, check_whole, key_columns
from airflow_parallel_provider.engine.plan.templates import is_template
from airflow_parallel_provider.errors import PlanError
from airflow_parallel_provider.rows.validate import check_validate
from airflow_parallel_provider.sinks.aggregates.declare import Aggregate, declared_aggregates
from airflow_parallel_provider.sinks.spec import table_checks
from airflow_parallel_provider.sinks.spec.dead_letter_files import DeadLetterFiles
from airflow_parallel_provider.values.column_specs import declared_columns
from airflow_parallel_provider.values.kinds import Column

LOAD_COLUMN = "_load_id"
"""Name of the load column where ``on_rerun="replace"`` needs one and the author has not named it."""


@dataclass(frozen=True)
class TableSpec:
    """What an author declares of a table: the arguments of ``SinkTable``, checked and normalized.

    :raises PlanError: for an invalid argument; names it.
    """

    template_fields: ClassVar[tuple[str, ...]] = (
        "table",
        "conn_id",
        "schema",
        "dead_letters",
        "rejected",
        "ledger_table",
    )
    """Fields whose texts Airflow may render."""

    table: str
    """Name of the table, without its schema."""
    _: KW_ONLY
    conn_id: str
    """Airflow connection of any SQL database with transactions."""
    schema: str | None = None
    """Schema of the table and of its control tables. None: the connection's default."""
    write_disposition: Literal["append", "merge", "replace"] = "append"
    """``append`` inserts the rows. ``merge`` updates the row with the same ``primary_key`` if there is one, and else
    inserts. ``replace`` collects all rows in a staging table and swaps it in when every chunk has committed, so readers
    see either all of the old rows or all of the new ones."""
    primary_key: str | Iterable[str] = ()
    """Columns that make a row unique. ``merge`` needs them. A table that the sink creates gets them as its key."""
    newest: str | None = None
    """For ``merge``: the column that says which of two rows with one key is newer, ``newest="updated_at"``. A row then
    replaces the row that is there only if it is not older, whatever order rows arrive in. A row with NULL in it is
    older than one with a value. None: the later row in the source wins, so a run commits its chunks in source order."""
    columns: Mapping[str, Any] | Iterable[str | Column] | type | None = None
    """Names, or names and types (``{"id": int, "price": "decimal(18,4)"}``), or a class whose annotations give both: a
    TypedDict, dataclass, NamedTuple or pydantic model. None: they come from the rows: from the annotations of their
    class, else from their Arrow schema, else from the dtypes of their frame, else from the values of the first
    chunk."""
    on_rerun: Literal["resume", "replace", "append"] | None = None
    """What a new generation of a load does with the rows of the earlier ones. A new generation begins after a Clear in
    Airflow, and when another run uses the same ``load_key``. ``resume`` skips the chunks that have committed.
    ``replace`` removes the earlier rows in the transaction that begins the new generation; ``load_column`` tells which
    rows these are. ``append`` adds the rows again. None: ``resume`` if the author has set a ``load_key``; else
    ``replace`` if that needs no column the author has not asked for (``write_disposition="replace"``, or a
    ``load_column``); else ``append``, with a warning. A retry belongs to the same generation and always resumes."""
    load_column: str | None = None
    """Column that receives the id of the load (32 characters), which tells the rows of different loads apart. None: no
    such column, but ``_load_id`` where ``on_rerun="replace"`` needs one."""
    parse_texts: bool | None = None
    """Whether a text in a column of numbers or booleans is read as one: ``"12"``, ``"1.50"``, ``"true"``; an empty text
    is NULL in every column that has another type than text. Texts that are none are refused. None: what the operator
    says, which is True where it reads CSV, whose values are all texts; else False."""
    on_schema_change: Literal["fail", "add_columns"] = "fail"
    """What to do when rows have a column that the table does not have. ``add_columns`` adds it: nullable, with the type
    that the rows of that chunk give it."""
    dead_letters: str | DeadLetterFiles | None = "{table}__dead_letters"
    """Table of items that could not be processed, or ``DeadLetterFiles``. ``{table}`` stands for the table's name.
    None: only count them."""
    ledger_table: str = "airflow_parallel_ledger"
    """Table of committed chunks; ``<ledger_table>__loads`` goes with it. Any number of sinks may share one."""
    lock_timeout: float = 60.0
    """Seconds to wait for a lock that another transaction holds, and to keep retrying after transient errors."""
    statement_timeout: float = 600.0
    """Seconds that one statement may take, where the database can limit it."""
    dead_letter_length: int = 32_000
    """How many characters of JSON are kept of a failed item or a rejected row; at most 60 000."""
    dead_letter_pickle: bool = False
    """Also keep a pickle, of at most 1 MB, of a failed item whose JSON does not give the same item back, so that the
    item can be replayed. Unpickling runs code: set this only if nothing but your tasks can write to the table."""
    validate: Any = None
    """A function of a row, or a pydantic model, that decides which rows are valid. A function rejects a row by raising,
    or by returning False or a text (the reason). None and True accept the row; any other value is written in its place.
    With a model, the validated values are written."""
    rejected: str | None = "{table}__rejected"
    """Table of rows that ``validate`` or the database has refused; created when the first one comes. None: only count
    them."""
    max_rejected: int | None = None
    """How many rows of a load may be rejected. In a pipeline each rejected row also counts for its ``tolerance``."""
    aggregates: Mapping[str, str | Aggregate] | None = None
    """Aggregates over all rows of the load, e.g. ``{"revenue": "sum(price)", "orders": "count by country"}``; see
    :class:`~airflow_parallel_provider.sinks.aggregates.declare.Aggregate`."""

    def __post_init__(self) -> None:
        """Check and normalize."""
        self._check_names()
        table_checks.check_modes(self.write_disposition, self.on_rerun, self.on_schema_change)
        object.__setattr__(self, "primary_key", key_columns(self.primary_key))
        object.__setattr__(self, "columns", declared_columns(self.columns, "SinkTable.columns"))
        table_checks.check_key(self.key, self.declared_columns, self.write_disposition)
        table_checks.check_newest(self.newest, self.key, self.declared_columns, self.write_disposition)
        table_checks.check_load_column(
            self.load_column, self.load_id_column, (*self.key, *(column.name for column in self.declared_columns or ()))
        )
        for name in ("lock_timeout", "statement_timeout"):
            check_number(f"SinkTable.{name}", getattr(self, name), 0.001, 86_400)
        check_whole("SinkTable.dead_letter_length", self.dead_letter_length, 200, 60_000)
        if not isinstance(self.dead_letter_pickle, bool):
            raise PlanError("SinkTable.dead_letter_pickle", self.dead_letter_pickle, "write True or False")
        if self.parse_texts not in (True, False, None):
            raise PlanError("SinkTable.parse_texts", self.parse_texts, "write True or False, or leave it out")
        if self.max_rejected is not None:
            check_whole("SinkTable.max_rejected", self.max_rejected, 0, 2**63 - 1)
        check_validate(self.validate)
        object.__setattr__(self, "aggregates", tuple(declared_aggregates(self.aggregates).items()))

    def _check_names(self) -> None:
        names: dict[str, object] = {name: getattr(self, name) for name in ("table", "conn_id", "ledger_table")}
        optional = {"schema": self.schema, "dead_letters": self.dead_letters, "rejected": self.rejected}
        if self.dead_letter_files is not None:
            del optional["dead_letters"]
        table_checks.check_names(names | {name: value for name, value in optional.items() if value is not None})

    def check_distinct(self) -> None:
        """Check that no two of the tables have one name.

        Apart from the other checks, because a template may render to the name of another table: the run then fails
        when it prepares its sink, and Airflow does not retry that.

        :raises PlanError: if two tables have one name.
        """
        table_checks.check_distinct(self.ledger_table, self.table, self.dead_letter_table, self.rejected_table)

    def with_rendered(self, name: str, value: Any) -> TableSpec:
        """The same declaration, with what Airflow has made of the template in a field.

        :raises FrozenInstanceError: if the field holds no template, or may not hold one.
        :raises PlanError: if the value is no name.
        """
        before = getattr(self, name, None)
        if value == before:
            return self
        if name not in self.template_fields or not is_template(before):
            raise FrozenInstanceError(f"a SinkTable is frozen: make a new one instead of setting {name!r}")
        return replace(self, **{name: value})

    @property
    def key(self) -> tuple[str, ...]:
        """``primary_key`` as a tuple."""
        return self.primary_key  # type: ignore[return-value]  # normalized at construction

    @property
    def declared_columns(self) -> tuple[Column, ...] | None:
        """``columns`` as a tuple of columns."""
        return self.columns  # type: ignore[return-value]  # normalized at construction

    @property
    def column_names(self) -> tuple[str, ...] | None:
        """Names of ``columns``."""
        return None if self.declared_columns is None else tuple(column.name for column in self.declared_columns)

    @property
    def declared_aggregates(self) -> dict[str, Aggregate]:
        """``aggregates`` as a dict."""
        return dict(self.aggregates)  # type: ignore[arg-type]  # normalized at construction

    @property
    def order_matters(self) -> bool:
        """Whether the order of the chunks decides which of two rows with one key stays."""
        return self.write_disposition == "merge" and self.newest is None

    @property
    def load_id_column(self) -> str | None:
        """The column that receives the id of the load; None if there is none."""
        needed = self.on_rerun == "replace" and self.write_disposition != "replace"
        return self.load_column or (LOAD_COLUMN if needed else None)

    @property
    def dead_letter_files(self) -> DeadLetterFiles | None:
        """The folder of dead letters; None if they go into a table, or are not kept."""
        return self.dead_letters if isinstance(self.dead_letters, DeadLetterFiles) else None

    @property
    def dead_letter_table(self) -> str | None:
        """Name of the table of dead letters; None if they go into files, or are not kept."""
        return self.dead_letters.replace("{table}", self.table) if isinstance(self.dead_letters, str) else None

    @property
    def rejected_table(self) -> str | None:
        """Name of the table of rejected rows; None if they are not kept."""
        return None if self.rejected is None else self.rejected.replace("{table}", self.table)

    @property
    def display_name(self) -> str:
        """Name of the table for people."""
        return f"{self.schema}.{self.table}" if self.schema else self.table

    def describe(self) -> str:
        """Where the rows go, and how; for people."""
        return f"table {self.display_name} ({self.write_disposition}, connection {self.conn_id})"
