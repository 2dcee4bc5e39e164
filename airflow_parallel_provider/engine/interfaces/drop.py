"""Named singletons that travel between processes."""

from __future__ import annotations

from typing import Final, final


@final
class _Drop:
    """Returned by a stage's function in an item's place: the item leaves the pipeline and counts as filtered."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "DROP"

    def __reduce__(self) -> str:
        # By name, so that ``is DROP`` holds on the other side of a process border.
        return "DROP"


DROP: Final = _Drop()
