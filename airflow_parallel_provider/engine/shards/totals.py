# SPDX-License-Identifier: Apache-2.0
"""Adds the reports of shards up to figures of the whole load."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from airflow_parallel_provider.report import RunReport, StageReport

_WARNINGS = 20
"""Most warnings of shards that the whole report has."""

Report = Mapping[str, Any]
"""``RunReport.as_dict()``, or a part of it."""

_SUMS = (
    *(
        "workers",
        "items_in",
        "items_out",
        "rows_out",
        "failed",
        "retried",
        "timed_out",
        "workers_lost",
        "calls",
        "halved",
    ),
    *("busy_seconds", "starved_seconds", "blocked_seconds"),
)
_LARGEST = ("queue_peak", "queue_size")


def with_shards(whole: RunReport, shards: Sequence[Report]) -> RunReport:
    """The report of a whole load with what only the reports of its shards have: stages, CPU time, memory, warnings.

    Memory is the sum of the peaks, which may have been at different moments.
    """
    if not shards:
        return whole
    limits = Counter(each["bottleneck"] for each in shards if each.get("bottleneck"))
    listed = [f"shard {at}: {warning}" for at, each in enumerate(shards) for warning in each.get("warnings", ())]
    more = [f"{len(listed) - _WARNINGS} more warnings of shards"] if len(listed) > _WARNINGS else []
    return replace(
        whole,
        cpu_seconds=round(whole.cpu_seconds + _sum(shards, "cpu_seconds"), 4),
        peak_rss_bytes=int(whole.peak_rss_bytes + _sum(shards, "peak_rss_bytes")),
        estimated_serial_seconds=round(_sum(shards, "estimated_serial_seconds"), 4),
        source_busy_seconds=round(_sum(shards, "source_busy_seconds"), 4),
        sink_busy_seconds=round(_sum(shards, "sink_busy_seconds"), 4),
        bottleneck=limits.most_common(1)[0][0] if limits else None,
        failures=_causes(shards),
        stages=_stages(shards),
        warnings=[*whole.warnings, *listed[:_WARNINGS], *more],
    )


def _sum(entries: Sequence[Report], name: str) -> Any:
    return sum(each.get(name) or 0 for each in entries)


def _causes(shards: Sequence[Report]) -> list[dict[str, Any]]:
    """Causes of dead letters; equal ones of several shards are one."""
    found: dict[tuple[Any, Any], dict[str, Any]] = {}
    for cause in (cause for each in shards for cause in each.get("failures") or ()):
        key = (cause.get("stage"), cause.get("cause"))
        known = found.get(key)
        found[key] = dict(cause) if known is None else {**known, "count": known["count"] + cause["count"]}
    return sorted(found.values(), key=lambda cause: -cause["count"])


def _stages(shards: Sequence[Report]) -> list[StageReport]:
    """One entry per stage; the shares are those of the time of all workers together, and there are no quantiles."""
    stages = [stage for each in shards for stage in each.get("stages") or ()]
    names = list(dict.fromkeys(stage["name"] for stage in stages))
    return [_stage([stage for stage in stages if stage["name"] == name]) for name in names]


def _stage(same: Sequence[Report]) -> StageReport:
    time = sum(each["busy_seconds"] / each["busy_fraction"] for each in same if each.get("busy_fraction"))
    shares: dict[str, Any] = {
        f"{part}_fraction": min(1.0, round(_sum(same, f"{part}_seconds") / time, 4)) if time else 0.0
        for part in ("busy", "starved", "blocked")
    }
    sums: dict[str, Any] = {name: _sum(same, name) for name in _SUMS}
    largest: dict[str, Any] = {name: max(each.get(name) or 0 for each in same) for name in _LARGEST}
    longest = max(same, key=lambda each: each.get("longest_ms") or 0.0)
    return StageReport(
        name=same[0]["name"],
        kind=same[0]["kind"],
        workers_now=0,
        queue_now=0,
        p50_ms=None,
        p95_ms=None,
        p99_ms=None,
        longest_ms=longest.get("longest_ms") or 0.0,
        longest_position=longest.get("longest_position"),
        **sums,
        **largest,
        **shares,
    )
