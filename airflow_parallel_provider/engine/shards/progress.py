# SPDX-License-Identifier: Apache-2.0
"""What is known of shards at work elsewhere: from the ledger while they work, from their reports at the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_parallel_provider.engine.interfaces.records import CommittedChunk
from airflow_parallel_provider.engine.interfaces.source import source_length
from airflow_parallel_provider.engine.plan.pipeline_plan import PipelinePlan
from airflow_parallel_provider.engine.shards.shipping import Outcome
from airflow_parallel_provider.engine.shards.totals import with_shards
from airflow_parallel_provider.report import RunReport, State

_COUNTS = ("items", "items_filtered", "rows", "dead_letters", "rows_rejected")


@dataclass(slots=True)
class SentShard:
    """One shard, and its tries so far."""

    index: int
    of: int
    tries: int = 0
    """How many times it was submitted."""
    is_out: bool = False
    """Whether the executor has it."""
    done: bool = False
    not_before: float = 0.0
    """When it may be submitted again (monotonic)."""
    error: str = ""
    host: str = ""
    chunks: int = 0
    """How many chunks it has committed, as the ledger says."""
    rows: int = 0
    reports: list[dict[str, Any]] = field(default_factory=list)
    """Of its tries that have told; all but the last one failed."""

    @property
    def name(self) -> str:
        """For error texts."""
        return f"shard {self.index} of {self.of}"

    def end(self, outcome: Outcome) -> None:
        """A try has ended."""
        self.is_out, self.done = False, outcome.ok
        self.error = "" if outcome.ok else outcome.error
        self.host = outcome.host or self.host
        if outcome.report is not None:
            self.reports.append(outcome.report)

    def as_dict(self) -> dict[str, Any]:
        """For a report; plain JSON."""
        if self.done:
            state = "success"
        elif self.is_out:
            state = "running" if self.chunks else "submitted"
        else:
            state = "failed" if self.error else "waiting"
        last = self.reports[-1] if self.reports else {}
        return {
            "shard": self.index,
            "state": state,
            "tries": self.tries,
            "host": self.host,
            "chunks": self.chunks or _all_chunks(last),
            "rows": self.rows or last.get("rows_committed", 0),
            "seconds": last.get("seconds"),
            "error": self.error,
        }


def _all_chunks(report: Mapping[str, Any]) -> int:
    found: int = report.get("chunks_committed", 0) + report.get("chunks_skipped", 0)
    return found


class LoadProgress:
    """The figures of the whole load. :meth:`look` may be called on any thread, the rest on the coordinating one."""

    def __init__(self, plan: PipelinePlan, shards: Sequence[SentShard]) -> None:
        self._plan = plan
        self._shards = shards
        self._began, self._cpu = time.monotonic(), time.process_time()
        self._lock = threading.Lock()
        self._sums: dict[str, int] = {}
        self._before: int | None = None
        """Items that were in when this run began."""
        self._chunks = 0
        self.pause = 0.0
        """Seconds that two looks should be apart: a tenth of the time at most goes into them."""
        self.warnings: list[str] = []

    def look(self, committed: Mapping[str, CommittedChunk] | None, seconds: float) -> None:
        """Take what the ledger has now, and how long it took to ask; None: the sink cannot say."""
        self.pause = 10 * seconds
        if committed is None:
            return
        sums = {name: sum(getattr(chunk, name) for chunk in committed.values()) for name in _COUNTS}
        by_shard: dict[str, list[CommittedChunk]] = {}
        for chunk in committed.values():
            labels: Mapping[str, str] = getattr(chunk, "labels", {})
            by_shard.setdefault(labels.get("shard", ""), []).append(chunk)
        with self._lock:
            self._sums, self._chunks = sums, len(committed)
            if self._before is None:
                self._before = sums["items"]
            for shard in self._shards:
                own = by_shard.get(f"{shard.index}/{shard.of}", [])
                shard.chunks, shard.rows = len(own), sum(chunk.rows for chunk in own)
                if own:
                    last = max(own, key=lambda chunk: (str(getattr(chunk, "committed_at", "")), chunk.chunk_id))
                    shard.host = getattr(last, "labels", {}).get("host", shard.host)

    def reports(self) -> list[dict[str, Any]]:
        """All reports of shards."""
        return [report for shard in self._shards for report in shard.reports]

    def completed(self, whole: RunReport) -> RunReport:
        """The report of the whole with what is known of each shard, and with the warnings of this run."""
        tries = sum(max(0, shard.tries - 1) for shard in self._shards)
        again = [f"{tries} tries of shards failed and were made again"] if tries else []
        listed = [shard.as_dict() for shard in self._shards]
        return replace(whole, shards=listed, warnings=[*self.warnings, *again, *whole.warnings])

    def report(self, state: State, error: str | None) -> RunReport:
        """The report as of now, from the ledger; or from the shards that have ended, if the sink cannot say."""
        with self._lock:
            sums, before, chunks = dict(self._sums), self._before or 0, self._chunks
        reports = self.reports()
        if not sums:
            names = ("items_committed", "items_filtered", "items_dead_lettered", "rows_committed", "rows_rejected")
            committed, filtered, dead, rows, rejected = (_sum(reports, name) for name in names)
            chunks, before = _sum(reports, "chunks_committed"), 0
        else:
            filtered, rows, rejected = sums["items_filtered"], sums["rows"], sums["rows_rejected"]
            dead = min(sums["dead_letters"], sums["items"] - filtered)
            committed = sums["items"] - filtered - dead
        items, seconds = committed + filtered + dead, time.monotonic() - self._began
        report = RunReport(
            state=state,
            name=self._plan.name,
            items_read=items,
            items_committed=committed,
            items_filtered=filtered,
            items_dead_lettered=dead,
            items_skipped=0,
            items_unfinished=0,
            rows_committed=rows,
            chunks_committed=chunks,
            chunks_skipped=0,
            seconds=round(seconds, 4),
            items_per_second=round((items - before) / seconds, 2) if seconds else 0.0,
            cpu_seconds=round(time.process_time() - self._cpu, 4),
            peak_rss_bytes=0,
            estimated_serial_seconds=0.0,
            speedup=None,
            no_speedup="the shards do the work",
            bottleneck=None,
            advice="",
            rows_rejected=rejected,
            error=error,
        )
        return self.completed(with_shards(report, reports))

    def snapshot(self, report: RunReport, *, final: bool) -> dict[str, Any]:
        """A report for an observer."""
        return {**report.as_dict(), "items_total": source_length(self._plan.source), "final": final}


def _sum(reports: Sequence[Mapping[str, Any]], name: str) -> int:
    return sum(report.get(name) or 0 for report in reports)
