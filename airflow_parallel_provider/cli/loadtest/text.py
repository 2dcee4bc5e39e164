# SPDX-License-Identifier: Apache-2.0
"""The result of a load test as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_parallel_provider.cli.loadtest.result import growth_allowed
from airflow_parallel_provider.report import report_text

if TYPE_CHECKING:
    from airflow_parallel_provider.cli.loadtest.result import Injected, LoadTestResult
    from airflow_parallel_provider.cli.loadtest.stability import Memory

_BARS = "▁▂▃▄▅▆▇█"
_MIB = 2**20


def result_text(result: LoadTestResult, width: int | None = None) -> str:
    """The report of the run, the findings, and the verdict as the last lines.

    :param width: columns of the terminal, for the report.
    """
    report = result.report
    rounds = f", the source read {result.rounds} times" if result.rounds > 1 else ""
    amount = f"{report.items_read:,} items in {report.seconds:.1f} s{rounds}"
    lines = [
        report_text(report, width),
        "",
        f"throughput    {report.items_per_second:,.0f} items/s: {amount}",
        f"stability     {_stability(result)}",
        f"memory        {_memory(result.memory, result)}",
        f"conservation  {_conservation(result)}",
        *[f"{'faults' if not number else '':<14}{_fault(each)}" for number, each in enumerate(result.faults)],
        *[f"note          {note}" for note in result.notes],
        "",
    ]
    lines += ["PASSED"] if result.passed else ["FAILED", *[f"  {each}" for each in result.problems]]
    return "\n".join(lines)


def _stability(result: LoadTestResult) -> str:
    found = result.stability
    if found is None:
        return "not judged"
    low, high = min(found.windows), max(found.windows)
    return (
        f"{sparkline(found.windows)} {low:,.0f} to {high:,.0f} items/s in windows of {found.window_seconds:.2g} s; "
        f"variation {found.variation:.0%}, trend {found.trend:+.0%}"
    )


def sparkline(values: list[float]) -> str:
    """One bar per value, the highest value as the highest bar."""
    top = max(values) or 1.0
    return "".join(_BARS[min(len(_BARS) - 1, int(max(0.0, each) / top * len(_BARS)))] for each in values)


def _memory(found: Memory | None, result: LoadTestResult) -> str:
    if found is None:
        return "not judged"
    bounded = found.growth_bytes <= growth_allowed(found, result.settings)
    return (
        f"{found.first_bytes / _MIB:,.0f} MiB, at the end {found.last_bytes / _MIB:,.0f}, at most "
        f"{found.peak_bytes / _MIB:,.0f}; {found.bytes_per_second / _MIB:+,.2f} MiB/s, "
        f"{found.bytes_per_thousand_items / _MIB:+,.3f} MiB per 1,000 items: "
        f"{'bounded' if bounded else 'NOT bounded'}"
    )


def _conservation(result: LoadTestResult) -> str:
    if result.conservation:
        return f"BROKEN: {'; '.join(result.conservation)}"
    return f"all {result.report.items_read:,} items read are accounted for, at every stage and in the sink"


def _fault(each: Injected) -> str:
    at_least = "" if each.exact else " or more"
    return f"{each.stage}: {each.kind} injected {each.injected:,} times, {each.accounted:,}{at_least} accounted for"
