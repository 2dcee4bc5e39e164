"""Turning a run's counters into a report, at any moment of the run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.engine.analysis.bottleneck import Load, advise
from airflow_parallel_provider.engine.analysis.serial_estimate import Turns
from airflow_parallel_provider.engine.metrics.worker_metrics import shown
from airflow_parallel_provider.engine.resources.cpus import usable_cpus
from airflow_parallel_provider.report import RunReport, StageReport, State

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.run.run import Run
    from airflow_parallel_provider.engine.stages.stage_run import StageRun


def make_report(run: Run, state: State) -> RunReport:
    """The account of a run as of now."""
    clocks, committer, feeder = run.clocks, run.committer, run.feeder
    read = feeder.items_read if feeder else 0
    seconds = clocks.seconds
    stages = [_stage_report(stage) for stage in run.stages]
    fates = committer.items_committed + committer.items_filtered + committer.items_dead_lettered
    # Items that failed in chunks that are not committed (yet): in a run that ended early they are why it ended.
    left = read - fates - run.items_skipped
    failed_there = 0 if state == "success" else max(0, min(left, run.judge.given_up - committer.items_dead_lettered))
    source_busy = feeder.busy if feeder else 0.0
    serial = _serial_seconds(run, source_busy)
    loads = [Load(stage.name, stage.kind, stage.workers, stage.busy_seconds) for stage in stages]
    loads = [Load("source", "source", 1, source_busy), *loads, Load("sink", "sink", 1, committer.busy)]
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
        failures=[_cleaned(cause.as_dict(), run.clean) for cause in run.causes.listed()],
        stages=stages,
        error=str(run.error) if run.error else None,
        warnings=[run.clean(warning) for warning in run.warnings],
        source_busy_seconds=round(source_busy, 4),
        sink_busy_seconds=round(committer.busy, 4),
        max_in_flight=run.budget.limit,
        rss_bytes=run.crew.memory.now,
        workers=shown([tally for stage in run.stages for tally in stage.tallies]),
        series=run.lookout.series.as_dict(),
        rows_rejected=run.judge.rejected,
        figures=dict(committer.figures),
        decisions=[decision.as_dict() for decision in run.crew.decisions],
    )


def _cpu_seconds(run: Run, state: State) -> float:
    """While it runs with what its worker processes have used so far; never less than was told before."""
    total = run.cpu_seconds()
    if state == "running":
        # A worker that has just ended is not there any more and not in the books yet.
        run.clocks.cpu_told = total = max(total + run.crew.memory.workers_cpu, run.clocks.cpu_told)
    return total


def _serial_seconds(run: Run, source_busy: float) -> float:
    """See :mod:`.serial`."""
    seconds, cpus = max(1e-9, run.clocks.working_seconds), usable_cpus()
    processes = [stage for stage in run.stages if stage.stage.kind == "process"]
    threads = sum(stage.peak_workers for stage in run.stages if stage.stage.kind in ("thread", "process")) + 2
    own_cpu = run.cpu_seconds() - sum(stage.meter.cpu for stage in processes)
    interpreter = Turns(threads, own_cpu / seconds)
    machine = Turns((sum(stage.peak_workers for stage in processes) + 1) / cpus, run.cpu_seconds() / seconds / cpus)
    total = interpreter.alone(run.committer.busy, run.committer.cpu)
    if run.feeder:
        total += interpreter.alone(source_busy, max(0.0, run.feeder.cpu))
    for stage in run.stages:
        meter = stage.meter
        if stage.stage.kind == "process":
            total += machine.alone(meter.busy, meter.cpu)
        elif stage.stage.kind == "async":
            total += meter.busy  # coroutines wait; what they compute is not told apart
        else:
            total += interpreter.alone(meter.busy, meter.call_cpu)
    return total


def _stage_report(stage: StageRun) -> StageReport:
    meter, inline = stage.meter, stage.stage.kind == "inline"
    p50, p95, p99 = meter.quantiles()
    service = meter.deciles()
    recent = meter.recent_quantiles()
    with meter.lock:
        share = 1 / stage.worker_seconds if stage.worker_seconds else 0.0
        return StageReport(
            name=stage.stage.name,
            kind=stage.stage.kind,
            workers=stage.peak_workers,
            workers_now=stage.workers,
            items_in=meter.items_in,
            items_out=meter.items_out,
            failed=meter.failed,
            retried=meter.retried,
            timed_out=meter.timed_out,
            workers_lost=meter.workers_lost,
            busy_fraction=round(min(1.0, meter.busy * share), 4),
            starved_fraction=round(min(1.0, meter.starved * share), 4),
            blocked_fraction=round(min(1.0, meter.blocked * share), 4),
            busy_seconds=round(meter.busy, 4),
            starved_seconds=round(meter.starved, 4),
            blocked_seconds=round(meter.blocked, 4),
            queue_peak=0 if inline else stage.channel.peak,
            queue_size=0 if inline else stage.channel.capacity,
            queue_now=0 if inline else stage.channel.items,
            p50_ms=p50,
            p95_ms=p95,
            p99_ms=p99,
            calls=meter.calls,
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
