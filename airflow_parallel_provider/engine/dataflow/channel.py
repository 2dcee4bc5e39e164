# SPDX-License-Identifier: Apache-2.0
"""The bounded queue in front of a stage.

*Closed* is the normal end: nothing more will be put, readers drain what is left. *Broken* means the run is being torn
down: every thread that waits in :meth:`Channel.put` or :meth:`Channel.get` gets :class:`ChannelBroken` at once.

The bound counts items, and an estimate of their bytes. Bundles that are requeued for another attempt were counted
before and are not counted again; ``max_in_flight`` bounds them.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from airflow_parallel_provider.engine.dataflow.allowance import Allowance
from airflow_parallel_provider.engine.dataflow.bundle import Bundle

Dispatch = list[Bundle]
"""The bundles that one worker takes at once."""

MAX_BYTES: Final = 256 << 20
"""Estimated bytes that one channel holds at most; a single larger call may wait alone."""


class ChannelBroken(Exception):
    """The run is being torn down: nothing can be put or taken any more."""


END: Final[Dispatch] = []
"""Returned by :meth:`Channel.get` when there will be no more calls. Compare with ``is``."""


class Channel:
    """A bounded queue of bundles for many writers and many readers.

    :param capacity: items that it holds at most.
    :param batched: whether each call of a bundle is a batch.
    :param allowance: what may be taken, and how fast; None: no limit.
    """

    def __init__(self, capacity: int, *, batched: bool = False, allowance: Allowance | None = None) -> None:
        self.capacity = capacity
        self.peak = 0  # most items at once
        self.items = 0
        self.calls = 0
        self.bytes = 0
        self.waiting = 0  # readers
        self.retiring = 0  # workers that are to end
        self.closed = False  # the writers are done
        self.refill: Callable[[], list[Bundle]] | None = None
        self._writers_waiting = 0
        self._batched = batched
        self.allowance = allowance or Allowance(batched=batched)
        self.unsettled = 0  # calls that were taken
        self._lock = threading.Lock()
        self._readable = threading.Condition(self._lock)
        self._writable = threading.Condition(self._lock)
        self._bundles: deque[Bundle] = deque()
        self._requeued: list[tuple[float, int, Bundle]] = []  # heap: due time, tie breaker, bundle
        self._requeues = 0
        self._broken = False

    @property
    def ended(self) -> bool:
        """Whether it is closed and empty, and nothing can be requeued."""
        return self.closed and not self._bundles and not self._requeued and not self.unsettled

    def grow(self, capacity: int) -> None:
        """Raise the bound; it is never lowered, so that the peak always stays below it."""
        with self._lock:
            if capacity > self.capacity:
                self.capacity = capacity
                self._writable.notify_all()

    def put(self, bundle: Bundle) -> float:
        """Add a bundle, in parts if necessary; return the seconds spent waiting for room.

        :raises ChannelBroken: when the run is being torn down.
        """
        waited = 0.0
        self.allowance.price(bundle)
        with self._lock:
            while True:
                if self._broken:
                    raise ChannelBroken
                calls, size = self._fitting(bundle)
                if calls == len(bundle.values):
                    self._append(bundle)
                    return waited
                if calls:
                    self._append(bundle.cut(calls, size))
                    continue
                waited += self._wait_for_room()

    def _wait_for_room(self) -> float:
        began = time.monotonic()
        self._writers_waiting += 1
        try:
            self._writable.wait()
        finally:
            self._writers_waiting -= 1
        return time.monotonic() - began

    def _fitting(self, bundle: Bundle) -> tuple[int, int]:
        """How many calls of the bundle fit, and their items. An empty channel has room for any one batch."""
        room = self.capacity - self.items
        if self.bytes + bundle.bytes > MAX_BYTES:
            return self._fitting_bytes(bundle)
        if bundle.size <= room:
            return len(bundle.values), bundle.size
        if not self._batched:
            return max(0, room), max(0, room)
        calls = size = 0
        for batch in bundle.values:
            if size + len(batch) > room:
                break
            calls += 1
            size += len(batch)
        return calls, size

    def _fitting_bytes(self, bundle: Bundle) -> tuple[int, int]:
        """Like :meth:`_fitting`, for a bundle with too many bytes. An empty channel takes at least one call."""
        each = max(1, bundle.bytes // len(bundle.values))
        calls = min(len(bundle.values), (MAX_BYTES - self.bytes) // each)
        if calls <= 0:
            calls = 0 if self.items else 1
        size = sum(map(len, bundle.values[:calls])) if self._batched else calls
        while calls and self.items and self.items + size > self.capacity:
            calls -= 1
            size = sum(map(len, bundle.values[:calls])) if self._batched else calls
        return calls, size

    def _append(self, bundle: Bundle) -> None:
        self._bundles.append(bundle)
        self.items += bundle.size
        self.bytes += bundle.bytes
        self.calls += len(bundle.values)
        self.peak = max(self.peak, self.items)
        self._readable.notify(min(len(bundle.values), self.waiting) or 1)

    def requeue(self, bundle: Bundle, delay: float = 0.0, *, made: bool = True) -> None:
        """Return a bundle for another attempt after ``delay`` seconds. Never blocks; call before :meth:`settled`.

        :param made: whether its calls were made, and so have cost something.
        """
        self.allowance.price(bundle)
        with self._lock:
            if not made:
                for cost in bundle.costs or ():
                    self.allowance.give_back(cost)
            self._requeues += 1
            heapq.heappush(self._requeued, (time.monotonic() + delay, self._requeues, bundle))
            self._readable.notify()

    def settled(self, calls: int) -> None:
        """``calls`` calls taken earlier are settled: they ended, or were requeued."""
        with self._lock:
            self.unsettled -= calls
            if self.ended:
                self._readable.notify_all()

    def get(self, limit: Callable[[int], int], *, block: bool = True) -> Dispatch | None:
        """Take calls for one worker.

        :param limit: called with the number of calls that wait; returns how many to take at most.
        :param block: wait for calls; otherwise return None when there are none.
        :return: the bundles; END when there will be no more calls, or when the worker is to end.
        :raises ChannelBroken: when the run is being torn down.
        """
        with self._lock:
            self.waiting += 1
            try:
                while True:
                    if self._broken:
                        raise ChannelBroken
                    if self.retiring and block:
                        self.retiring -= 1
                        return END
                    dispatch, pause = self._ready(limit)
                    if dispatch:
                        self.unsettled += sum(len(bundle.values) for bundle in dispatch)
                        return dispatch
                    if self.ended:
                        self._readable.notify_all()
                        return END
                    if not block:
                        return None
                    self._readable.wait(pause)
            finally:
                self.waiting -= 1

    def _ready(self, limit: Callable[[int], int]) -> tuple[Dispatch, float | None]:
        pause: float | None = None
        allowance = self.allowance
        if allowance.limited:
            pause = allowance.pause(time.monotonic())
            if pause > 0:
                return [], pause
            pause = None
        if self._requeued:
            pause = self._requeued[0][0] - time.monotonic()
            if pause <= 0:
                return self._take_requeued(), None
        if not self._bundles and self.refill is not None:
            for bundle in self.refill():
                self._append(bundle)
        if not self._bundles:
            return [], pause
        count = max(1, limit(self.calls))
        if allowance.weighted:
            return self._take_weighted(count), None
        allowed = allowance.allowed
        if allowed is None:
            return self._pop(count), None
        dispatch = self._pop(min(count, allowed))
        allowance.spend(sum(bundle.size for bundle in dispatch))
        return dispatch, None

    def _take_requeued(self) -> Dispatch:
        due, tie, bundle = heapq.heappop(self._requeued)
        if not self.allowance.weighted:
            self.allowance.spend(bundle.size)
            return [bundle]
        if not self.allowance.take(_first_cost(bundle)):
            heapq.heappush(self._requeued, (due, tie, bundle))
            return []
        if len(bundle.values) == 1:
            return [bundle]
        first = bundle.cut(1, len(bundle.values[0]) if self._batched else 1)
        heapq.heappush(self._requeued, (due, tie, bundle))
        return [first]

    def _take_weighted(self, limit: int) -> Dispatch:
        """Call by call, as long as the rate and the budget allow."""
        dispatch: Dispatch = []
        while self._bundles and len(dispatch) < limit and self.allowance.take(_first_cost(self._bundles[0])):
            dispatch += self._pop(1)
            if self.allowance.pause(time.monotonic()) > 0:
                break
        return dispatch

    def _pop(self, limit: int) -> Dispatch:
        dispatch: Dispatch = []
        while limit > 0 and self._bundles:
            bundle = self._bundles[0]
            calls = len(bundle.values)
            if calls > limit:
                size = sum(map(len, bundle.values[:limit])) if self._batched else limit
                bundle = bundle.cut(limit, size)
                calls = limit
            else:
                self._bundles.popleft()
            dispatch.append(bundle)
            limit -= calls
            self.calls -= calls
            self.items -= bundle.size
            self.bytes -= bundle.bytes
        # A low-water mark: to wake a writer for every call that is taken costs more than the call, and meanwhile the
        # readers have the other half.
        if self._writers_waiting and self.items <= self.capacity // 2:
            self._writable.notify(self.capacity - self.items)
        return dispatch

    def retire(self, workers: int) -> None:
        """Let ``workers`` workers end, idle ones first."""
        with self._lock:
            self.retiring += workers
            self._readable.notify_all()

    def take_retirements(self, most: int = 1) -> int:
        """Take up to ``most`` of the retirements that :meth:`retire` has asked for, and return how many.

        For a worker outside :meth:`get` that leaves now, and for a stage that needs its workers after all.
        """
        if not self.retiring:
            return 0
        with self._lock:
            taken = min(most, self.retiring)
            self.retiring -= taken
        return taken

    def next_due(self) -> float | None:
        """Seconds until a bundle that waits may be taken; None when none waits."""
        with self._lock:
            if not self._requeued and not self._bundles:
                return None
            now = time.monotonic()
            due = now if self._bundles else self._requeued[0][0]
            return max(0.0, due - now, self.allowance.pause(now))

    def close(self) -> None:
        """Nothing more will be put: readers drain what is left and then get END."""
        with self._lock:
            self.closed = True
            self._readable.notify_all()

    def break_(self) -> None:
        """Tear down: every call that waits, now or later, raises :class:`ChannelBroken`."""
        with self._lock:
            self._broken = True
            self._readable.notify_all()
            self._writable.notify_all()


def _first_cost(bundle: Bundle) -> float:
    assert bundle.costs is not None, "the channel prices each bundle that comes in"
    return bundle.costs[0]
