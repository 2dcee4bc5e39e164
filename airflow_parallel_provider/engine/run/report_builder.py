# SPDX-License-Identifier: Apache-2.0
"""Makes a report of a run's counters, at any moment of the run."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_parallel_provider.engine.analysis.bottleneck import Advice, BusyTime, RunTimes, advise, disturbed_by
from airflow_parallel_provider.engine.analysis.serial_estimate import Contention
from airflow_parallel_provider.engine.dataflow.in_flight import InFlightLimit
from airflow_parallel_provider.engine.dataflow.sink_writer import SinkWriter
from airflow_parallel_provider.engine.dataflow.source_reader import SourceReader
from airflow_parallel_provider.engine.interfaces.source import advice_text
from airflow_parallel_provider.engine.interfaces.source_notes import figures_of
from airflow_parallel_provider.engine.metrics.worker_metrics import for_report
from airflow_parallel_provider.engine.resources.cpus import usable_cpus
from airflow_parallel_provider.engine.resources.machine_load import cpu_of_children, other_load
from airflow_parallel_provider.engine.run.memory import MemoryMonitor
from airflow_parallel_provider.engine.run.stage_series import StageSeries
from airflow_parallel_provider.engine.run.state import RunState
from airflow_parallel_provider.engine.stages.autoscaler import Decision
from airflow_parallel_provider.engine.stages.stage_run import StageRun
from airflow_parallel_provider.errors import RunFailed, SinkFailed, SourceFailed, ToleranceExceeded
from airflow_parallel_provider.foreign.text import clean
from airflow_parallel_provider.formats import format_share
from airflow_parallel_provider.report import RunReport, StageReport, State, failure_line


@dataclass(frozen=True, slots=True)
class RunParts:
    """The parts of a run that a report is read from."""

    state: RunState
    stages: Sequence[StageRun]
    source_reader: SourceReader
    sink_writer: SinkWriter
    in_flight: InFlightLimit
    memory: MemoryMonitor
    decisions: Sequence[Decision]
    series: StageSeries

    @property
    def task_cpu_seconds(self) -> float:
        """CPU time of this process since the run began."""
        return time.process_time() - self.state.clock.cpu_before

    @property
    def task_and_programs_cpu_seconds(self) -> float:
        """The same, with that of the programs which it has started and which have ended."""
        return self.task_cpu_seconds + cpu_of_children() - self.state.clock.children_before

    @property
    def items_total(self) -> int | None:
        """How many items this run will read; None if that is not known."""
        total, shard = self.state.tolerance.total, self.source_reader.shard
        return total if total is None or shard is None else -(-total // shard.of)

    @property
    def cpu_seconds(self) -> float:
        """CPU time of this process since the run began, and of its workers that have ended."""
        return self.task_cpu_seconds + sum(stage.metrics.cpu for stage in self.stages)


def build_report(parts: RunParts, state: State) -> RunReport:
    """The report of a run as of now."""
    run, reader, writer = parts.state, parts.source_reader, parts.sink_writer
    read, skipped = reader.items_read, reader.items_skipped + writer.items_skipped
    seconds = run.clock.seconds
    stages = [_stage_report(stage) for stage in parts.stages]
    fates = writer.items_committed + writer.items_filtered + writer.items_dead_lettered
    # Items that failed in chunks that are not committed (yet): in a run that ended early they are the reason.
    left = read - fates - skipped
    failed_there = 0 if state == "success" else max(0, min(left, run.tolerance.given_up - writer.items_dead_lettered))
    unfinished = left - failed_there
    source_busy = reader.busy
    serial = _serial_seconds(parts, source_busy)
    cpu_seconds = _cpu_seconds(parts, state)
    elsewhere = other_load(run.clock.machine_before, max(cpu_seconds, parts.task_and_programs_cpu_seconds))
    advice, ends = _advice(parts, stages, elsewhere)
    if state == "failed":
        advice = Advice()  # of a run that broke off, the busiest part is not what needs a change
    speedup, no_speedup = _speedup(serial, seconds, elsewhere)
    counted = [metrics for stage in parts.stages for metrics in stage.worker_metrics]
    workers = for_report(counted)
    redact = run.plan.worker_hooks.redact
    return RunReport(
        state=state,
        name=clean(run.plan.name, 200),
        items_read=read,
        items_committed=writer.items_committed,
        items_filtered=writer.items_filtered,
        items_dead_lettered=writer.items_dead_lettered + failed_there,
        items_skipped=skipped,
        items_unfinished=unfinished,
        rows_committed=writer.rows_committed,
        chunks_committed=writer.chunks_committed,
        chunks_skipped=reader.chunks_skipped + writer.chunks_skipped,
        seconds=round(seconds, 4),
        items_per_second=round((read - skipped - unfinished) / seconds, 2) if seconds else 0.0,
        cpu_seconds=round(cpu_seconds, 4),
        peak_rss_bytes=parts.memory.peak,
        estimated_serial_seconds=round(serial, 4),
        speedup=speedup,
        no_speedup=no_speedup,
        other_load=None if elsewhere is None else round(elsewhere, 3),
        bottleneck=advice.bottleneck,
        advice=advice.text,
        forecast=advice.forecast_dict(),
        failed_at=_failed_at(run) if state == "failed" else None,
        failures=_failures(run, redact),
        stages=stages,
        error=redact(clean(str(run.error))) if run.error else None,
        warnings=[redact(warning) for warning in run.warnings],
        source_busy_seconds=round(source_busy, 4),
        source_busy_fraction=round(ends[0].fraction, 4),
        sink_busy_seconds=round(writer.busy, 4),
        sink_busy_fraction=round(ends[1].fraction, 4),
        max_in_flight=parts.in_flight.limit,
        rss_bytes=parts.memory.now,
        workers=workers,
        workers_omitted=len(counted) - len(workers),
        series=parts.series.as_dict(),
        rows_rejected=run.tolerance.rejected,
        aggregates=dict(writer.aggregates),
        source=figures_of(run.plan.source),
        decisions=[decision.as_dict() for decision in parts.decisions],
    )


def attach_report(error: RunFailed, report: RunReport, redact: Callable[[str], str]) -> RunFailed:
    """The error of a run with its report, the most frequent causes in its message."""
    lines = [redact(clean(error.message)), *map(failure_line, report.failures[:10])]
    error.message = "\n".join(lines)
    error.report = report
    return error


def _advice(
    parts: RunParts, stages: Sequence[StageReport], elsewhere: float | None
) -> tuple[Advice, tuple[BusyTime, BusyTime]]:
    """What limits the run, and the busy times of the source and the sink."""
    clock, reader, writer = parts.state.clock, parts.source_reader, parts.sink_writer
    working = max(1e-9, clock.working_seconds)
    source, sink = (
        BusyTime(name, name, 1, end.busy, min(1.0, end.busy / working), end.cpu)
        for name, end in (("source", reader), ("sink", writer))
    )
    between = [
        BusyTime(
            stage.name,
            stage.kind,
            stage.workers,
            stage.busy_seconds,
            stage.busy_fraction,
            part.metrics.call_cpu,
            stage.calls,
        )
        for stage, part in zip(stages, parts.stages, strict=True)
    ]
    said = advice_text(parts.state.plan.source)
    times = RunTimes(clock.working_seconds, clock.seconds, parts.task_cpu_seconds, elsewhere, said)
    return advise([source, *between, sink], times), (source, sink)


def _failed_at(run: RunState) -> str | None:
    """The stage, ``source`` or ``sink`` that made the run fail; None where the error names none."""
    error = run.error
    if isinstance(error, SourceFailed):
        return "source"
    if isinstance(error, SinkFailed):
        return "sink"
    if isinstance(error, ToleranceExceeded):
        return next((cause["stage"] for cause in run.causes.listed()), None)
    named = (stage.name for stage in run.plan.stages if str(error).startswith(f"stage {stage.name}"))
    return max(named, key=len, default=None)  # of "load" and "load more" the one that is meant


def _speedup(serial: float, seconds: float, elsewhere: float | None) -> tuple[float | None, str]:
    """The speed-up against one worker; None and the reason where the number would mislead (issue 17, A4)."""
    if elsewhere is not None and disturbed_by(elsewhere):
        return None, f"other programs used {format_share(elsewhere)} of this machine's CPUs"
    if seconds <= 0 or serial < seconds:
        return None, "start-up and transport took longer than the work itself"
    return round(serial / seconds, 3), ""


def _cpu_seconds(parts: RunParts, state: State) -> float:
    """While the run goes on, with what its worker processes have used so far; never less than reported before."""
    total, clock = parts.cpu_seconds, parts.state.clock
    if state == "running":
        # A worker that has just ended is not sampled any more, and its CPU time is not in the metrics yet.
        clock.cpu_reported = total = max(total + parts.memory.workers_cpu, clock.cpu_reported)
    return total


def _serial_seconds(parts: RunParts, source_busy: float) -> float:
    """See :mod:`.analysis.serial_estimate`."""
    seconds, cpus, cpu_seconds = max(1e-9, parts.state.clock.working_seconds), usable_cpus(), parts.cpu_seconds
    processes = [stage for stage in parts.stages if stage.stage.kind == "process"]
    threads = sum(stage.peak_workers for stage in parts.stages if stage.stage.kind in ("thread", "process")) + 2
    own_cpu = cpu_seconds - sum(stage.metrics.cpu for stage in processes)
    interpreter = Contention(threads, own_cpu / seconds)
    runners = (sum(stage.peak_workers for stage in processes) + 1) / cpus
    machine = Contention(runners, cpu_seconds / seconds / cpus)
    total = interpreter.uncontended_seconds(parts.sink_writer.busy, parts.sink_writer.cpu)
    total += interpreter.uncontended_seconds(source_busy, max(0.0, parts.source_reader.cpu))
    for stage in parts.stages:
        metrics = stage.metrics
        if stage.stage.kind == "process":
            total += machine.uncontended_seconds(metrics.busy, metrics.cpu)
        elif stage.stage.kind == "async":
            total += metrics.busy  # coroutines wait; their CPU time is not measured apart
        else:
            total += interpreter.uncontended_seconds(metrics.busy, metrics.call_cpu)
    return total


def _stage_report(stage: StageRun) -> StageReport:
    metrics, inline = stage.metrics, stage.stage.kind == "inline"
    p50, p95, p99 = metrics.quantiles()
    service = metrics.deciles()
    recent = metrics.recent_quantiles()
    with metrics.lock:
        share = 1 / stage.worker_seconds if stage.worker_seconds else 0.0
        return StageReport(
            name=stage.stage.name,
            kind=stage.stage.kind,
            workers=stage.peak_workers,
            workers_now=stage.workers,
            items_in=metrics.items_in,
            items_out=metrics.items_out,
            rows_out=metrics.rows_out,
            failed=metrics.failed,
            retried=metrics.retried,
            halved=metrics.halved,
            timed_out=metrics.timed_out,
            workers_lost=metrics.workers_lost,
            busy_fraction=round(min(1.0, metrics.busy * share), 4),
            starved_fraction=round(min(1.0, metrics.starved * share), 4),
            blocked_fraction=round(min(1.0, metrics.blocked * share), 4),
            busy_seconds=round(metrics.busy, 4),
            starved_seconds=round(metrics.starved, 4),
            blocked_seconds=round(metrics.blocked, 4),
            queue_peak=0 if inline else stage.channel.peak,
            queue_size=0 if inline else stage.channel.capacity,
            queue_now=0 if inline else stage.channel.items,
            p50_ms=p50,
            p95_ms=p95,
            p99_ms=p99,
            calls=metrics.calls,
            service_ms=service,
            recent_ms=list(recent),
            longest_ms=round(stage.longest_ns / 1e6, 4),
            longest_position=stage.longest_position,
        )


def _failures(run: RunState, redact: Callable[[str], str]) -> list[dict[str, Any]]:
    """The causes, each with the place of its sample in the source."""
    failures = run.causes.listed()
    for each in failures:
        sample = each["sample"]
        position = sample.get("position")
        if position is not None and (place := run.place_of(position)):
            each["sample"] = {**sample, "place": _closer(place, sample.get("message") or "")}
    return [_redacted(each, redact) for each in failures]


def _closer(place: str, message: str) -> str:
    """The line of a file that is a failed part of its own: its message begins with it (``a.csv, line 7: ...``)."""
    found = re.match(f"{re.escape(place)}(!.*?)?, line [0-9]+", message)
    return place if found is None else found[0]


def _redacted(value: Any, redact: Callable[[str], str]) -> Any:
    """A cause with all its texts redacted, those of sample items included."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {name: _redacted(each, redact) for name, each in value.items()}
    return [_redacted(each, redact) for each in value] if isinstance(value, list) else value
