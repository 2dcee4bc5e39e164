# SPDX-License-Identifier: Apache-2.0
"""Which part limits a run, what to change, and what the change would bring.

Operational analysis (Denning and Buzen, 1978): with a stage of ``w`` workers that were busy for ``D`` seconds in all,
the run takes at least ``D / w`` seconds; the part with the largest such bound is the bottleneck. Processes share the
CPUs, so their bound uses no more workers than there are CPUs. The threads of the task process share one interpreter
lock: where their CPU time fills one CPU, wall-clock durations say who waits for the lock, not who holds it, so the part
with the most CPU time is the bottleneck (issue 17, A11).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from airflow_parallel_provider.engine.resources.cpus import usable_cpus
from airflow_parallel_provider.formats import format_duration, format_share

INTERPRETER_FULL = 0.85
"""Share of one CPU from which the interpreter lock limits the task process. Above ``INTERPRETER_FREE`` its threads run
compiled code without the lock."""

INTERPRETER_FREE = 1.15

MACHINE_BUSY = 0.25
"""Share of the machine's CPUs that other programs used, from which on durations say little."""

LEAST_CALLS = 20
"""With fewer calls of the stage there is no forecast: their durations say little."""


@dataclass(frozen=True, slots=True)
class BusyTime:
    """How long a part of the pipeline was busy, in all its workers together."""

    name: str
    kind: str
    workers: int
    busy: float
    """Seconds."""
    fraction: float = 0.0
    """Share of its workers' time, 0 to 1: the number that report, page and advice show."""
    cpu: float = 0.0
    """CPU seconds in the task process."""
    calls: int = LEAST_CALLS

    def bound(self, workers: int | None = None) -> float:
        """Seconds the run must take because of this part."""
        count = workers or self.workers
        if self.kind == "process":
            count = min(count, usable_cpus())
        return self.busy / max(1, count)


@dataclass(frozen=True, slots=True)
class RunTimes:
    """Times of the whole run, seconds."""

    working: float
    """Since the workers were started."""
    total: float
    """Since the run began."""
    task_cpu: float = 0.0
    """CPU time of the task process."""
    other_load: float | None = None
    """Share of the machine's CPUs that other programs used while no CPU was idle; None: not known."""
    source_advice: str = ""
    """What makes the source faster, as it says itself."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What more workers in the limiting stage would bring."""

    stage: str
    workers: int
    more_workers: int
    seconds: float
    """How long the whole run would take."""
    fixed_seconds: float
    """How much of that no worker shortens: start-up, the first and the last items, the last commits."""
    gain: float
    """Share of the run's time that would be saved, 0 to 1."""
    limit: str
    """What limits then: a stage, ``source``, ``sink``, or ``interpreter`` (the lock of the task process)."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What a run's times say."""

    bottleneck: str | None = None
    text: str = ""
    forecast: Forecast | None = None

    def forecast_dict(self) -> dict[str, Any] | None:
        """The forecast as plain JSON, or None."""
        return None if self.forecast is None else asdict(self.forecast)


def advise(parts: Sequence[BusyTime], times: RunTimes) -> Advice:
    """The bottleneck of a run, one sentence of advice, and what more workers would bring where they would help."""
    ranked = sorted(parts, key=lambda each: each.bound(), reverse=True)
    if not ranked or times.working <= 0 or ranked[0].busy <= 0:
        return Advice()
    disturbed = _disturbance(times.other_load)
    if INTERPRETER_FULL <= times.task_cpu / times.working <= INTERPRETER_FREE and ranked[0].kind != "process":
        return _interpreter_advice(ranked, times, disturbed)
    top = ranked[0]
    share = f"{disturbed}{_share(top)}"
    if top.bound() / times.working < 0.5:
        if _interpreter_starved(times) and top.kind != "process":
            return _interpreter_advice(ranked, times, disturbed)
        text = f"{share}: most of the run is start-up and transport, so more workers would not help"
        return Advice(top.name, text)
    found = _forecast(top, ranked[1:], times)
    cure = _cure(top, found, times.source_advice)
    return Advice(top.name, f"{share}; {cure}", found if top.calls >= LEAST_CALLS else None)


def _disturbance(other_load: float | None) -> str:
    if other_load is None or not disturbed_by(other_load):
        return ""
    used = f"other programs used {format_share(other_load)} of this machine's CPUs"
    return f"{used}, so all times are longer than they need be; "


def _interpreter_starved(times: RunTimes) -> bool:
    """Whether the task process used what other programs left of one CPU: then its threads waited for their turn."""
    if not disturbed_by(times.other_load):
        return False
    left = min(1.0, usable_cpus() * (1 - (times.other_load or 0.0)))
    return times.task_cpu / times.working >= INTERPRETER_FULL * left


def disturbed_by(other_load: float | None) -> bool:
    """Whether other programs used so much of the machine that durations say little."""
    return other_load is not None and other_load >= MACHINE_BUSY


def _share(part: BusyTime) -> str:
    of = "of the time" if part.kind in ("source", "sink", "inline") else "of its workers' time"
    return f"{part.name} is busy {format_share(part.fraction)} {of}"


def _interpreter_advice(parts: Sequence[BusyTime], times: RunTimes, disturbed: str) -> Advice:
    inside = sorted((each for each in parts if each.kind != "process"), key=lambda each: each.cpu, reverse=True)
    rest = max(0.0, times.task_cpu - sum(each.cpu for each in inside))
    used = [(each.name, each.cpu) for each in inside[:3] if each.cpu >= 0.05 * times.task_cpu]
    used.append(("passing items on", rest))
    shares = ", ".join(f"{name} {format_share(seconds / times.task_cpu)}" for name, seconds in used)
    top = inside[0]
    if rest > top.cpu:
        cure = "fewer and larger items, or batch_size=, so that less passes between threads"
    else:
        cure = {
            "source": "let the source yield cheaper items (names, ids, Arrow tables) and read them in a process stage",
            "sink": "let the last stage return Arrow tables or data frames instead of rows",
        }.get(top.kind, 'give it kind="process", or batch_size= with vectorized code')
    own = format_share(min(1.0, times.task_cpu / times.working))
    return Advice(
        top.name,
        f"{disturbed}the task process uses {own} of one CPU, and Python runs one of its threads at a time ({shares}): "
        f"{cure}",
    )


def _forecast(top: BusyTime, others: Sequence[BusyTime], times: RunTimes) -> Forecast | None:
    """What twice the workers would bring; None where the part has none to add."""
    more = top.workers * 2
    if top.kind == "process":
        more = min(more, usable_cpus())
    if top.kind in ("source", "sink", "inline") or more <= top.workers:
        return None
    limits = [(each.bound(), each.name) for each in others]
    limits += [(top.bound(more), top.name), (times.task_cpu, "interpreter")]
    bound, limit = max(limits)
    now = top.bound()
    bound = min(bound, now)
    fixed = max(0.0, times.total - now)
    return Forecast(
        stage=top.name,
        workers=top.workers,
        more_workers=more,
        seconds=round(fixed + bound, 2),
        fixed_seconds=round(fixed, 2),
        gain=round((now - bound) / max(1e-9, times.total), 3),
        limit=limit,
    )


def _cure(top: BusyTime, forecast: Forecast | None, source_advice: str) -> str:
    if top.kind == "source":
        own = source_advice or "let it yield cheaper items (names, ids) and fetch in a stage"
        return f"the source limits the run: {own}"
    if top.kind == "sink":
        return "the sink limits the run: larger chunks, fewer indexes, or a faster table"
    if top.kind == "inline":
        return 'give it workers of its own: kind="thread" if it waits, kind="process" if it computes'
    if forecast is None:
        return (
            f"its {top.workers} processes use all {usable_cpus()} CPUs of this task: make the function cheaper "
            "(batch_size with vectorized code), give the task more CPUs, or spread it over mapped tasks"
        )
    if forecast.gain < 0.01:
        return f"more workers would gain nothing: then {_limiting(forecast.limit)} limits"
    keeps_up = "" if top.kind == "process" else " if what it waits for keeps up"
    return (
        f"with workers={forecast.more_workers} the run would take about {_about(forecast.seconds)}"
        f"{keeps_up} ({_about(forecast.fixed_seconds)} do not shrink), then {_limiting(forecast.limit)} limits"
    )


def _about(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 120 else format_duration(seconds)


def _limiting(limit: str) -> str:
    return "Python's interpreter lock" if limit == "interpreter" else limit
