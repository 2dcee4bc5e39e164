"""How many items may be under way at once."""

from __future__ import annotations

import threading
import time

from airflow_parallel_provider.engine.dataflow.channel import ChannelBroken


class InFlightLimit:
    """Bounds the items that are read but not finished (``max_in_flight``).

    :param may_grow: whether :meth:`grow` raises the bound; an author's own ``max_in_flight`` stays as it is.
    """

    def __init__(self, limit: int, *, may_grow: bool = True) -> None:
        self.limit = limit
        self.may_grow = may_grow
        self.used = 0
        self.peak = 0
        self._changed = threading.Condition()
        self._broken = False
        self._paused = False

    def acquire(self, items: int) -> float:
        """Wait until ``items`` more may be in flight; return the seconds waited. One chunk may always be."""
        began = time.monotonic()
        with self._changed:
            while self.used and (self._paused or self.used + items > self.limit):
                if self._broken:
                    raise ChannelBroken
                self._changed.wait()
            if self._broken:
                raise ChannelBroken
            self.used += items
            self.peak = max(self.peak, self.used)
        return time.monotonic() - began

    def release(self, items: int) -> None:
        """Items have found their fate."""
        with self._changed:
            self.used -= items
            self._changed.notify()

    def grow(self, limit: int) -> None:
        """Raise the bound, where that is allowed; it never shrinks. For items that are fast and light."""
        if not self.may_grow:
            return
        with self._changed:
            if limit > self.limit:
                self.limit = limit
                self._changed.notify()

    def pause(self, *, paused: bool) -> None:
        """Let nothing more in (memory is short), as long as something is in flight that can be finished."""
        with self._changed:
            self._paused = paused
            self._changed.notify()

    def break_(self) -> None:
        """Tear down."""
        with self._changed:
            self._broken = True
            self._changed.notify_all()
