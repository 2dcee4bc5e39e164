"""Figures over time, for charts, in bounded space."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

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
"""Of two neighbours the larger one is kept; the other columns only grow, so the later one says it all."""


def items_done(snapshot: Mapping[str, Any]) -> int:
    """Items whose fate is known."""
    fates = ("items_committed", "items_filtered", "items_dead_lettered", "items_skipped")
    return sum(int(snapshot.get(each) or 0) for each in fates)


class History:
    """Samples of a run at even distances. When it is full, each two neighbours become one and the distance doubles.

    :param points: most samples, an even number.
    """

    def __init__(self, points: int = 120) -> None:
        self._points = points
        self._distance = 0.0
        self._at: list[float] = []
        self._run: dict[str, list[float]] = {name: [] for name in RUN_COLUMNS}
        self._stages: dict[str, dict[str, list[float]]] = {}

    def __len__(self) -> int:
        return len(self._at)

    def add(self, snapshot: Mapping[str, Any]) -> None:
        """Keep the figures of ``snapshot``, unless the last sample is too near."""
        seconds = round(float(snapshot.get("seconds") or 0.0), 1)
        if self._at and seconds - self._at[-1] < self._distance:
            return
        if len(self._at) >= self._points:
            self.halve()
        self._at.append(seconds)
        values = {**snapshot, "items_done": items_done(snapshot)}
        for name, column in self._run.items():
            column.append(_number(values.get(name)))
        for stage in snapshot.get("stages", ()):
            columns = self._stages.setdefault(stage["name"], {name: [] for name in STAGE_COLUMNS})
            figures = {**stage, **_recent_quantiles(stage)}
            for name, column in columns.items():
                column.append(_number(figures.get(name)))

    def halve(self) -> None:
        """Make one sample of each two neighbours; the last sample stays as it is."""
        if len(self._at) < 2:
            return
        span = self._at[-1] - self._at[0]
        self._distance = max(self._distance * 2, 1.5 * span / len(self._at))
        self._at = _every_second(self._at)
        for columns in (self._run, *self._stages.values()):
            for name, column in columns.items():
                columns[name] = _larger_of_two(column) if name in _GAUGES else _every_second(column)

    def as_dict(self) -> dict[str, Any]:
        """Columns: ``seconds``, those of the run, and under ``stages`` those of each stage by name."""
        stages = {name: _copied(columns) for name, columns in self._stages.items()}
        return {"seconds": list(self._at), **_copied(self._run), "stages": stages}


def _copied(columns: Mapping[str, list[float]]) -> dict[str, list[float]]:
    return {name: list(column) for name, column in columns.items()}


def _recent_quantiles(stage: Mapping[str, Any]) -> dict[str, float]:
    """Milliseconds of the calls that ended since the look before; 0 where none ended, no call takes that."""
    return dict(zip(QUANTILES, stage.get("recent_ms") or (0, 0, 0), strict=False))


def _number(value: object) -> float:
    """Three or four digits of what is small, whole numbers above: enough for a chart."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return 0
    if isinstance(value, int) or abs(value) >= 1000:
        return round(value)
    return round(value, 1 if abs(value) >= 100 else 3 if abs(value) < 1 else 2)


def _every_second(column: list[float]) -> list[float]:
    return column[::-1][::2][::-1]


def _larger_of_two(column: list[float]) -> list[float]:
    backwards = column[::-1]
    return [max(backwards[at : at + 2]) for at in range(0, len(backwards), 2)][::-1]
