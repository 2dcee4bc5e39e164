"""A process that reads a table over and over while others replace its rows, and says what it should not have seen."""

from __future__ import annotations

import os
import re
import select
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.children import Child
from tests.support.databases import TestDatabase

_PAUSE = 0.002
"""Seconds between two looks; SQLite would have no time to write."""
_GONE = re.compile(r"(?i)no such table|does ?n.t exist|does not exist|could not open relation")


class Reader:
    """Looks at a table until the end of the ``with`` block, which raises when a look was wrong.

    :param query: one statement whose single row is looked at.
    :param judge: says what is wrong about the row, or None.
    :param may_be_absent: there is no table at first.

    A server that is down is no wrong look, a table that was there and is gone is one.
    """

    def __init__(
        self, database: TestDatabase, query: str, judge: Callable[[Any], str | None], *, may_be_absent: bool = False
    ) -> None:
        self._database, self._query, self._judge = database, query, judge
        self._seen = not may_be_absent
        handle, name = tempfile.mkstemp(prefix="chaos-", suffix=".seen")
        os.close(handle)
        self._said = Path(name)
        self.looks = 0
        """How often it has looked, known at the end."""

    def __enter__(self) -> Self:
        """Begin."""
        self._wait, self._stop = os.pipe()
        self._child = Child(self._live)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """End it, and tell what it has seen."""
        os.write(self._stop, b"x")
        code = self._child.wait()
        for end in (self._wait, self._stop):
            os.close(end)
        looks, _, wrong = self._said.read_text(encoding="utf-8").partition("\n")
        self._said.unlink()
        if kind is None:
            assert code == 0, f"the reader ended with {code}: {looks} {wrong}"
            assert not wrong, wrong
            self.looks = int(looks)

    def _live(self) -> None:
        parent, looks, wrong = os.getppid(), 0, ""
        raw: Any = None
        while not wrong and os.getppid() == parent and not select.select([self._wait], [], [], _PAUSE)[0]:
            try:
                raw = raw or self._database.raw()
                row = self._look(raw)
            except Exception as error:
                if raw is not None:
                    with closing(raw):
                        raw = None
                if _GONE.search(str(error)):
                    wrong = f"the table is gone: {error}" if self._seen else ""
                elif type(error).__name__ not in (
                    "OperationalError",
                    "InterfaceError",
                    "AdminShutdown",
                    "DatabaseError",
                ):
                    wrong = f"{type(error).__name__}: {error}"
            else:
                looks, self._seen = looks + 1, True
                wrong = self._judge(row) or ""
        self._said.write_text(f"{looks}\n{wrong}", encoding="utf-8")

    def _look(self, raw: Any) -> Any:
        cursor = raw.cursor()
        try:
            cursor.execute(self._query)
            return cursor.fetchone()
        finally:
            cursor.close()
            raw.rollback()
