# SPDX-License-Identifier: Apache-2.0
"""The counters of one worker. Only the thread of the worker writes them; reports read them."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

MOST_KEPT = 256
"""Workers a stage keeps counters of before it drops those of ended workers that no report would show."""

MOST_SHOWN = 64
"""Most workers listed in a report: those that failed or worked most."""


@dataclass(slots=True)
class WorkerMetrics:
    """Counters of one worker; a process worker keeps them when its worker process is replaced."""

    stage: str
    number: int
    calls: int = 0
    failed: int = 0
    busy: float = 0.0
    starved: float = 0.0
    blocked: float = 0.0
    cpu: float = 0.0
    peak_rss: int = 0
    lost: int = 0
    ended: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON; seconds, bytes, and the share of its calls that failed."""
        return {
            "stage": self.stage,
            "number": self.number,
            "calls": self.calls,
            "failed": self.failed,
            "failure_rate": round(self.failed / self.calls, 6) if self.calls else 0.0,
            "busy_seconds": round(self.busy, 4),
            "starved_seconds": round(self.starved, 4),
            "blocked_seconds": round(self.blocked, 4),
            "cpu_seconds": round(self.cpu, 4),
            "peak_rss_bytes": self.peak_rss,
            "lost": self.lost,
        }


def for_report(worker_metrics: list[WorkerMetrics]) -> list[dict[str, Any]]:
    """The counters for a report, in the order of stages and workers."""
    kept = _is_worth_showing(worker_metrics)
    return [metrics.as_dict() for metrics in worker_metrics if id(metrics) in kept]


def prune(worker_metrics: list[WorkerMetrics]) -> list[WorkerMetrics]:
    """Drop ended workers that no report would show: the number of short-lived workers has no bound."""
    kept = _is_worth_showing(metrics for metrics in worker_metrics if metrics.ended)
    return [metrics for metrics in worker_metrics if not metrics.ended or id(metrics) in kept]


def _is_worth_showing(worker_metrics: Iterable[WorkerMetrics]) -> set[int]:
    best = heapq.nlargest(MOST_SHOWN, worker_metrics, key=lambda metrics: (metrics.failed, metrics.lost, metrics.busy))
    return {id(metrics) for metrics in best}
