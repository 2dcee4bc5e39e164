# SPDX-License-Identifier: Apache-2.0
"""The history of the stages: samples of queue lengths and worker counts over time."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.engine.metrics.time_series import Series

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.stages.stage_run import StageRun

SAMPLE_EVERY = 0.25
"""Seconds between samples at the beginning of a run."""


class StageSeries:
    """Samples how full each channel is and how many workers each stage has. Coordinating thread only."""

    def __init__(self, stages: Collection[StageRun]) -> None:
        self._stages = [stage for stage in stages if stage.stage.kind != "inline"]
        self._series: Series[tuple[str, str]] = Series(lambda _: True)
        self._series.distance = SAMPLE_EVERY

    @property
    def every(self) -> float:
        """Seconds between samples; grows with the length of the run."""
        return self._series.distance

    def sample(self, seconds: float) -> None:
        """Sample all stages, unless it is too early."""
        if not self._series.takes(seconds):
            return
        values: dict[tuple[str, str], float] = {}
        for stage in self._stages:
            values[stage.stage.name, "queue"] = stage.channel.items
            values[stage.stage.name, "workers"] = stage.workers
        self._series.add(round(seconds, 2), values)

    def as_dict(self) -> dict[str, Any]:
        """``seconds``, and under ``stages`` by name the columns ``queue`` and ``workers``."""
        stages: dict[str, dict[str, list[float]]] = {stage.stage.name: {} for stage in self._stages}
        for (stage, what), column in self._series.columns.items():
            stages[stage][what] = list(column)
        return {"seconds": list(self._series.seconds), "stages": stages}
