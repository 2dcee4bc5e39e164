# SPDX-License-Identifier: Apache-2.0
"""Which part of a source an item came from: a page, or a file."""

from __future__ import annotations

from array import array
from bisect import bisect_right


class Places:
    """Where each part begins, in the order of the parts. One thread adds, any thread asks."""

    def __init__(self) -> None:
        self._begins = array("q")
        self._names: list[str] = []

    def begin(self, name: str, position: int) -> None:
        """A part begins.

        :param position: of its first item in the source.
        """
        self._names.append(name)
        self._begins.append(position)

    def of(self, position: int) -> tuple[str, int] | None:
        """The part of an item, and its number in it, from 0; None for one before the first part.

        :param position: of the item in the source.
        """
        at = bisect_right(self._begins, position) - 1
        return None if at < 0 else (self._names[at], position - self._begins[at])
