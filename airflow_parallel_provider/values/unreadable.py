# SPDX-License-Identifier: Apache-2.0
"""Stands in a row for a value that Python cannot hold, so that the other rows of its range are read."""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn

from airflow_parallel_provider.errors import SourceError

NOT_READ_CURE = "correct the value in the source, or leave the row out in a stage"


class UnreadableValue(SourceError):
    """A value that Python cannot hold. The text is the reason, and never holds the value."""


class DatabaseText(str):
    """A value as the text of its database, on its way into a column of the same type."""

    __slots__ = ()


class Unreadable:
    """A value of a source that Python cannot hold, such as the date ``infinity``.

    A column of PostgreSQL of the type that it was read from takes it as it is. Everywhere else a sink refuses its row,
    by column and reason. A function that uses the value fails with :class:`UnreadableValue`;
    ``isinstance(value, Unreadable)`` finds it.
    """

    __slots__ = ("place", "reason", "source_type", "text")

    is_unreadable: ClassVar = True
    """How the engine, which does not import this class, tells it from other values."""

    def __init__(self, reason: str, place: str, source_type: str | None = None, text: str = "") -> None:
        self.reason = reason
        self.place = place
        """Column and row that it was read from."""
        self.source_type = source_type
        """The type in PostgreSQL that the text is of, such as ``timestamptz``; None: there is no text."""
        self.text = text
        """The value as PostgreSQL writes it."""

    def __repr__(self) -> str:
        """Reason and place."""
        return f"<unreadable: {self.reason}, {self.place}>"

    def refuse(self, *_: Any) -> NoReturn:
        """Fail, as whatever uses the value does."""
        raise UnreadableValue(
            f"{self.place}: {self.reason}. Correct the value in the table, leave the column out with columns=, or the "
            "row with where="
        )

    def __getattr__(self, name: str) -> NoReturn:
        """Say why there is no such attribute."""
        if name in self.__slots__ or name.startswith("__"):  # while it is unpickled, and whatever protocols ask for
            raise AttributeError(name)
        raise AttributeError(f"{self.place}: {self.reason}, so it has no attribute {name!r}")

    __str__ = __bool__ = __eq__ = __lt__ = __le__ = __gt__ = __ge__ = __len__ = __iter__ = refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __int__ = __float__ = refuse
    __hash__ = object.__hash__
