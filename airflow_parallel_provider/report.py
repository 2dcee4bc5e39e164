# SPDX-License-Identifier: Apache-2.0
"""The report of a run: as data (:meth:`RunReport.as_dict`) and as text (``str``)."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from airflow_parallel_provider.foreign.text import one_line
from airflow_parallel_provider.formats import (
    cut_middle,
    format_bytes,
    format_duration,
    format_milliseconds,
    format_number,
    format_share,
)

State = Literal["running", "success", "failed", "stopped"]


@dataclass(frozen=True, slots=True)
class StageReport:
    """What one stage did."""

    name: str
    kind: str
    workers: int
    """Most workers it had at a time."""
    workers_now: int
    """Workers it has now; 0 at the end."""
    items_in: int
    """Items that reached it, each counted once, whatever the number of attempts."""
    items_out: int
    failed: int
    """Items it gave up on (dead letters)."""
    retried: int
    """Calls made again, see ``Stage(retry=)``."""
    timed_out: int
    """Calls that took longer than ``timeout``."""
    workers_lost: int
    busy_fraction: float
    """Share of its workers' time spent in the function."""
    starved_fraction: float
    """Share spent waiting for items."""
    blocked_fraction: float
    """Share spent waiting for room in the next channel."""
    busy_seconds: float
    queue_peak: int
    """Most items that waited in front of it."""
    queue_size: int
    """Bound of that number."""
    queue_now: int
    """Items that wait in front of it now; 0 at the end."""
    p50_ms: float | None
    """Median duration of one call, milliseconds."""
    p95_ms: float | None
    p99_ms: float | None
    calls: int = 0
    """Calls of the function that ended."""
    rows_out: int = 0
    """Rows of the tables (Arrow, pandas, polars) among its results, of which each counts as one."""
    halved: int = 0
    """Calls with half of a batch that had failed: repeated, they leave the failing items alone."""
    service_ms: list[float] = field(default_factory=list)
    """Quantiles of a call's duration at 0, 10, ..., 90, 100 %, milliseconds."""
    longest_ms: float = 0.0
    longest_position: int | None = None
    """Position in the source of the (first) item of the longest call."""
    starved_seconds: float = 0.0
    blocked_seconds: float = 0.0
    recent_ms: list[float | None] = field(default_factory=list)
    """As ``p50_ms``, ``p95_ms`` and ``p99_ms``, of the calls that ended since the last snapshot; for live views."""


@dataclass(frozen=True, slots=True)
class RunReport:
    """The report of a run: final, or in a snapshot of a running one.

    Items read are always the sum of their fates::

        items_read = items_committed + items_filtered + items_dead_lettered + items_skipped + items_unfinished
    """

    state: State
    name: str
    items_read: int
    items_committed: int
    """Items whose rows are settled: in the sink, or in its table of rejected rows."""
    items_filtered: int
    """Items that ended without a row of their own (DROP, nothing yielded, a batch with fewer results than items)."""
    items_dead_lettered: int
    """Items a stage gave up on."""
    items_skipped: int
    """Items of chunks that another try has committed: an earlier one, or one that runs at the same time."""
    items_unfinished: int
    """Items read but not committed; 0 unless the run ended early, or a shard failed in a chunk of another one."""
    rows_committed: int
    """Rows that are in the sink; with ``rows_rejected`` they are all rows of the last stage."""
    chunks_committed: int
    chunks_skipped: int
    seconds: float
    items_per_second: float
    """Items that this try has finished, by ``seconds``: without those that are skipped or unfinished."""
    cpu_seconds: float
    """CPU time of the task process and all workers."""
    peak_rss_bytes: int
    """Largest sum of the resident memory of the task process and its workers (pages they share count each time): the
    largest sample, or the task process at the end plus the peak of each of its last workers, whichever is more."""
    estimated_serial_seconds: float
    """What one worker doing one thing after the other would have taken."""
    speedup: float | None
    """How many times shorter the run was than that; None where the number would mislead, see ``no_speedup``."""
    bottleneck: str | None
    """Name of the stage (or ``source``, ``sink``) that limits the run; None where it failed."""
    advice: str
    """What to change, one sentence."""
    failures: list[dict[str, Any]] = field(default_factory=list)
    """Causes, most frequent first: stage, cause, count, sample."""
    stages: list[StageReport] = field(default_factory=list)
    error: str | None = None
    """Why the run ended early."""
    warnings: list[str] = field(default_factory=list)
    """Problems that did not end the run."""
    decisions: list[dict[str, Any]] = field(default_factory=list)
    """Changes of the number of workers: at (seconds), stage, before, after, reason."""
    series: dict[str, Any] = field(default_factory=dict)
    """Over time, at most 120 samples: ``seconds``, and under ``stages`` by name how many items waited (``queue``) and
    how many ``workers`` there were. A stage of kind ``inline`` has neither."""
    source_busy_seconds: float = 0.0
    """Seconds spent in the source."""
    sink_busy_seconds: float = 0.0
    """Seconds spent committing."""
    source_busy_fraction: float = 0.0
    """Share of the time since the workers were started that was spent in the source."""
    sink_busy_fraction: float = 0.0
    """Share of the time since the workers were started that was spent committing."""
    failed_at: str | None = None
    """Of a run that failed: the stage (or ``source``, ``sink``) that made it fail, where the error names one."""
    no_speedup: str = ""
    """Why there is no ``speedup``."""
    other_load: float | None = None
    """Share of the machine's CPUs that other programs used, 0 where CPUs were idle; None: not known."""
    forecast: dict[str, Any] | None = None
    """What more workers in the stage that limits the run would bring: ``stage``, ``workers``, ``more_workers``,
    ``seconds`` (of the whole run), ``fixed_seconds`` (how much of that no worker shortens), ``gain`` (share of the time
    saved) and ``limit`` (what limits then). None where more workers would not help."""
    max_in_flight: int = 0
    """Bound of the number of items that are read and not committed."""
    rss_bytes: int = 0
    """Resident memory of the task process and its workers at the last sample; see ``peak_rss_bytes``."""
    workers: list[dict[str, Any]] = field(default_factory=list)
    """What each worker did: calls, failed, failure_rate, busy/starved/blocked/cpu seconds, peak_rss_bytes, lost. Where
    there were more than 64, those that failed or worked most."""
    workers_omitted: int = 0
    """Workers that ``workers`` does not list."""
    rows_rejected: int = 0
    """Rows that ``validate`` or the database refused; each counts as one failed item for the tolerance."""
    aggregates: dict[str, Any] = field(default_factory=dict)
    """The values of the sink's ``aggregates`` over the whole load; of one with ``by``, at most 20 groups."""
    source: dict[str, Any] = field(default_factory=dict)
    """What the source has counted. Of an HTTP API: ``pages_requested``, ``retries``, ``retries_by_status``,
    ``seconds_waited`` for the server, ``seconds_rate_limited``; the seconds of all readers together."""
    shards: list[dict[str, Any]] = field(default_factory=list)
    """Of a load whose shards an executor has done: number, state, tries, host, chunks, rows, seconds, error of each."""

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON: text, numbers, lists and dicts only, no NaN or infinity."""
        return asdict(self)

    def __str__(self) -> str:
        """The report as text; see :func:`report_text`."""
        return report_text(self)


def report_text(report: RunReport, width: int | None = None) -> str:
    """The report as text.

    :param width: columns of the terminal: longer lines are wrapped between words, and a table that is too wide becomes
        two. None: lines of at most about 120 characters, but for causes and advice.
    """
    lines = _lines(report, width)
    if width is not None:
        lines = [part for line in lines for part in _wrapped(line, width)]
    return "\n".join(lines).rstrip()


def _lines(report: RunReport, width: int | None) -> list[str]:
    lines = [_headline(report), _fates(report), _effort(report)]
    if report.source:
        lines.append(f"  source: {_aggregate({name.replace('_', ' '): each for name, each in report.source.items()})}")
    if report.stages:
        lines += ["", *_stage_table(report.stages, width)]
        lines += [_halves(stage) for stage in report.stages if stage.halved]
    if report.failures:
        lines += ["", f"{'failed':>9}  stage: cause"]
        lines += map(failure_line, report.failures[:10])
        if rest := report.failures[10:]:
            items = sum(each["count"] for each in rest)
            lines.append(f"{items:>9,}  in {len(rest):,} more {'cause' if len(rest) == 1 else 'causes'}")
    if report.aggregates:
        lines += ["", *_aggregates(report.aggregates)]
    lines.append("")
    if report.bottleneck:
        lines.append(f"bottleneck: {report.bottleneck}. {report.advice}".rstrip())
    lines += [f"warning: {warning}" for warning in report.warnings]
    if report.error:
        lines.append(f"ended early: {report.error}")
    return lines


def _wrapped(line: str, width: int) -> list[str]:
    """Never inside a word, as a path or a number may be copied from the terminal."""
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    found = textwrap.wrap(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return found or [""]


def failure_line(failure: Mapping[str, Any]) -> str:
    """A cause in one line: how often, at which stage, where its first item stands, and that one's message if the
    others have another.
    """
    sample, cause = failure.get("sample") or {}, failure["cause"]
    position, message = sample.get("position"), one_line(sample.get("message") or "", 200)
    where = "" if position is None else f", {'item' if failure['count'] == 1 else 'first item'} {position}"
    place = f" ({sample['place']})" if sample.get("place") else ""
    own = f": {message}" if where and message and message not in cause else ""
    return f"{failure['count']:>9,}  {failure['stage']}: {cause}{where}{place}{own}"


def _headline(report: RunReport) -> str:
    name = f" {report.name}" if report.name else ""
    return (
        f"Pipeline{name}: {report.state} in {format_duration(report.seconds)}, {report.items_read:,} items, "
        f"{report.rows_committed:,} rows, {format_number(report.items_per_second)} items/s"
    )


def _fates(report: RunReport) -> str:
    parts = [f"{report.items_committed:,} committed"]
    for label, count in (
        ("filtered", report.items_filtered),
        ("dead-lettered", report.items_dead_lettered),
        ("skipped (already committed)", report.items_skipped),
        ("unfinished", report.items_unfinished),
    ):
        if count:
            parts.append(f"{count:,} {label}")
    chunks = f"{report.chunks_committed:,} {'chunk' if report.chunks_committed == 1 else 'chunks'} committed"
    chunks += f", {report.chunks_skipped:,} skipped" if report.chunks_skipped else ""
    chunks += f"; {report.rows_rejected:,} rows rejected" if report.rows_rejected else ""
    return f"  items: {', '.join(parts)}; {chunks}"


def _aggregates(aggregates: Mapping[str, Any]) -> list[str]:
    width = max(map(len, aggregates))
    return [f"  {name.ljust(width)}  {_aggregate(value)}" for name, value in aggregates.items()]


def _aggregate(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_aggregate(each)}" for key, each in value.items())
    if isinstance(value, (int, float)):
        return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"
    return "-" if value is None else str(value)


def _effort(report: RunReport) -> str:
    cpu, serial = format_duration(report.cpu_seconds), format_duration(report.estimated_serial_seconds)
    memory = f"{format_bytes(report.peak_rss_bytes)} at most"
    if report.speedup is None:
        return f"  {cpu} of CPU, {memory}; not compared with one worker: {report.no_speedup}"
    return f"  {cpu} of CPU, {memory}; one worker alone about {serial}, so {format_number(report.speedup)}x"


def _stage_table(stages: Sequence[StageReport], width: int | None) -> list[str]:
    rows = [("stage", "workers", "in", "out", "failed", "retried", "busy", "starved", "blocked", "queue", "p50", "p99")]
    rows += [
        (
            cut_middle(stage.name, 24),
            f"{stage.workers} {stage.kind}",
            f"{stage.items_in:,}",
            f"{stage.items_out:,} ({stage.rows_out:,} rows)" if stage.rows_out else f"{stage.items_out:,}",
            f"{stage.failed:,}",
            f"{stage.retried:,}",
            format_share(stage.busy_fraction),
            format_share(stage.starved_fraction),
            format_share(stage.blocked_fraction),
            f"{stage.queue_peak:,}/{stage.queue_size:,}",
            format_milliseconds(stage.p50_ms),
            format_milliseconds(stage.p99_ms),
        )
        for stage in stages
    ]
    lines = _aligned(rows, texts=2)
    if width is None or max(map(len, lines)) <= width:
        return lines
    counts, times = [row[:6] for row in rows], [(row[0], *row[6:]) for row in rows]
    return [*_aligned(counts, texts=2), "", *_aligned(times, texts=1)]


def _halves(stage: StageReport) -> str:
    share = f"{stage.halved:,} calls ({format_share(stage.halved / max(1, stage.calls))})"
    return f"  {stage.name}: {share} with halves of batches, to find the items that fail"


def _aligned(rows: Sequence[Sequence[str]], texts: int) -> list[str]:
    """Align the first columns, which are ``texts``, at the left, and numbers at the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:texts], widths, strict=False)]
        cells += [cell.rjust(width) for cell, width in zip(row[texts:], widths[texts:], strict=True)]
        lines.append("  " + "  ".join(cells).rstrip())
    return lines
