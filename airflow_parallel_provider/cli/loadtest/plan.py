"""A pipeline made ready for a load test: another source, another sink, and faults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from airflow_parallel_provider.cli.counting import CountingSink
from airflow_parallel_provider.cli.loadtest.sampling import LoadTestSource
from airflow_parallel_provider.engine.plan.tolerance import Tolerance
from airflow_parallel_provider.errors import PlanError
from airflow_parallel_provider.testing.fault_plan import Fail, Fault, FaultPlan, Kill, Stall
from airflow_parallel_provider.testing.rebuild import rebuilt

if TYPE_CHECKING:
    from airflow_parallel_provider.cli.loadtest.settings import Injection, LoadSettings
    from airflow_parallel_provider.engine.pipeline import Pipeline
    from airflow_parallel_provider.engine.plan.stage import Stage
    from airflow_parallel_provider.testing.fault_site import FaultKind

STRIKES_AT: dict[FaultKind, tuple[str, ...]] = {
    "error": ("thread", "process", "async", "inline"),
    "kill": ("process",),
    "stall": ("thread", "process", "async"),
}
"""Kinds of stages each fault can strike at."""


@dataclass(frozen=True, slots=True)
class LoadTest:
    """All that is needed to run one."""

    pipeline: Pipeline
    source: LoadTestSource
    sink: CountingSink
    faults: FaultPlan | None


def prepare(pipeline: Pipeline, settings: LoadSettings) -> LoadTest:
    """Make a pipeline ready.

    :raises PlanError: when it has no sink to use, or no stage at which a fault could strike.
    """
    if settings.real_sink and pipeline.sink is None:
        raise PlanError("--real-sink", True, "the pipeline has no sink; leave the option out and rows are counted")
    source = LoadTestSource(pipeline.source, settings.items, settings.seconds)
    sink = CountingSink(pipeline.sink if settings.real_sink else None)
    # A load of its own: with the pipeline's key the chunks of the real load would be skipped, or pass as done.
    made = rebuilt(pipeline, source=source, sink=sink, load_key=None)
    if not settings.inject:
        return LoadTest(made, source, sink, None)
    stages = [_with_timeout(stage, settings) for stage in made.stages]
    changes = {} if settings.keep_tolerance else {"tolerance": Tolerance(1.0)}
    plan = FaultPlan(*faults_for(stages, settings), seed=settings.seed)
    return LoadTest(plan.wrap(rebuilt(made, stages=stages, **changes)), source, sink, plan)


def faults_for(stages: Sequence[Stage], settings: LoadSettings) -> list[Fault]:
    """One fault per kind and stage at which it can strike.

    :raises PlanError: when there is no such stage for a kind that was asked for.
    """
    faults: list[Fault] = []
    for injection in settings.inject:
        fitting = [stage for stage in stages if stage.kind in STRIKES_AT[injection.kind]]
        if not fitting:
            kinds = ", ".join(STRIKES_AT[injection.kind])
            cure = f"it needs a stage of kind {kinds}, and the pipeline has none; leave it out"
            raise PlanError("--inject", injection.kind, cure)
        faults += [_fault(injection, stage, settings.items) for stage in fitting]
    return faults


def _fault(injection: Injection, stage: Stage, items: int | None) -> Fault:
    rate = injection.rate_for(items)
    if injection.kind == "error":
        return Fail(stage.name, rate=rate)
    if injection.kind == "kill":
        return Kill(stage.name, rate=rate)
    # Each stall costs a worker the whole timeout: without a share of the caller's own, every worker pays once. A
    # stalled thread cannot be ended, and a stage replaces only so many: never stall more of them than it has.
    limited = injection.rate is None or stage.kind == "thread"
    return Stall(stage.name, rate=rate, limit=stage.worker_range[1] if limited else None)


def _with_timeout(stage: Stage, settings: LoadSettings) -> Stage:
    stalls = any(each.kind == "stall" for each in settings.inject)
    if stalls and stage.timeout is None and stage.kind in STRIKES_AT["stall"]:
        return replace(stage, timeout=settings.stall_timeout)
    return stage
