"""Makes a report of a run's counters, at any moment of the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_parallel_provider.engine.analysis.bottleneck import BusyTime, advise
from airflow_parallel_provider.engine.analysis.serial_estimate import Contention
from airflow_parallel_provider.engine.dataflow.in_flight import InFlightLimit
from airflow_parallel_provider.engine.dataflow.sink_writer import SinkWriter
from airflow_parallel_provider.engine.dataflow.source_reader import SourceReader
from airflow_parallel_provider.engine.metrics.worker_metrics import for_report
from airflow_parallel_provider.engine.resources.cpus import usable_cpus
from airflow_parallel_provider.engine.run.memory import MemoryMonitor
from airflow_parallel_provider.engine.run.stage_series import StageSeries
from airflow_parallel_provider.engine.run.state import RunState
from airflow_parallel_provider.engine.stages.autoscaler import Decision
from airflow_parallel_provider.engine.stages.stage_run import StageRun
from airflow_parallel_provider.errors import RunFailed
from airflow_parallel_provider.report import RunReport, StageReport, State


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
    def cpu_seconds(self) -> float:
        """CPU time of this process since the run began, and of its workers that have ended."""
        own = time.process_time() - self.state.clock.cpu_before
        return own + sum(stage.metrics.cpu for stage in self.stages)


def build_report(parts: RunParts, state: State) -> RunReport:
    """The report of a run as of now."""
    run, reader, writer = parts.state, parts.source_reader, parts.sink_writer
    read, skipped = reader.items_read, reader.items_skipped
    seconds = run.clock.seconds
    stages = [_stage_report(stage) for stage in parts.stages]
    fates = writer.items_committed + writer.items_filtered + writer.items_dead_lettered
    # Items that failed in chunks that are not committed (yet): in a run that ended early they are the reason.
    left = read - fates - skipped
    failed_there = 0 if state == "success" else max(0, min(left, run.tolerance.given_up - writer.items_dead_lettered))
    source_busy = reader.busy
    serial = _serial_seconds(parts, source_busy)
    busy_times = [BusyTime(stage.name, stage.kind, stage.workers, stage.busy_seconds) for stage in stages]
    ends = BusyTime("source", "source", 1, source_busy), BusyTime("sink", "sink", 1, writer.busy)
    bottleneck, advice = advise([ends[0], *busy_times, ends[1]], run.clock.working_seconds)
    redact = run.plan.worker_hooks.redact
    return RunReport(
        state=state,
        name=run.plan.name,
        items_read=read,
        items_committed=writer.items_committed,
        items_filtered=writer.items_filtered,
        items_dead_lettered=writer.items_dead_lettered + failed_there,
        items_skipped=skipped,
        items_unfinished=left - failed_there,
        rows_committed=writer.rows_committed,
        chunks_committed=writer.chunks_committed,
        chunks_skipped=reader.chunks_skipped,
        seconds=round(seconds, 4),
        items_per_second=round((read - skipped) / seconds, 2) if seconds else 0.0,
        cpu_seconds=round(_cpu_seconds(parts, state), 4),
        peak_rss_bytes=parts.memory.peak,
        estimated_serial_seconds=round(serial, 4),
        speedup=round(serial / seconds, 3) if seconds else 0.0,
        bottleneck=bottleneck,
        advice=advice,
        failures=[_redacted(cause.as_dict(), redact) for cause in run.causes.listed()],
        stages=stages,
        error=str(run.error) if run.error else None,
        warnings=[redact(warning) for warning in run.warnings],
        source_busy_seconds=round(source_busy, 4),
        sink_busy_seconds=round(writer.busy, 4),
        max_in_flight=parts.in_flight.limit,
        rss_bytes=parts.memory.now,
        workers=for_report([metrics for stage in parts.stages for metrics in stage.worker_metrics]),
        series=parts.series.as_dict(),
        rows_rejected=run.tolerance.rejected,
        aggregates=dict(writer.aggregates),
        decisions=[decision.as_dict() for decision in parts.decisions],
    )


def attach_report(error: RunFailed, report: RunReport, redact: Callable[[str], str]) -> RunFailed:
    """The error of a run with its report, the most frequent causes in its message."""
    lines = [redact(error.message)]
    lines += [f"{each['count']:>9,}  {each['stage']}: {each['cause']}" for each in report.failures[:10]]
    error.message = "\n".join(lines)
    error.report = report
    return error


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
            failed=metrics.failed,
            retried=metrics.retried,
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


def _redacted(value: Any, redact: Callable[[str], str]) -> Any:
    """A cause with all its texts redacted, those of sample items included."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {name: _redacted(each, redact) for name, each in value.items()}
    return [_redacted(each, redact) for each in value] if isinstance(value, list) else value
