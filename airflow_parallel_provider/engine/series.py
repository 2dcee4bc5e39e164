"""Figures over time in bounded space: when it is full, each two neighbours become one and their distance doubles."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.stage_run import StageRun

Name = TypeVar("Name", bound=Hashable)

POINTS = 120
"""Most samples of one series: what a chart can show."""

SAMPLE_EVERY = 0.25
"""Seconds between samples at the beginning of a run."""


class Series(Generic[Name]):
    """Several columns of numbers that are sampled together.

    :param is_gauge: whether a column goes up and down: of two neighbours the larger one is kept then. The others only
        grow, so the later one says it all.
    :param points: most samples, an even number.
    """

    def __init__(self, is_gauge: Callable[[Name], bool], points: int = POINTS) -> None:
        self.seconds: list[float] = []
        self.columns: dict[Name, list[float]] = {}
        self.distance = 0.0
        """Seconds that have to pass between two samples."""
        self._is_gauge = is_gauge
        self._points = points

    def __len__(self) -> int:
        return len(self.seconds)

    def takes(self, seconds: float) -> bool:
        """Whether a sample at this time would be kept: the last one is far enough away."""
        return not self.seconds or seconds - self.seconds[-1] >= self.distance

    def add(self, seconds: float, values: Mapping[Name, float]) -> None:
        """Keep a sample, unless the last one is too near. A column is 0 where it has no value."""
        if not self.takes(seconds):
            return
        if len(self.seconds) >= self._points:
            self.halve()
        for name in values:
            self.columns.setdefault(name, [0] * len(self.seconds))
        for name, column in self.columns.items():
            column.append(values.get(name, 0))
        self.seconds.append(seconds)

    def halve(self) -> None:
        """Make one sample of each two neighbours; the last sample stays as it is."""
        if len(self.seconds) < 2:
            return
        span = self.seconds[-1] - self.seconds[0]
        self.distance = max(self.distance * 2, 1.5 * span / len(self.seconds))
        self.seconds = _every_second(self.seconds)
        for name, column in self.columns.items():
            self.columns[name] = _larger_of_two(column) if self._is_gauge(name) else _every_second(column)


class StageSeries:
    """How full each channel was and how many workers each stage had, over one run. Coordinator only."""

    def __init__(self, stages: Collection[StageRun]) -> None:
        self._stages = [stage for stage in stages if stage.stage.kind != "inline"]
        self._series: Series[tuple[str, str]] = Series(lambda _: True)
        self._series.distance = SAMPLE_EVERY

    @property
    def every(self) -> float:
        """Seconds between samples, at this stage of the run."""
        return self._series.distance

    def sample(self, seconds: float) -> None:
        """Look at all stages, unless it is too early."""
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


def _every_second(column: list[float]) -> list[float]:
    return column[::-1][::2][::-1]


def _larger_of_two(column: list[float]) -> list[float]:
    backwards = column[::-1]
    return [max(backwards[at : at + 2]) for at in range(0, len(backwards), 2)][::-1]
