"""The final account of a run: for machines (:meth:`RunReport.as_dict`) and for people (``str``)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

State = Literal["running", "success", "failed", "stopped"]


@dataclass(frozen=True, slots=True)
class StageReport:
    """What one stage did."""

    name: str
    kind: str
    workers: int
    """Most workers it had at a time."""
    workers_now: int
    """Workers it has at this moment; 0 at the end."""
    items_in: int
    """Items that reached it, each counted once however often it was tried."""
    items_out: int
    failed: int
    """Items it gave up on (dead letters)."""
    retried: int
    """Calls made again."""
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
    """Items that wait in front of it at this moment; 0 at the end."""
    p50_ms: float | None
    """Median duration of one call, milliseconds."""
    p95_ms: float | None
    p99_ms: float | None
    calls: int = 0
    """Calls of the function that ended."""
    service_ms: list[float] = field(default_factory=list)
    """Quantiles of a call's duration at 0, 10, ..., 90, 100 %, milliseconds."""
    longest_ms: float = 0.0
    longest_position: int | None = None
    """Position in the source of the (first) item of the longest call."""
    starved_seconds: float = 0.0
    blocked_seconds: float = 0.0
    recent_ms: list[float | None] = field(default_factory=list)
    """As ``p50_ms``, ``p95_ms`` and ``p99_ms``, of the calls that ended since the look before; for live views."""


@dataclass(frozen=True, slots=True)
class RunReport:
    """The final account of a run.

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
    """Items of chunks that an earlier try had committed."""
    items_unfinished: int
    """Items read but not committed; 0 unless the run ended early."""
    rows_committed: int
    """Rows that are in the sink; with ``rows_rejected`` they are all rows that came out of the last stage."""
    chunks_committed: int
    chunks_skipped: int
    seconds: float
    items_per_second: float
    cpu_seconds: float
    """CPU time of the task process and all workers."""
    peak_rss_bytes: int
    """Largest sum of the resident memory of the task process and its workers (pages they share count each time), as
    sampled, or, if that is more, the task process at the end and what each of its last workers held at most."""
    estimated_serial_seconds: float
    """What one worker doing one thing after the other would have taken."""
    speedup: float
    bottleneck: str | None
    """Name of the stage (or ``source``, ``sink``) that limits the run."""
    advice: str
    """What to change, one sentence."""
    failures: list[dict[str, Any]] = field(default_factory=list)
    """Causes, most frequent first: stage, cause, count, sample."""
    stages: list[StageReport] = field(default_factory=list)
    error: str | None = None
    """Why the run ended early."""
    warnings: list[str] = field(default_factory=list)
    """What somebody should know although the run went on."""
    decisions: list[dict[str, Any]] = field(default_factory=list)
    """Changes of the number of workers: at (seconds), stage, before, after, reason."""
    series: dict[str, Any] = field(default_factory=dict)
    """Over time, at most 120 samples: ``seconds``, and under ``stages`` by name how many items waited (``queue``) and
    how many ``workers`` there were. A stage of kind ``inline`` has neither."""
    source_busy_seconds: float = 0.0
    """Seconds spent in the source."""
    sink_busy_seconds: float = 0.0
    """Seconds spent committing."""
    max_in_flight: int = 0
    """Bound of the number of items that are read and not committed."""
    rss_bytes: int = 0
    """Resident memory of the task process and its workers when it was looked at last; see ``peak_rss_bytes``."""
    workers: list[dict[str, Any]] = field(default_factory=list)
    """What each worker did: calls, failed, failure_rate, busy/starved/blocked/cpu seconds, peak_rss_bytes, lost."""

    rows_rejected: int = 0
    """Rows that ``validate`` or the database refused; each counts as one failed item for the tolerance."""
    figures: dict[str, Any] = field(default_factory=dict)
    """The sink's ``aggregates`` over the whole load; of one with ``by``, at most 20 groups."""

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON: text, numbers, lists and dicts only, no NaN or infinity."""
        return asdict(self)

    def __str__(self) -> str:
        """What a person wants to read."""
        from airflow_parallel_provider.engine.report_text import report_text

        return report_text(self)
