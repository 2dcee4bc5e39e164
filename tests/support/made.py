"""Made-up reports, with exactly the numbers a test needs."""

from __future__ import annotations

from typing import Any

from airflow_parallel_provider.report import RunReport, StageReport

ITEMS = 1000


def stage(name: str = "work", **settings: Any) -> StageReport:
    """One stage; ``ms`` is how long each of its calls took."""
    ms, calls = settings.pop("ms", 10.0), settings.pop("calls", ITEMS)
    values: dict[str, Any] = {
        "kind": "thread",
        "workers": 1,
        "workers_now": 0,
        "items_in": ITEMS,
        "items_out": ITEMS,
        "failed": 0,
        "retried": 0,
        "timed_out": 0,
        "workers_lost": 0,
        "busy_fraction": 0.5,
        "starved_fraction": 0.3,
        "blocked_fraction": 0.2,
        "busy_seconds": calls * ms / 1000,
        "queue_peak": 8,
        "queue_size": 10_000,
        "queue_now": 0,
        "p50_ms": ms,
        "p95_ms": ms,
        "p99_ms": ms,
        "calls": calls,
        "service_ms": [ms] * 11,
    }
    return StageReport(name=name, **values | settings)


def report(*stages: StageReport, **settings: Any) -> RunReport:
    """A successful run of :data:`ITEMS` items."""
    values: dict[str, Any] = {
        "state": "success",
        "name": "",
        "items_read": ITEMS,
        "items_committed": ITEMS,
        "items_filtered": 0,
        "items_dead_lettered": 0,
        "items_skipped": 0,
        "items_unfinished": 0,
        "rows_committed": ITEMS,
        "chunks_committed": 1,
        "chunks_skipped": 0,
        "seconds": 10.0,
        "items_per_second": 100.0,
        "cpu_seconds": 1.0,
        "peak_rss_bytes": 100 << 20,
        "estimated_serial_seconds": 20.0,
        "speedup": 2.0,
        "bottleneck": None,
        "advice": "",
    }
    return RunReport(stages=list(stages), **values | settings)
