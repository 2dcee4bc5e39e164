"""Doubles of what Airflow gives to a task."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any


@dataclass
class FakeTaskInstance:
    """Remembers what is pushed; raises when the test says so."""

    dag_id: str = "flights"
    task_id: str = "score"
    run_id: str = "manual__2026-11-21T08:00:00+00:00"
    map_index: int | None = -1
    try_number: int = 1
    max_tries: int = 2
    pushed: list[tuple[str, Any]] = field(default_factory=list)
    refuse: Exception | None = None
    returned: dict[str, list[Any]] = field(default_factory=dict)

    def xcom_push(self, key: str, value: Any) -> None:
        if self.refuse is not None:
            raise self.refuse
        self.pushed.append((key, value))

    def xcom_pull(self, task_ids: list[str]) -> list[Any]:
        """What other tasks have returned."""
        return [value for task_id in task_ids for value in self.returned.get(task_id, ())]

    def values(self, key: str) -> list[Any]:
        """Everything that was pushed under ``key``, oldest first."""
        return [value for name, value in self.pushed if name == key]


@dataclass
class FakeStateStore:
    """The task state store of Airflow 3.3."""

    kept: dict[str, Any] = field(default_factory=dict)

    def set(self, key: str, value: Any) -> None:
        self.kept[key] = value


STARTED = datetime(2026, 11, 21, 8, 0, 1, 500_000, tzinfo=UTC)


def snapshot(seconds: float = 0.0, *, committed: int = 0, stages: int = 1, **more: Any) -> dict[str, Any]:
    """What the engine tells of a run after so many seconds."""
    stage = {
        "name": "score",
        "kind": "process",
        "workers": 2,
        "items_in": committed,
        "items_out": committed,
        "failed": 0,
        "queue_now": 3,
        "queue_size": 64,
        "busy_seconds": seconds / 3,
    }
    value = {
        "state": "running",
        "seconds": seconds,
        "items_read": committed,
        "items_committed": committed,
        "items_filtered": 0,
        "items_dead_lettered": 0,
        "items_skipped": 0,
        "rows_committed": committed,
        "cpu_seconds": seconds / 2,
        "peak_rss_bytes": 150_000_000,
        "failures": [],
        "stages": [{**stage, "name": f"score{number or ''}"} for number in range(stages)],
        "items_total": None,
        "final": False,
    }
    return {**value, **more}
