# SPDX-License-Identifier: Apache-2.0
"""Rows in a temporary file, for a database that cannot be written while it is read."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any


class Spool:
    """Reads all parts, keeps them in a temporary file without a name, and gives them back once."""

    def __init__(self, parts: Iterable[list[Any]]) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  # closed when it is read
        try:
            for part in parts:
                pickle.dump(part, self._file, pickle.HIGHEST_PROTOCOL)
        except BaseException:
            self._file.close()
            raise

    def __iter__(self) -> Iterator[list[Any]]:
        """The parts, in their order."""
        with self._file as file:
            end = file.tell()
            file.seek(0)
            while file.tell() < end:
                yield pickle.load(file)  # noqa: S301 - this process has written it
