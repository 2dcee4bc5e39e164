"""Running a pipeline in a test: every report is held against the law of conservation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from airflow_parallel_provider import ListSink, Pipeline, RunReport, Sink, Stage, StopToken
from airflow_parallel_provider.engine.interfaces.records import ChunkResult, DeadLetter
from airflow_parallel_provider.errors import RunFailed


@dataclass(frozen=True)
class Ran:
    """How a run ended and what reached its sink."""

    report: RunReport
    error: RunFailed | None
    rows: list[Any]
    dead_letters: list[DeadLetter]

    @property
    def positions(self) -> list[int]:
        """Positions of the items that were given up."""
        return sorted(each.position for each in self.dead_letters)


class RecordingSink(ListSink):
    """A list sink that also keeps the chunks, in the order of their commits."""

    def __init__(self) -> None:
        super().__init__()
        self.chunks: list[ChunkResult] = []

    def commit(self, chunk: ChunkResult) -> int:
        self.chunks.append(chunk)
        return super().commit(chunk)


def run_pipeline(
    source: Any,
    stages: Sequence[Stage],
    sink: Sink | None = None,
    *,
    stop: StopToken | None = None,
    **options: Any,
) -> Ran:
    """Run to the end, good or bad, check the laws that hold for any report, and return what happened."""
    sink = ListSink() if sink is None else sink
    pipeline = Pipeline(source, stages, sink, **options)
    error: RunFailed | None = None
    report: RunReport | None
    try:
        report = pipeline.run(stop=stop)
    except RunFailed as failed:
        error, report = failed, failed.report
    assert report is not None, f"{error!r} came without a report"
    check_report(report)
    assert (report.state == "success") == (error is None)
    rows = sink.rows if isinstance(sink, ListSink) else []
    dead = sink.dead_letters if isinstance(sink, ListSink) else []
    return Ran(report, error, rows, dead)


def check_report(report: RunReport) -> None:
    """Laws 1, 3 and 6 on the numbers of one report."""
    plain = report.as_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert str(report)
    fates = (
        report.items_committed
        + report.items_filtered
        + report.items_dead_lettered
        + report.items_skipped
        + report.items_unfinished
    )
    assert report.items_read == fates, plain
    for stage in report.stages:
        assert 0 <= stage.queue_peak <= stage.queue_size, stage
        for share in (stage.busy_fraction, stage.starved_fraction, stage.blocked_fraction):
            assert 0 <= share <= 1, stage
    if report.state == "success":
        _check_success(report)


def _check_success(report: RunReport) -> None:
    assert report.items_unfinished == 0
    assert report.error is None
    failed = sum(stage.failed for stage in report.stages)
    assert report.items_dead_lettered <= failed
    assert (report.items_dead_lettered == 0) == (failed == 0)
    arriving = report.items_read - report.items_skipped
    for stage in report.stages:
        assert stage.items_in == arriving, f"stage {stage.name}: {stage.items_in} came of {arriving}"
        arriving = stage.items_out
    assert report.rows_committed == arriving
