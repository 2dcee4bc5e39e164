# SPDX-License-Identifier: Apache-2.0
"""DROP: the result that filters an item."""

from __future__ import annotations

from typing import Final, final


@final
class _Drop:
    """Returned by a stage's function in an item's place: the item leaves the pipeline and counts as filtered."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "DROP"

    def __reduce__(self) -> str:
        # By name, so that ``is DROP`` also holds in another process.
        return "DROP"


DROP: Final = _Drop()
