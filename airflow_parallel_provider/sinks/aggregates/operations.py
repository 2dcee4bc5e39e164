# SPDX-License-Identifier: Apache-2.0
"""What each operation keeps of the values of a chunk, how these states are merged, and the result.

A state consists of what :mod:`~airflow_parallel_provider.values.typed_json` can write and read back exactly.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cache
from typing import Any

from airflow_parallel_provider.sinks.aggregates import distinct, exact_sum
from airflow_parallel_provider.sinks.aggregates.declare import Aggregate

NUMBERS = frozenset({int, float, bool, Decimal})
ACCURACY = 0.01
"""Relative error of a quantile."""


class UnsuitableValue(Exception):
    """The operation does not accept values of this type; the text names it."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One row of the table in :class:`Aggregate`."""

    of: Callable[[Sequence[Any]], Any]
    """State of some values, none of them missing."""
    merge: Callable[[Sequence[Any]], Any]
    """State of one or more states."""
    result: Callable[[Any, Aggregate], Any]
    numbers_only: bool = True


def _unless_empty(count_and_state: Sequence[Any], result: Callable[[Any], Any]) -> Any:
    return result(count_and_state[1]) if count_and_state[0] else None


def _sum_of(values: Sequence[Any]) -> list[Any]:
    return [len(values), exact_sum.of(values)]


def _merge_sums(states: Sequence[Any]) -> list[Any]:
    return [sum(state[0] for state in states), exact_sum.merge([state[1] for state in states])]


def _mean(state: Any, _: Aggregate) -> Any:
    count, total = state[0], exact_sum.result(state[1])
    if isinstance(total, Decimal) or (isinstance(total, float) and not math.isfinite(total)):
        return total / count
    return _to_float(Fraction(total) / count)


def _extreme(choose: Callable[[Sequence[Any]], Any]) -> Operation:
    def of(values: Sequence[Any]) -> list[Any]:
        try:
            # A single value is compared with itself: a dict has no order, and this chunk must fail, not the next one.
            return [choose(values if len(values) > 1 else (*values, *values))] if values else []
        except TypeError:
            kinds = " and ".join(sorted({type(value).__qualname__ for value in values}))
            raise UnsuitableValue(f"values of type {kinds}, which have no order") from None

    def merge(states: Sequence[Any]) -> list[Any]:
        return of([state[0] for state in states if state])

    return Operation(of, merge, lambda state, _: state[0] if state else None, numbers_only=False)


def _moments_of(values: Sequence[Any]) -> list[Any]:
    """Count, mean and sum of squared differences from it: two passes, with a correction for the error of the mean."""
    floats = [_to_float(value) for value in values]
    count = len(floats)
    if not count:
        return [0, 0.0, 0.0]
    if not all(map(math.isfinite, floats)):
        return [count, math.nan, math.nan]
    mean = math.fsum(floats) / count
    differences = [value - mean for value in floats]
    squares = math.fsum(each * each for each in differences)
    return [count, mean, squares - math.fsum(differences) ** 2 / count]


def _merge_moments(states: Sequence[Any]) -> list[Any]:
    """T. F. Chan, G. H. Golub, R. J. LeVeque, "Updating formulae and a pairwise algorithm for computing sample
    variances" (1979)."""  # noqa: D209
    count, mean, squares = 0, 0.0, 0.0
    for other_count, other_mean, other_squares in states:
        if not other_count:
            continue
        total = count + other_count
        delta = other_mean - mean
        squares += other_squares + delta * delta * (count * other_count / total)
        mean += delta * (other_count / total)
        count = total
    return [count, mean, squares]


def _variance(state: Any) -> float | None:
    count, _, squares = state
    return max(squares, 0.0) / (count - 1) if count > 1 else None  # in this order NaN stays NaN


def _stddev(state: Any) -> float | None:
    variance = _variance(state)
    return None if variance is None else math.sqrt(variance)


@cache
def _mapping() -> Any:
    from ddsketch.mapping import LogarithmicMapping

    return LogarithmicMapping(ACCURACY)


def _buckets_of(values: Sequence[Any]) -> list[Any]:
    """DDSketch (C. Masson, J. E. Rim, H. K. Lee, VLDB 2019): how many values are in each bucket, as sorted pairs.

    The buckets are those of the library. They are counted here because its own stores are dense arrays, and collapse.
    """
    mapping = _mapping()
    floats = [value for value in map(_to_float, values) if math.isfinite(value)]
    least = mapping.min_possible
    above = Counter(map(mapping.key, (value for value in floats if value > least)))
    below = Counter(map(mapping.key, (-value for value in floats if value < -least)))
    zero = len(floats) - above.total() - below.total()
    return [_pairs(below), zero, _pairs(above)]


def _merge_buckets(states: Sequence[Any]) -> list[Any]:
    below: Counter[int] = Counter()
    above: Counter[int] = Counter()
    for state in states:
        for counter, pairs in ((below, state[0]), (above, state[2])):
            for key, count in pairs:
                counter[key] += count
    return [_pairs(below), sum(state[1] for state in states), _pairs(above)]


def _pairs(counter: Counter[int]) -> list[list[int]]:
    return [list(pair) for pair in sorted(counter.items())]


def _quantiles(state: Any, aggregate: Aggregate) -> dict[str, float | None]:
    return {f"{fraction:g}": _at_rank(state, fraction) for fraction in aggregate.quantiles}


def _at_rank(state: Any, fraction: float) -> float | None:
    below, zero, above = state
    mapping = _mapping()
    ranked = [(-mapping.value(key), count) for key, count in reversed(below)]
    ranked += [(0.0, zero), *((mapping.value(key), count) for key, count in above)]
    total = sum(count for _, count in ranked)
    rank, seen = fraction * (total - 1), 0
    for value, count in ranked:
        seen += count
        if count and seen > rank:
            return float(value)
    return None


def _to_float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer beyond 308 digits
        return math.inf if value > 0 else -math.inf


OPERATION: Mapping[str, Operation] = {
    "count": Operation(len, sum, lambda state, _: state, numbers_only=False),
    "sum": Operation(_sum_of, _merge_sums, lambda state, _: _unless_empty(state, exact_sum.result)),
    "mean": Operation(_sum_of, _merge_sums, lambda state, each: _mean(state, each) if state[0] else None),
    "min": _extreme(min),
    "max": _extreme(max),
    "variance": Operation(_moments_of, _merge_moments, lambda state, _: _variance(state)),
    "stddev": Operation(_moments_of, _merge_moments, lambda state, _: _stddev(state)),
    "quantiles": Operation(_buckets_of, _merge_buckets, _quantiles),
    "distinct": Operation(distinct.of, distinct.merge, lambda state, _: distinct.result(state), numbers_only=False),
}
