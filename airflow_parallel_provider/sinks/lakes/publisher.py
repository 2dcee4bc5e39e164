# SPDX-License-Identifier: Apache-2.0
"""What a table format does for a load: say whether it is in, write its parts, and put all of them in at once."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_parallel_provider.errors import SchemaMismatch, SinkError
from airflow_parallel_provider.sinks.lakes.lake_part import EncodedFile, PartFile
from airflow_parallel_provider.sinks.lakes.merge import Merge

_TRIES = 100
"""How often a commit is tried that others keep overtaking."""
_UNCLEAR = 5
"""After how many errors in a row that do not say whether a commit was done the publication ends in an error."""
_PAUSE = 0.2


@dataclass(frozen=True, slots=True)
class Publication:
    """All parts of one load."""

    load: str
    """Id of the load."""
    attempt: int
    """Number of the try that publishes it."""
    files: Sequence[PartFile]
    schema: Any
    """Arrow schema of the parts; None if there are none."""
    replace: bool
    """Whether they take the place of all rows that the table has."""
    add_columns: bool
    """Whether columns that the table lacks are added."""
    merge: Merge | None = None
    """Set where they take the place of rows with the same keys only. Then no two of their rows have one key."""


class Publisher(ABC):
    """One table. Its methods run on the sink thread.

    :param name: for people.
    :param stopped: waits so many seconds; returns whether the run was asked to stop.
    :param merges: whether rows take the place of rows with the same keys.
    """

    def __init__(self, name: str, stopped: Callable[[float], bool], *, merges: bool = False) -> None:
        self.name = name
        self._stopped = stopped
        self._merges = merges

    @abstractmethod
    def schema(self) -> Any:
        """The Arrow schema of the table; None as long as there is no table.

        :raises SinkError: if the table cannot be read, or takes no parts.
        """

    @abstractmethod
    def new_schema(self, schema: Any) -> Any:
        """The Arrow schema of the parts of a table that is yet to be made, of the schema of the first chunk."""

    @abstractmethod
    def with_columns(self, schema: Any, fields: Sequence[Any]) -> Any:
        """The Arrow schema of parts that have more columns than those of ``schema``."""

    @abstractmethod
    def encode(self, table: Any) -> list[EncodedFile]:
        """The rows of a chunk as Parquet files.

        :param table: with the schema of the parts, and at least one row.
        :raises SchemaMismatch: if the table cannot take them.
        """

    def published(self, load: str) -> int | None:
        """The number of the try that has published a load; None if the load is not in the table."""
        table = self._table()
        return None if table is None else self._attempt_in(table, load)

    def names_parts(self, load: str) -> bool:  # noqa: ARG002  # of a format that copies the rows
        """Whether the files of the parts of a published load belong to the table."""
        return True

    @abstractmethod
    def version(self) -> int | None:
        """The version of the table that was last seen; None if there is no table."""

    def close(self) -> None:  # noqa: B027  # not every format has something to let go of
        """Let go of what the table was reached through."""

    @abstractmethod
    def _table(self) -> Any:
        """The table as it is now, from which a commit may follow; None if there is none.

        :raises SinkError: if it cannot be read.
        """

    @abstractmethod
    def _attempt_in(self, table: Any, load: str) -> int | None:
        """The number of the try that has published a load, as a table of :meth:`_table` says."""

    @abstractmethod
    def _conflicts(self) -> tuple[type[Exception], ...]:
        """Errors of the library that say that another commit was faster, so that this one was not done."""

    @abstractmethod
    def _commit(self, table: Any, publication: Publication) -> None:
        """Commit from the table that was looked at, and only if nothing that matters has happened since.

        :param table: without the load; None if there is none.
        """

    def publish(self, publication: Publication) -> int:
        """Put all parts into the table in one commit that carries the load, unless the load is in already.

        Look, commit from what was looked at, and look again whenever it is not certain that the commit was done.

        :return: the number of the try whose parts are in: this one, or one that was faster.
        :raises SinkError: if the table cannot take them.
        """
        reason: Exception | None = None
        unclear = 0
        for _ in range(_TRIES):
            table = self._table()
            found = None if table is None else self._attempt_in(table, publication.load)
            if found is not None:
                return found
            try:
                self._commit(table, publication)
            except self._conflicts() as error:
                reason, unclear = error, 0
            except (SinkError, SchemaMismatch):
                raise
            except Exception as error:  # of any library that a storage or catalogue is reached through
                reason, unclear = error, unclear + 1
                if unclear == _UNCLEAR:
                    raise self._failed(error) from error
            else:
                self._table()
                return publication.attempt
            if self._stopped(random.uniform(0, _PAUSE)):  # noqa: S311  # only spreads attempts
                raise SinkError(f"{self.name}: the publication was not done: the run was asked to stop")
        raise SinkError(
            f"{self.name}: other commits were faster {_TRIES} times ({brief(reason)}), so nothing of the load is in "
            "the table. Run the task again: its parts are written, and only the publication is tried again"
        ) from reason

    def _failed(self, error: Exception) -> SinkError:
        return SinkError(f"{self.name}: {brief(error)}")

    def _missing(self, parts: Any, table: Any, publication: Publication) -> list[Any]:
        """The columns of the parts that the table does not have; all others are still those that they were.

        :param parts: their Arrow schema.
        :param table: the Arrow schema of the table.
        :raises SchemaMismatch: if a column has become another one, or may not be added.
        """
        by_name = {each.name: each for each in table}
        missing = []
        for each in parts:
            there = by_name.pop(each.name, None)
            if there is None:
                missing.append(each)
            elif not there.type.equals(each.type):
                raise self._changed(each, f"is {there.type}")
            elif _field_id(there) != _field_id(each):
                raise self._changed(each, "is another column of that name")
        if missing and not publication.add_columns:
            raise self._changed(missing[0], "is gone")
        if by_name and publication.merge is not None:
            raise SchemaMismatch(
                f"{self.name}: column {next(iter(by_name))!r} was added when the parts were written already. They do "
                "not have it, and a merge would empty it: delete the load's _progress file to write its parts again"
            )
        needed = [name for name, each in by_name.items() if not each.nullable]
        if needed:
            raise SchemaMismatch(f"{self.name}: column {needed[0]!r} takes no NULL, and the parts do not have it")
        return missing

    def _changed(self, field: Any, now: str) -> SchemaMismatch:
        return SchemaMismatch(
            f"{self.name}: column {field.name!r} was {field.type} when the parts were written and {now}: the "
            "table was changed meanwhile. Delete the load's _progress file to write its parts again"
        )


def _field_id(field: Any) -> bytes | None:
    """What Iceberg calls a column by, whatever its name."""
    found: bytes | None = (field.metadata or {}).get(b"PARQUET:field_id")
    return found


def brief(error: BaseException | None) -> str:
    """An error in one line, without the values that a library may add in further ones."""
    text = str(error).splitlines()[0] if str(error) else ""
    return f"{type(error).__name__}: {text[:300]}"
