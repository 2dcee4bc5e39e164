# SPDX-License-Identifier: Apache-2.0
"""Whether the file of an embedded database is still the one that was opened.

A file that is deleted, or replaced, while it is open goes on taking rows and commits, and is gone with the last
connection to it. No database says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from airflow_parallel_provider.errors import SinkError

if TYPE_CHECKING:
    from collections.abc import Iterable


class DatabaseFiles:
    """The files of one database, over all its connections."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[int, int]] = {}

    def watch(self, paths: Iterable[str]) -> None:
        """Remember which files were opened first, and check them.

        :raises SinkError: as :meth:`check`.
        """
        for path in (Path(each).absolute() for each in paths):
            identity = _identity(path)
            if identity is not None:  # not every path is one of this machine
                self._known.setdefault(path, identity)
        self.check()

    def check(self) -> None:
        """Compare the files with those that were opened first.

        :raises SinkError: when one was deleted or replaced.
        """
        for path, identity in self._known.items():
            if _identity(path) != identity:
                raise SinkError(
                    f"the database file {str(path)!r} was deleted or replaced while it was written, and all that was "
                    "committed with it. Find out what does that, and run the task again: it starts over in the file "
                    "that is there"
                )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
