# SPDX-License-Identifier: Apache-2.0
"""Prepares a pipeline for a load test: another source, another sink, and faults."""

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
    from airflow_parallel_provider.cli.loadtest.settings import Injection, LoadTestSettings
    from airflow_parallel_provider.engine.pipeline import Pipeline
    from airflow_parallel_provider.engine.plan.stage import Stage
    from airflow_parallel_provider.testing.fault_site import FaultKind

STRIKES_AT: dict[FaultKind, tuple[str, ...]] = {
    "error": ("thread", "process", "async", "inline"),
    "kill": ("process",),
    "stall": ("thread", "process", "async"),
}
"""The kinds of stages that each fault can strike."""


@dataclass(frozen=True, slots=True)
class LoadTest:
    """A pipeline that is ready for its load test, with the parts that the judgment needs."""

    pipeline: Pipeline
    source: LoadTestSource
    sink: CountingSink
    faults: FaultPlan | None


def prepare(pipeline: Pipeline, settings: LoadTestSettings) -> LoadTest:
    """Prepare a pipeline.

    :raises PlanError: when the pipeline lacks the sink, or a stage that a fault can strike.
    """
    if settings.real_sink and pipeline.sink is None:
        raise PlanError("--real-sink", True, "the pipeline has no sink; leave the option out to count the rows")
    source = LoadTestSource(pipeline.source, settings.items, settings.seconds)
    sink = CountingSink(pipeline.sink if settings.real_sink else None)
    # No load key: with the pipeline's own key, chunks of the real load would be skipped or marked as committed.
    made = rebuilt(pipeline, source=source, sink=sink, load_key=None)
    if not settings.inject:
        return LoadTest(made, source, sink, None)
    stages = [_with_timeout(stage, settings) for stage in made.stages]
    changes = {} if settings.keep_tolerance else {"tolerance": Tolerance(1.0)}
    plan = FaultPlan(*faults_for(stages, settings), seed=settings.seed)
    return LoadTest(plan.wrap(rebuilt(made, stages=stages, **changes)), source, sink, plan)


def faults_for(stages: Sequence[Stage], settings: LoadTestSettings) -> list[Fault]:
    """One fault per requested kind and stage that it can strike.

    :raises PlanError: when no stage fits a requested kind.
    """
    faults: list[Fault] = []
    for injection in settings.inject:
        fitting = [stage for stage in stages if stage.kind in STRIKES_AT[injection.kind]]
        if not fitting:
            kinds = ", ".join(STRIKES_AT[injection.kind])
            cure = f"it needs a stage of kind {kinds}, and the pipeline has none; leave the fault out"
            raise PlanError("--inject", injection.kind, cure)
        faults += [_fault(injection, stage, settings.items) for stage in fitting]
    return faults


def _fault(injection: Injection, stage: Stage, items: int | None) -> Fault:
    rate = injection.rate_for(items)
    if injection.kind == "error":
        return Fail(stage.name, rate=rate)
    if injection.kind == "kill":
        return Kill(stage.name, rate=rate)
    # Each stall costs a worker the whole timeout. Unless the caller chooses a share, each worker stalls at most once. A
    # stalled thread cannot be ended, and a stage replaces only a limited number: never stall more threads than it has.
    limited = injection.rate is None or stage.kind == "thread"
    return Stall(stage.name, rate=rate, limit=stage.worker_range[1] if limited else None)


def _with_timeout(stage: Stage, settings: LoadTestSettings) -> Stage:
    stalls = any(each.kind == "stall" for each in settings.inject)
    if stalls and stage.timeout is None and stage.kind in STRIKES_AT["stall"]:
        return replace(stage, timeout=settings.stall_timeout)
    return stage
