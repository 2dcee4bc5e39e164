"""Turning a run's counters into a report, at any moment of the run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.engine.analysis.bottleneck import BusyTime, advise
from airflow_parallel_provider.engine.analysis.serial_estimate import Contention
from airflow_parallel_provider.engine.metrics.worker_metrics import for_report
from airflow_parallel_provider.engine.resources.cpus import usable_cpus
from airflow_parallel_provider.report import RunReport, StageReport, State

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.run.run import Run
    from airflow_parallel_provider.engine.stages.stage_run import StageRun


def build_report(run: Run, state: State) -> RunReport:
    """The account of a run as of now."""
    clocks, committer, source_reader = run.clock, run.sink_writer, run.source_reader
    read = source_reader.items_read if source_reader else 0
    seconds = clocks.seconds
    stages = [_stage_report(stage) for stage in run.stages]
    fates = committer.items_committed + committer.items_filtered + committer.items_dead_lettered
    # Items that failed in chunks that are not committed (yet): in a run that ended early they are why it ended.
    left = read - fates - run.items_skipped
    failed_there = (
        0 if state == "success" else max(0, min(left, run.tolerance.given_up - committer.items_dead_lettered))
    )
    source_busy = source_reader.busy if source_reader else 0.0
    serial = _serial_seconds(run, source_busy)
    loads = [BusyTime(stage.name, stage.kind, stage.workers, stage.busy_seconds) for stage in stages]
    loads = [BusyTime("source", "source", 1, source_busy), *loads, BusyTime("sink", "sink", 1, committer.busy)]
    bottleneck, advice = advise(loads, clocks.working_seconds)
    return RunReport(
        state=state,
        name=run.plan.name,
        items_read=read,
        items_committed=committer.items_committed,
        items_filtered=committer.items_filtered,
        items_dead_lettered=committer.items_dead_lettered + failed_there,
        items_skipped=run.items_skipped,
        items_unfinished=left - failed_there,
        rows_committed=committer.rows_committed,
        chunks_committed=committer.chunks_committed,
        chunks_skipped=run.chunks_skipped,
        seconds=round(seconds, 4),
        items_per_second=round((read - run.items_skipped) / seconds, 2) if seconds else 0.0,
        cpu_seconds=round(_cpu_seconds(run, state), 4),
        peak_rss_bytes=run.peak_rss(),
        estimated_serial_seconds=round(serial, 4),
        speedup=round(serial / seconds, 3) if seconds else 0.0,
        bottleneck=bottleneck,
        advice=advice,
        failures=[_cleaned(cause.as_dict(), run.redact) for cause in run.causes.listed()],
        stages=stages,
        error=str(run.error) if run.error else None,
        warnings=[run.redact(warning) for warning in run.warnings],
        source_busy_seconds=round(source_busy, 4),
        sink_busy_seconds=round(committer.busy, 4),
        max_in_flight=run.in_flight.limit,
        rss_bytes=run.pool.memory.now,
        workers=for_report([metrics for stage in run.stages for metrics in stage.worker_metrics]),
        series=run.monitor.series.as_dict(),
        rows_rejected=run.tolerance.rejected,
        figures=dict(committer.aggregates),
        decisions=[decision.as_dict() for decision in run.pool.decisions],
    )


def _cpu_seconds(run: Run, state: State) -> float:
    """While it runs with what its worker processes have used so far; never less than was told before."""
    total = run.cpu_seconds()
    if state == "running":
        # A worker that has just ended is not there any more and not in the books yet.
        run.clock.cpu_reported = total = max(total + run.pool.memory.workers_cpu, run.clock.cpu_reported)
    return total


def _serial_seconds(run: Run, source_busy: float) -> float:
    """See :mod:`.serial`."""
    seconds, cpus = max(1e-9, run.clock.working_seconds), usable_cpus()
    processes = [stage for stage in run.stages if stage.stage.kind == "process"]
    threads = sum(stage.peak_workers for stage in run.stages if stage.stage.kind in ("thread", "process")) + 2
    own_cpu = run.cpu_seconds() - sum(stage.metrics.cpu for stage in processes)
    interpreter = Contention(threads, own_cpu / seconds)
    machine = Contention(
        (sum(stage.peak_workers for stage in processes) + 1) / cpus, run.cpu_seconds() / seconds / cpus
    )
    total = interpreter.uncontended_seconds(run.sink_writer.busy, run.sink_writer.cpu)
    if run.source_reader:
        total += interpreter.uncontended_seconds(source_busy, max(0.0, run.source_reader.cpu))
    for stage in run.stages:
        metrics = stage.metrics
        if stage.stage.kind == "process":
            total += machine.uncontended_seconds(metrics.busy, metrics.cpu)
        elif stage.stage.kind == "async":
            total += metrics.busy  # coroutines wait; what they compute is not told apart
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


def _cleaned(value: Any, clean: Callable[[str], str]) -> Any:
    """A cause with all its texts cleaned, those of sample items included."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {name: _cleaned(each, clean) for name, each in value.items()}
    return [_cleaned(each, clean) for each in value] if isinstance(value, list) else value
