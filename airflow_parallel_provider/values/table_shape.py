# SPDX-License-Identifier: Apache-2.0
"""The shape of an existing table: its columns and keys, as the database's catalog has them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from airflow_parallel_provider.values.kinds import Column, Kind


@dataclass(frozen=True, slots=True)
class TableColumn:
    """One column of an existing table."""

    name: str
    kind: Kind
    sql_type: Any
    """SQLAlchemy type as reflected, or the type as SQL where the backend reads the catalog itself."""
    nullable: bool = True
    has_default: bool = False
    """The database fills the column when a row does not have it (default, identity, computed)."""
    bits: int = 64
    """Width of an integer."""
    unsigned: bool = False
    length: int | None = None
    precision: int | None = None
    scale: int | None = None
    digits: int | None = None
    """Significant digits that the column keeps, where it rounds a number that has more."""
    computed: bool = False
    """The database computes the value and accepts none."""
    identity: bool = False
    """The database numbers the column without a default (identity, AUTO_INCREMENT)."""
    default: str | None = None
    """The default as SQL."""
    unique_keys: bool = False
    """Of JSON, the column keeps only one of two fields of an object that have the same name."""
    takes_spans: bool = False
    """A column of times of day also holds spans of time (MySQL)."""
    takes_texts_of: str | None = None
    """The type of PostgreSQL of which the column takes dates and times that Python does not have, as their texts."""
    case_insensitive: bool = False
    """Texts that differ may be equal as keys. Only set by backends that need to know."""
    declared: bool = False
    """The author has declared its type, so no error advises to."""
    parse_texts: bool = False
    """A text is what the type reads in it: ``"12"`` is a number in a column of numbers."""

    def type_name(self) -> str:
        """The type as an error text shows it."""
        if self.kind is Kind.OTHER:
            return str(self.sql_type)
        column = Column(self.name, self.kind, self.length, self.precision, self.scale)
        return column.type_name() if self.bits == 64 else f"{self.bits}-bit {self.kind}"


@dataclass(frozen=True)
class TableShape:
    """An existing table."""

    name: str
    schema: str | None
    columns: tuple[TableColumn, ...]
    unique_keys: tuple[frozenset[str], ...] = ()
    """Primary key and unique constraints over plain columns."""
    primary_key: tuple[str, ...] = ()
    takes_copy: bool = True
    """Whether PostgreSQL's COPY writes to it and counts its rows. Not where rows pass a policy or a view's trigger."""

    @cached_property
    def by_name(self) -> dict[str, TableColumn]:
        """The columns by name."""
        return {column.name: column for column in self.columns}

    @property
    def display_name(self) -> str:
        """The name as an error text shows it, with the schema."""
        return f"{self.schema}.{self.name}" if self.schema else self.name
