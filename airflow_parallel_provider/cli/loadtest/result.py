# SPDX-License-Identifier: Apache-2.0
"""The result of a load test, and whether it passes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.cli.loadtest.stability import Memory, Stability, memory, stability
from airflow_parallel_provider.engine.stages.dispatch_size import CAP as MOST_CALLS
from airflow_parallel_provider.testing.checks import conservation_problems

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_parallel_provider.cli.loadtest.plan import LoadTest
    from airflow_parallel_provider.cli.loadtest.sampling import Sample
    from airflow_parallel_provider.cli.loadtest.settings import LoadTestSettings
    from airflow_parallel_provider.engine.pipeline import Pipeline
    from airflow_parallel_provider.errors import RunFailed
    from airflow_parallel_provider.report import RunReport, StageReport
    from airflow_parallel_provider.testing.fault_plan import Fault, FaultPlan


@dataclass(frozen=True, slots=True)
class Injected:
    """One kind of fault at one stage."""

    stage: str
    kind: str
    injected: int
    """How often the fault struck."""
    accounted: int
    """How often the report counts such an event at the stage: workers lost, calls timed out, calls that raised."""
    exact: bool
    """False for errors in a stage with batches: halving a failed batch makes further calls, which also count. False too
    for errors in a stage that lost worker processes: results they had not sent are lost, and the calls repeated."""
    lost: int = 0
    """Most of these events that lost workers may not have reported."""


@dataclass(frozen=True, slots=True)
class LoadTestResult:
    """The outcome of a load test."""

    settings: LoadTestSettings
    report: RunReport
    rounds: int
    stability: Stability | None
    memory: Memory | None
    conservation: list[str]
    """The counts that do not add up."""
    faults: list[Injected]
    problems: list[str]
    """Why the test failed; empty when it passed."""
    notes: list[str]
    """Restrictions of the result that a reader should know."""

    @property
    def passed(self) -> bool:
        """Whether there are no problems."""
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        """The result as plain JSON."""
        return {
            "passed": self.passed,
            "problems": self.problems,
            "notes": self.notes,
            "settings": asdict(self.settings),
            "rounds": self.rounds,
            "throughput": {
                "items_per_second": self.report.items_per_second,
                "items": self.report.items_read,
                "seconds": self.report.seconds,
            },
            "stability": None if self.stability is None else asdict(self.stability),
            "memory": None if self.memory is None else asdict(self.memory),
            "conservation": {"ok": not self.conservation, "problems": self.conservation},
            "faults": [asdict(each) for each in self.faults],
            "report": self.report.as_dict(),
        }


def judge(
    test: LoadTest, settings: LoadTestSettings, report: RunReport, samples: Sequence[Sample], error: RunFailed | None
) -> LoadTestResult:
    """Judge a load test by its report and its samples."""
    steady, resident = stability(samples), memory(samples)
    lost = [*conservation_problems(report), *_sink_problems(test, report)]
    faults = [] if test.faults is None else _faults(test.faults, test.pipeline, report)
    problems = [] if error is None else [f"the run failed: {error.message.splitlines()[0]}"]
    problems += lost
    problems += _fault_problems(faults) if report.state == "success" else []
    problems += _stability_problems(steady, settings) + _memory_problems(resident, settings)
    if not report.items_read:
        problems.append("the source gave no items")
    notes = _notes(test, report, steady, resident)
    return LoadTestResult(settings, report, test.source.rounds, steady, resident, lost, faults, problems, notes)


def _sink_problems(test: LoadTest, report: RunReport) -> list[str]:
    """Differences between the report and the counts of source and sink."""
    problems, sink = [], test.sink
    seen = report.items_committed + report.items_filtered
    if report.state == "success":
        seen += report.items_dead_lettered
        if test.source.given != report.items_read:
            problems.append(f"the source gave {test.source.given} items, the report says {report.items_read}")
        if sink.items != seen:
            problems.append(f"the sink received chunks of {sink.items} items, the report says {seen}")
        if sink.missing:
            problems.append(f"{sink.missing} chunks never reached the sink")
    if sink.rows != report.rows_committed:
        problems.append(f"the sink received {sink.rows} rows, the report says {report.rows_committed}")
    if sink.twice:
        problems.append(f"{sink.twice} chunks reached the sink twice")
    return problems


def _faults(plan: FaultPlan, pipeline: Pipeline, report: RunReport) -> list[Injected]:
    stages = {stage.name: stage for stage in report.stages}
    batched = {stage.name for stage in pipeline.stages if stage.batched}
    fired: dict[tuple[str, str], int] = {}
    for each in plan.fired():
        key = each.stage, each.kind
        fired[key] = fired.get(key, 0) + each.times
    return [
        _injected(
            fault,
            stages[fault.stage],
            fired.get((fault.stage, fault.kind), 0),
            batched=fault.stage in batched,
        )
        for fault in plan.faults
    ]


def _injected(fault: Fault, stage: StageReport, count: int, *, batched: bool) -> Injected:
    # After each failed call the call is retried, or its batch is halved, or its item fails, whatever the reason.
    replaced = stage.workers_lost + stage.timed_out
    raised = stage.failed + stage.retried + stage.halved // 2 - replaced
    counted = {"kill": stage.workers_lost, "stall": stage.timed_out, "error": raised}[fault.kind]
    if fault.kind != "error":
        return Injected(fault.stage, fault.kind, count, counted, exact=True)
    lost = MOST_CALLS * replaced if stage.kind == "process" else 0
    return Injected(fault.stage, fault.kind, count, counted, exact=not batched and not lost, lost=lost)


def _fault_problems(faults: list[Injected]) -> list[str]:
    problems = [
        f"stage {each.stage}: {each.injected} times {each.kind} was injected, only {each.accounted} are accounted for"
        for each in faults
        if each.accounted < each.injected - each.lost
    ]
    struck = {each.kind for each in faults if each.injected}
    idle = [kind for kind in dict.fromkeys(each.kind for each in faults) if kind not in struck]
    return problems + [f"no {kind} was injected: give more items, or a higher share ({kind}:0.1)" for kind in idle]


def _stability_problems(found: Stability | None, settings: LoadTestSettings) -> list[str]:
    if found is None:
        return []
    problems = []
    if found.trend < -settings.max_slowdown:
        problems.append(f"the rate fell by {-found.trend:.0%} from start to end (allowed {settings.max_slowdown:.0%})")
    # A stalled call or a replaced worker lowers the rate for a moment: with faults only a lasting loss counts.
    if found.variation > settings.max_variation and not settings.inject:
        text = f"the rate varies by {found.variation:.0%} around its mean (allowed {settings.max_variation:.0%})"
        problems.append(text)
    return problems


def growth_allowed(found: Memory, settings: LoadTestSettings) -> float:
    """Bytes that memory may grow by during the test."""
    return max(settings.max_growth, 0.1 * found.median_bytes)


def _memory_problems(found: Memory | None, settings: LoadTestSettings) -> list[str]:
    if found is None or found.growth_bytes <= growth_allowed(found, settings):
        return []
    grown, per_thousand = found.growth_bytes / 2**20, found.bytes_per_thousand_items / 2**20
    return [f"memory grew by {grown:,.0f} MiB, {per_thousand:,.2f} MiB per 1,000 items: it is not bounded"]


def _notes(test: LoadTest, report: RunReport, steady: Stability | None, resident: Memory | None) -> list[str]:
    notes = []
    if steady is None:
        notes.append("stability was not judged: too few items or too short a run")
    if resident is None:
        notes.append("memory was not judged: too short a run")
    if steady is not None and test.faults is not None:
        notes.append("with faults the trend of the rate is judged; its variation is only shown")
    if test.source.exhausted and report.items_read:
        notes.append(f"the source can be read only once: it gave {test.source.given} items and no more")
    if test.source.acknowledges:
        notes.append("nothing was acknowledged: the messages that were read are in the queue again")
    return notes
