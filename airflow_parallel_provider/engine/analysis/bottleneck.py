"""Which stage limits a run, and what to change.

Operational analysis (Denning and Buzen, 1978): with a stage of ``w`` workers that were busy for ``D`` seconds in all,
the run takes at least ``D / w`` seconds; the stage with the largest such bound is the bottleneck. Processes share the
CPUs, so their bound uses no more workers than there are CPUs.
"""

from __future__ import annotations

from dataclasses import dataclass

from airflow_parallel_provider.engine.resources.cpus import usable_cpus


@dataclass(frozen=True, slots=True)
class BusyTime:
    """How long a part of the pipeline was busy, in all its workers together."""

    name: str
    kind: str
    workers: int
    busy: float

    def bound(self, workers: int | None = None) -> float:
        """Seconds the run must take because of this part."""
        count = workers or self.workers
        if self.kind == "process":
            count = min(count, usable_cpus())
        return self.busy / max(1, count)


def advise(busy_times: list[BusyTime], seconds: float) -> tuple[str | None, str]:
    """Name of the bottleneck and one sentence of advice, for a run whose workers worked for ``seconds``."""
    ranked = sorted(busy_times, key=lambda each: each.bound(), reverse=True)
    if not ranked or seconds <= 0 or ranked[0].busy <= 0:
        return None, ""
    top = ranked[0]
    used = min(1.0, top.bound() / seconds)
    share = f"{top.name} is busy {used:.0%} of the time"
    if used < 0.5:
        return top.name, f"{share}: most of the run is start-up and transport, so more workers would not help"
    return top.name, f"{share}; {_cure(top, ranked[1:])}"


def _cure(top: BusyTime, others: list[BusyTime]) -> str:
    if top.kind == "source":
        return "the source limits the run: let it yield cheaper items (names, ids) and fetch in a stage"
    if top.kind == "sink":
        return "the sink limits the run: larger chunks, fewer indexes, or a faster table"
    if top.kind == "inline":
        return 'give it workers of its own: kind="thread" if it waits, kind="process" if it computes'
    cpus = usable_cpus()
    if top.kind == "process" and top.workers >= cpus:
        return (
            f"its {top.workers} processes use all {cpus} CPUs of this task: make the function cheaper "
            "(batch_size with vectorized code), give the task more CPUs, or spread it over mapped tasks"
        )
    more = min(top.workers * 2, cpus) if top.kind == "process" else top.workers * 2
    after = max([top.bound(more), *(each.bound() for each in others)])
    limits = next((each.name for each in others if each.bound() >= after), top.name)
    return f"with workers={more} the run would take about {after:.1f} s, then {limits} limits"
