"""The shape of a table: what the database says its columns are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from airflow_parallel_provider.values.kinds import Column, Kind


@dataclass(frozen=True, slots=True)
class TableColumn:
    """One column of a table that exists."""

    name: str
    kind: Kind
    sql_type: Any
    """SQLAlchemy type, as reflected."""
    nullable: bool = True
    has_default: bool = False
    """The database fills it in when a row leaves it out (default, identity, computed)."""
    bits: int = 64
    """For integers."""
    unsigned: bool = False
    length: int | None = None
    precision: int | None = None
    scale: int | None = None
    digits: int | None = None
    """Significant digits the column keeps, where it rounds what has more."""
    computed: bool = False
    """The database works it out and takes no value."""
    identity: bool = False
    """The database gives it numbers of its own without a default (identity, AUTO_INCREMENT)."""
    default: str | None = None
    """The default as SQL."""
    case_insensitive: bool = False
    """Texts may be equal that are not the same; from the writers that must know."""

    def type_name(self) -> str:
        """The type, for people."""
        if self.kind is Kind.OTHER:
            return str(self.sql_type)
        column = Column(self.name, self.kind, self.length, self.precision, self.scale)
        return column.type_name() if self.bits == 64 else f"{self.bits}-bit {self.kind}"


@dataclass(frozen=True, slots=True)
class TableShape:
    """A table that exists."""

    name: str
    schema: str | None
    columns: tuple[TableColumn, ...]
    unique_keys: tuple[frozenset[str], ...] = ()
    """Primary key and unique constraints over plain columns."""
    primary_key: tuple[str, ...] = ()
    by_name: dict[str, TableColumn] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Index the columns."""
        object.__setattr__(self, "by_name", {column.name: column for column in self.columns})

    @property
    def display_name(self) -> str:
        """Name for people."""
        return f"{self.schema}.{self.name}" if self.schema else self.name
