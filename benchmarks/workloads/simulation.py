"""The error of ``Pipeline.simulate``: predicted from one run, measured in others that it has not seen."""

from __future__ import annotations

from airflow_parallel_provider import Pipeline, RunReport, Stage
from benchmarks.common import Count, InMemorySource
from benchmarks.spec import OURS, Laps, Measured, Params, Workload, check
from benchmarks.workloads.mixed import fetch, process, save

SEEN = (2, 1, 2)
WORK = Workload(
    name="simulation",
    title="Error of Pipeline.simulate on runs it has not seen",
    what="the mixed workload, 500 items; predicted from a run with 2/1/2 workers, then run with other numbers",
    timed="error: predicted duration of the steady part against the measured one (positive: predicted too long)",
    metric="error",
    unit="%",
    best="low",
    shows=("predicted", "measured"),
    full={"items": 500},
    quick={"items": 150},
    rounds=3,
)
WORKLOADS = {WORK.name: WORK}


def run(items: int, workers: tuple[int, int, int]) -> tuple[RunReport, float]:
    laps = Laps()
    sink = Count(laps)
    stages = [
        Stage(fetch, workers=workers[0]),
        Stage(process, kind="process", workers=workers[1]),
        Stage(save, workers=workers[2]),
    ]
    report = Pipeline(InMemorySource(laps, range(items)), stages, sink).run()
    check(sink.rows == items, f"{sink.rows} rows")
    steady: float = laps.over()["steady"]
    return report, steady


def compare(params: Params, workers: tuple[int, int, int]) -> Measured:
    report, _ = run(params["items"], SEEN)
    names = [stage.name for stage in report.stages]
    predicted = Pipeline.simulate(report, workers=dict(zip(names, workers, strict=True))).seconds
    _, measured = run(params["items"], workers)
    return {"error": (predicted / measured - 1) * 100, "predicted": predicted, "measured": measured}


def enter(workers: tuple[int, int, int]) -> None:
    shown = "/".join(map(str, workers))

    @WORK.contestant(f"{OURS}, {shown} workers", f"predicted from 2/1/2 workers, measured with {shown}")
    def held_out(params: Params) -> Measured:
        return compare(params, workers)


for _workers in ((1, 1, 1), (4, 1, 4), (8, 1, 8), (4, 2, 4), (8, 2, 8)):
    enter(_workers)
WORK.reference = f"{OURS}, 1/1/1 workers"
