"""A forecast for a running pipeline: what more workers in the stage that limits it would gain."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.engine.analysis.simulate import simulate
from airflow_parallel_provider.engine.resources.cpus import usable_cpus
from airflow_parallel_provider.report import RunReport, StageReport

if TYPE_CHECKING:
    from collections.abc import Mapping

LEAST_CALLS = 20
"""With fewer calls of the stage there is no forecast: their durations say little."""


def forecast(snapshot: Mapping[str, Any]) -> dict[str, Any] | None:
    """Simulate the run with twice the workers in the stage that limits it, and as it is.

    The two simulations are compared with each other, not with the clock, so that what the simulation does not know
    (start-up, a database that is slow for all) affects both. Takes some 50 ms of CPU.

    :return: ``stage``, ``workers``, ``more_workers``, ``gain`` (share of the time that would be saved) and ``limit``
        (the stage that would limit then); None where the source or the sink limits the run, where a process stage
        already uses all CPUs, or where too little is known.
    """
    stage = next((each for each in snapshot.get("stages", ()) if each["name"] == snapshot.get("bottleneck")), None)
    if stage is None or stage["kind"] == "inline" or stage.get("calls", 0) < LEAST_CALLS:
        return None
    more = stage["workers"] * 2
    if stage["kind"] == "process":
        more = min(more, usable_cpus())
    if more <= stage["workers"]:
        return None
    report = _report(snapshot)
    now, then = simulate(report), simulate(report, workers={stage["name"]: more})
    return {
        "stage": stage["name"],
        "workers": stage["workers"],
        "more_workers": more,
        "gain": round(max(0.0, 1 - then.seconds / now.seconds), 3),
        "limit": then.bottleneck,
    }


def _report(snapshot: Mapping[str, Any]) -> RunReport:
    stages = [StageReport(**_known(StageReport, stage)) for stage in snapshot["stages"]]
    return RunReport(**{**_known(RunReport, snapshot), "stages": stages})


def _known(kind: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    return {field.name: values[field.name] for field in fields(kind) if field.name in values}
