# SPDX-License-Identifier: Apache-2.0
"""Metrics over time, for charts, in bounded space."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.engine.metrics.time_series import POINTS, Series

if TYPE_CHECKING:
    from collections.abc import Mapping

RUN_COLUMNS = ("items_read", "items_done", "rows_committed", "items_dead_lettered", "cpu_seconds", "rss_bytes")
QUANTILES = ("p50_ms", "p95_ms", "p99_ms")
STAGE_COLUMNS = (
    *("items_in", "items_out", "busy_seconds", "starved_seconds", "blocked_seconds"),
    *("queue_now", "workers_now"),
    *QUANTILES,
)
_GAUGES = frozenset({"rss_bytes", "queue_now", "workers_now", *QUANTILES})
"""Of two neighbors the larger one is kept. The other columns only grow, so the later one is kept."""


def items_done(snapshot: Mapping[str, Any]) -> int:
    """Items whose fate is known."""
    fates = ("items_committed", "items_filtered", "items_dead_lettered", "items_skipped")
    return sum(int(snapshot.get(each) or 0) for each in fates)


class History:
    """Samples of a run, bounded: see :class:`~airflow_parallel_provider.engine.metrics.time_series.Series`.

    :param points: most samples, an even number.
    """

    def __init__(self, points: int = POINTS) -> None:
        self._series: Series[tuple[str, str]] = Series(lambda name: name[1] in _GAUGES, points)
        self._stages: list[str] = []

    def __len__(self) -> int:
        return len(self._series)

    def add(self, snapshot: Mapping[str, Any]) -> None:
        """Keep the metrics of ``snapshot``, unless the last sample is too recent."""
        seconds = round(float(snapshot.get("seconds") or 0.0), 1)
        if not self._series.takes(seconds):
            return
        run = {**snapshot, "items_done": items_done(snapshot)}
        values = {("", name): _number(run.get(name)) for name in RUN_COLUMNS}
        for stage in snapshot.get("stages", ()):
            if stage["name"] not in self._stages:
                self._stages.append(stage["name"])
            metrics = {**stage, **_recent_quantiles(stage)}
            values.update({(stage["name"], name): _number(metrics.get(name)) for name in STAGE_COLUMNS})
        self._series.add(seconds, values)

    def halve(self) -> None:
        """Merge each two neighboring samples into one; the last sample stays as it is."""
        self._series.halve()

    def as_dict(self) -> dict[str, Any]:
        """Columns: ``seconds``, those of the run, and under ``stages`` those of each stage by name."""
        columns = self._series.columns
        run = {name: list(columns.get(("", name), ())) for name in RUN_COLUMNS}
        stages = {stage: {name: list(columns[stage, name]) for name in STAGE_COLUMNS} for stage in self._stages}
        return {"seconds": list(self._series.seconds), **run, "stages": stages}


def _recent_quantiles(stage: Mapping[str, Any]) -> dict[str, float]:
    """Milliseconds of the calls that ended since the snapshot before; 0 where none ended, since no call takes 0."""
    return dict(zip(QUANTILES, stage.get("recent_ms") or (0, 0, 0), strict=False))


def _number(value: object) -> float:
    """Three or four digits for small numbers, whole numbers above: enough for a chart."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return 0
    if isinstance(value, int) or abs(value) >= 1000:
        return round(value)
    return round(value, 1 if abs(value) >= 100 else 3 if abs(value) < 1 else 2)
