# SPDX-License-Identifier: Apache-2.0
"""Progress of a run: its rate, the time left and a line for the task log."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.formats import format_done, format_duration, format_number
from airflow_parallel_provider.monitoring.history import items_done

if TYPE_CHECKING:
    from collections.abc import Mapping

_WINDOW = 30.0
"""Seconds that the rate is taken over: short enough to show a change, long enough not to jump."""


class Progress:
    """Rate and time left, from the snapshots of the last half minute."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def add(self, snapshot: Mapping[str, Any]) -> None:
        """Take the next snapshot."""
        at = float(snapshot.get("seconds") or 0.0)
        self._seen.append((at, _items_worked_off(snapshot)))
        while len(self._seen) > 2 and at - self._seen[0][0] > _WINDOW:
            self._seen.popleft()

    @property
    def rate(self) -> float:
        """Items finished per second in this try; 0.0 before two snapshots. Chunks of an earlier try do not count."""
        if len(self._seen) < 2:
            return 0.0
        (first, done_first), (last, done_last) = self._seen[0], self._seen[-1]
        return (done_last - done_first) / (last - first) if last > first else 0.0

    def seconds_left(self, snapshot: Mapping[str, Any]) -> float | None:
        """Seconds until all items are done at this rate; None where their number or the rate is unknown."""
        total = snapshot.get("items_total")
        if total is None or self.rate <= 0:
            return None
        return round(max(0, int(total) - items_done(snapshot)) / self.rate, 1)

    def line(self, snapshot: Mapping[str, Any]) -> str:
        """One line for the log."""
        done, total = items_done(snapshot), snapshot.get("items_total")
        parts = [f"{done:,} items"]
        if total:
            parts = [f"{done:,} of {total:,} items ({format_done(done, total)})"]
        parts.append(f"{format_number(self.rate)}/s")
        if (left := self.seconds_left(snapshot)) is not None:
            parts.append(f"about {format_duration(left, estimate=True)} left")
        if skipped := snapshot.get("items_skipped"):
            parts.append(f"{skipped:,} already committed")
        if failed := snapshot.get("items_dead_lettered"):
            parts.append(f"{failed:,} failed")
        return ", ".join(parts) + _queues(snapshot)


def _items_worked_off(snapshot: Mapping[str, Any]) -> int:
    """Items that this try has finished: skipping those of an earlier try takes almost no time (issue 17, A4)."""
    return items_done(snapshot) - int(snapshot.get("items_skipped") or 0)


def _queues(snapshot: Mapping[str, Any]) -> str:
    fills = [f"{each['name']} {each['queue_now']}/{each['queue_size']}" for each in snapshot.get("stages", ())]
    return f"; waiting: {', '.join(fills)}" if fills else ""
