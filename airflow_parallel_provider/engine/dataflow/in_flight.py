# SPDX-License-Identifier: Apache-2.0
"""The limit on items in flight."""

from __future__ import annotations

import threading
import time

from airflow_parallel_provider.engine.dataflow.channel import ChannelBroken


class InFlightLimit:
    """Limits the items that are read but not finished (``max_in_flight``).


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
        """Wait until ``items`` more may be in flight; return the seconds waited. One chunk always may.

        :raises ChannelBroken: when the run is being torn down.
        """
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
        """``items`` are finished: committed, filtered or dead-lettered."""
        with self._changed:
            self.used -= items
            self._changed.notify()

    def grow(self, limit: int) -> None:
        """Raise the limit, where that is allowed; it is never lowered. For items that are fast and light."""
        if not self.may_grow:
            return
        with self._changed:
            if limit > self.limit:
                self.limit = limit
                self._changed.notify()

    def pause(self, *, paused: bool) -> None:
        """Let no more items in while any are in flight: memory is short."""
        with self._changed:
            self._paused = paused
            self._changed.notify()

    def break_(self) -> None:
        """Tear down: every wait, now or later, raises :class:`ChannelBroken`."""
        with self._changed:
            self._broken = True
            self._changed.notify_all()
