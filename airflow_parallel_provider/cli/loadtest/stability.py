# SPDX-License-Identifier: Apache-2.0
"""Judges from samples whether the rate is steady and memory bounded, with statistics that are robust to outliers."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from airflow_parallel_provider.cli.loadtest.sampling import Sample

MOST_WINDOWS = 20
LEAST_WINDOWS = 5
ITEMS_PER_WINDOW = 20
"""Fewest items per window: with fewer items their number depends more on chance than on the pipeline."""
LEAST_SAMPLES = 8

_START_UP = 0.1
"""Share of the run that is not judged: workers start, channels fill."""
_MEMORY_START_UP = 0.3
"""For memory it is longer: allocators keep memory that they once had."""


@dataclass(frozen=True, slots=True)
class Stability:
    """The rate over time."""

    windows: list[float]
    """Items per second in equal windows, without start-up and end."""
    window_seconds: float
    mean: float
    variation: float
    """Coefficient of variation: standard deviation divided by mean."""
    trend: float
    """Change of the rate from the first window to the last, as a share of the median; negative: it slows down."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory over time, task process and workers together."""

    samples: int
    first_bytes: int
    last_bytes: int
    peak_bytes: int
    median_bytes: float
    bytes_per_second: float
    """Slope through the samples after start-up (Theil-Sen: the median of all slopes between two samples)."""
    bytes_per_thousand_items: float
    growth_bytes: float
    """The slope times the time of the samples."""


def stability(samples: Sequence[Sample]) -> Stability | None:
    """Judge the rate; None when the run was too short."""
    steady = _steady(samples, _START_UP)
    if len(steady) < LEAST_SAMPLES:
        return None
    passed = steady[-1].passed - steady[0].passed
    count = min(MOST_WINDOWS, len(steady) - 1, passed // ITEMS_PER_WINDOW)
    if count < LEAST_WINDOWS:
        return None
    begin, end = steady[0].seconds, steady[-1].seconds
    width = (end - begin) / count
    marks = [_passed_at(steady, begin + number * width) for number in range(count + 1)]
    rates = [(after - before) / width for before, after in pairwise(marks)]
    mean = statistics.fmean(rates)
    slope = theil_sen(list(range(count)), rates)
    middle = statistics.median(rates) or mean
    trend = slope * (count - 1) / middle
    return Stability([round(each, 2) for each in rates], width, mean, statistics.pstdev(rates) / mean, trend)


def memory(samples: Sequence[Sample]) -> Memory | None:
    """Judge the memory; None when the run was too short."""
    steady = _steady(samples, _MEMORY_START_UP)
    if len(steady) < LEAST_SAMPLES:
        return None
    kept = steady[:: max(1, len(steady) // 200)]  # 200 samples make 20 thousand pairs: enough, and fast
    slope = theil_sen([each.seconds for each in kept], [each.memory for each in kept])
    seconds = steady[-1].seconds - steady[0].seconds
    rate = (steady[-1].passed - steady[0].passed) / seconds
    values = [each.memory for each in steady]
    return Memory(
        samples=len(steady),
        first_bytes=values[0],
        last_bytes=values[-1],
        peak_bytes=max(each.memory for each in samples),
        median_bytes=statistics.median(values),
        bytes_per_second=slope,
        bytes_per_thousand_items=slope / rate * 1000 if rate else 0.0,
        growth_bytes=slope * seconds,
    )


def theil_sen(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Slope of a line through points: the median of the slopes between any two points."""
    slopes = [
        (ys[b] - ys[a]) / (xs[b] - xs[a]) for a in range(len(xs)) for b in range(a + 1, len(xs)) if xs[b] != xs[a]
    ]
    return statistics.median(slopes) if slopes else 0.0


def _steady(samples: Sequence[Sample], start_up: float) -> list[Sample]:
    """The samples between start-up and the end of the source; after that the channels only drain."""
    if not samples:
        return []
    working = [each for each in samples if each.passed and each.read < samples[-1].read]
    if not working:
        return []
    begin, end = working[0].seconds, working[-1].seconds
    return [each for each in working if each.seconds >= begin + start_up * (end - begin)]


def _passed_at(samples: Sequence[Sample], seconds: float) -> float:
    """Items passed at a moment, interpolated between the samples around it."""
    for before, after in pairwise(samples):
        if before.seconds <= seconds <= after.seconds and after.seconds > before.seconds:
            share = (seconds - before.seconds) / (after.seconds - before.seconds)
            return before.passed + share * (after.passed - before.passed)
    return samples[-1].passed if seconds >= samples[-1].seconds else samples[0].passed
