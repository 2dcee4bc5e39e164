# SPDX-License-Identifier: Apache-2.0
"""Numbers over time in bounded space: a full series merges each two neighbors into one, and their distance doubles."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Generic, TypeVar

Name = TypeVar("Name", bound=Hashable)

POINTS = 120
"""Most samples of one series: what a chart can show."""


class Series(Generic[Name]):
    """Several columns of numbers that are sampled together.

    :param is_gauge: whether a column goes up and down: then the larger one of two neighbors is kept. Other columns only
        grow, so the later one is kept.
    :param points: most samples, an even number.
    """

    def __init__(self, is_gauge: Callable[[Name], bool], points: int = POINTS) -> None:
        self.seconds: list[float] = []
        self.columns: dict[Name, list[float]] = {}
        self.distance = 0.0
        """Least seconds between two samples."""
        self._is_gauge = is_gauge
        self._points = points

    def __len__(self) -> int:
        return len(self.seconds)

    def takes(self, seconds: float) -> bool:
        """Whether a sample at this time would be kept, because the last one is far enough away."""
        return not self.seconds or seconds - self.seconds[-1] >= self.distance

    def add(self, seconds: float, values: Mapping[Name, float]) -> None:
        """Keep a sample, unless the last one is too near. A column without a value gets 0."""
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
        """Merge each two neighbors into one sample; the last sample stays as it is."""
        if len(self.seconds) < 2:
            return
        span = self.seconds[-1] - self.seconds[0]
        self.distance = max(self.distance * 2, 1.5 * span / len(self.seconds))
        self.seconds = _every_second(self.seconds)
        for name, column in self.columns.items():
            self.columns[name] = _larger_of_two(column) if self._is_gauge(name) else _every_second(column)


def _every_second(column: list[float]) -> list[float]:
    return column[::-1][::2][::-1]


def _larger_of_two(column: list[float]) -> list[float]:
    backwards = column[::-1]
    return [max(backwards[at : at + 2]) for at in range(0, len(backwards), 2)][::-1]
