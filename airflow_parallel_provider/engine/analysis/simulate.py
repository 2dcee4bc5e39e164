# SPDX-License-Identifier: Apache-2.0
"""How long a run would have taken with other numbers of workers: a queueing simulation on measured service times.

A discrete-event simulation of a tandem line with finite buffers and blocking after service (Law, *Simulation Modeling
and Analysis*, ch. 2): each stage has its workers and its bound, service times are drawn from the measured quantiles. A
run of many items is simulated with fewer and scaled up.

Known limitation: it knows nothing of what the workers share except the CPUs (a database, a rate limit, the interpreter
lock of threads that compute), and it predicts the steady part of a run, not its start. With ``shards`` it adds what the
reported run took for its start and end, and does not count on shards that help each other.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from airflow_parallel_provider.checks import check_seconds, check_whole
from airflow_parallel_provider.engine.resources.cpus import usable_cpus
from airflow_parallel_provider.errors import PlanError

if TYPE_CHECKING:
    from airflow_parallel_provider.report import RunReport, StageReport

MOST_TOKENS = 3000
"""Items simulated; a longer run is scaled from them."""

_EXACT = 0.01
"""A share of the time, rounded to 0.0001, that is exact enough to divide by."""

_SEED = 20_130_101  # the same prediction every time


@dataclass(frozen=True, slots=True)
class Prediction:
    """The result of a simulation."""

    seconds: float
    """Duration of the whole run, or of all shards."""
    bottleneck: str
    """The stage whose workers are busiest."""
    busy: dict[str, float]
    """Share of its workers' time each stage is busy."""


@dataclass(slots=True)
class _Line:
    """One stage of the simulated line."""

    name: str
    workers: int
    room: int
    quantiles: Sequence[float]
    scale: float
    waiting: int = 0
    free: int = 0
    blocked: int = 0
    busy: float = 0.0

    def draw(self, dice: random.Random) -> float:
        """One service time, seconds: a point on the measured distribution."""
        at = dice.random() * (len(self.quantiles) - 1)
        low = int(at)
        high = min(low + 1, len(self.quantiles) - 1)
        value = self.quantiles[low] + (at - low) * (self.quantiles[high] - self.quantiles[low])
        return value / 1000 * self.scale


def simulate(
    report: RunReport,
    *,
    workers: Mapping[str, int] | None = None,
    machines: int = 1,
    cpus: int | None = None,
    shards: int | None = None,
    shard_start: float = 0.0,
    rereads: bool = False,
) -> Prediction:
    """Predict the duration of the reported run with other numbers of workers, or as one load of several shards.

    :param workers: number of workers by stage name; stages that are left out keep theirs.
    :param machines: the items are spread over so many machines of the same size. With ``shards``: so many shards run at
        a time, each on CPUs of its own.
    :param cpus: CPUs of one machine; default: those of this task.
    :param shards: the load is written by so many shards, each with every n-th chunk. The report must be of a run
        without shards, or of a whole load; the prediction goes from the start of the first shard to the end of the
        last one, what a run takes for its start and its end counted for each shard. None: one run, its steady part.
    :param shard_start: seconds until a shard begins, for what starts it: 2 for a task of Airflow.
    :param rereads: each shard reads the whole source, as of functions, generators and lines; False: each jumps to its
        own chunks, as in lists, whole files and ``SqlSource``.
    :raises PlanError: for an unknown stage, a number below 1, or a report without measured calls.

    What shards share (the database, a rate limit, their CPUs if several are on one machine) is taken to be without
    limit; ``docs/machines.md`` says what breaks first.
    """
    wanted = dict(workers or {})
    known = {stage.name for stage in report.stages}
    for name, count in wanted.items():
        if name not in known:
            raise PlanError("simulate(workers)", name, f"no such stage; the report has {', '.join(sorted(known))}")
        check_whole(f"simulate(workers[{name!r}])", count)
    check_whole("simulate(machines)", machines)
    stages = [stage for stage in report.stages if stage.calls]
    if not stages:
        raise PlanError("simulate(report)", report.state, "the report has no measured calls to simulate from")

    def steady(items: float, counts: Mapping[str, int] = wanted) -> Prediction:
        count = max(1, round(items))
        tokens = min(count, MOST_TOKENS)
        lines = _lines(stages, counts, tokens, report, cpus or usable_cpus())
        seconds, scale = _Simulation(lines, tokens).run(), count / tokens
        busy = {line.name: line.busy / max(1e-12, seconds * line.workers) for line in lines}
        return Prediction(seconds * scale, max(busy, key=lambda name: busy[name]), busy)

    if shards is None:
        return steady((report.items_read - report.items_skipped) // machines)
    check_whole("simulate(shards)", shards)
    check_seconds("simulate(shard_start)", shard_start)
    return _over_shards(report, steady, machines, shards, shard_start, rereads=rereads)


def _over_shards(
    report: RunReport,
    steady: Callable[..., Prediction],
    machines: int,
    shards: int,
    shard_start: float,
    *,
    rereads: bool,
) -> Prediction:
    """So many shards, of which as many run at a time as there are machines; a free one takes the next in line."""
    items = max(1, report.items_read - report.items_skipped)
    chunks = max(1, report.chunks_committed)
    whole = steady(items, {})
    # What the simulation does not know (waits for a commit, for a processor) takes its share of a shard, too.
    simulated = max(whole.seconds, report.sink_busy_seconds, report.source_busy_seconds)
    working = max(simulated, min(report.seconds, _seconds_with_workers(report)))
    fixed, stretch = max(0.0, report.seconds - working), working / max(1e-12, simulated)

    def shard(own: int) -> Prediction:
        share = own / chunks
        found = steady(items * share)
        reading = report.source_busy_seconds * (1.0 if rereads else share)
        seconds = max(found.seconds, report.sink_busy_seconds * share, reading)
        return replace(found, seconds=shard_start + fixed + stretch * seconds)

    most, least, extra = -(-chunks // shards), chunks // shards, chunks % shards
    largest = shard(most)
    smallest = shard(least) if least else replace(whole, seconds=shard_start + fixed)
    free = [0.0] * min(machines, shards)
    for number in range(shards):
        heapq.heappush(free, heapq.heappop(free) + (largest if number < extra else smallest).seconds)
    return replace(largest, seconds=max(free))


def _seconds_with_workers(report: RunReport) -> float:
    """Seconds of the reported run from the start of its workers on."""
    busy = [
        (report.sink_busy_fraction, report.sink_busy_seconds),
        (report.source_busy_fraction, report.source_busy_seconds),
    ]
    fraction, seconds = max(busy)
    if fraction >= _EXACT:
        return seconds / fraction
    times = [
        (each.busy_seconds + each.starved_seconds + each.blocked_seconds) / max(1, each.workers)
        for each in report.stages
    ]
    return max(times, default=0.0)


def _lines(
    stages: Sequence[StageReport], wanted: Mapping[str, int], tokens: int, report: RunReport, cpus: int
) -> list[_Line]:
    counts = {stage.name: wanted.get(stage.name, max(1, stage.workers)) for stage in stages}
    processes = sum(counts[stage.name] for stage in stages if stage.kind == "process")
    measured = sum(stage.workers for stage in stages if stage.kind == "process")
    read = max(1, report.items_read - report.items_skipped)
    lines = []
    for stage in stages:
        # A token stands for one item of the source: its share of the stage's calls, for any batch size.
        scale = stage.calls / read
        if stage.kind == "process":  # more processes than CPUs take turns
            scale *= max(1.0, processes / cpus) / max(1.0, measured / cpus)
        mean = stage.busy_seconds * 1000 / stage.calls
        shape = stage.service_ms or [mean]
        average = (sum(shape) - (shape[0] + shape[-1]) / 2) / (len(shape) - 1) if len(shape) > 1 else shape[0]
        scale *= mean / average if average else 1.0
        room = max(counts[stage.name], stage.queue_size)
        lines.append(_Line(stage.name, counts[stage.name], min(room, tokens), shape, scale, free=counts[stage.name]))
    return lines


class _Simulation:
    """The simulated line, event by event."""

    def __init__(self, lines: list[_Line], tokens: int) -> None:
        self._lines = lines
        self._left = tokens
        self._now = 0.0
        self._events: list[tuple[float, int, int]] = []  # end of a service: time, tie breaker, stage
        self._dice = random.Random(_SEED)  # noqa: S311 - a simulation, not a secret
        self._number = 0

    def run(self) -> float:
        """Move all tokens through the line; return the time when the last one leaves."""
        while True:
            moved = True
            while moved:
                moved = False
                for at in range(len(self._lines) - 1, -1, -1):
                    moved = self._move(at) or moved
            if not self._events:
                return self._now
            self._now, _, at = heapq.heappop(self._events)
            self._lines[at].blocked += 1  # done; it keeps its worker until the next stage has room

    def _move(self, at: int) -> bool:
        """Pass on finished items of a stage and begin the next ones; return whether anything moved."""
        line, last = self._lines[at], at + 1 == len(self._lines)
        passing = line.blocked if last else min(line.blocked, self._lines[at + 1].room - self._lines[at + 1].waiting)
        line.blocked -= passing
        line.free += passing
        if not last:
            self._lines[at + 1].waiting += passing
        if at == 0:
            entering = min(self._left, line.room - line.waiting)
            line.waiting += entering
            self._left -= entering
        beginning = min(line.free, line.waiting)
        for _ in range(beginning):
            service = line.draw(self._dice)
            line.busy += service
            self._number += 1
            heapq.heappush(self._events, (self._now + service, self._number, at))
        line.free -= beginning
        line.waiting -= beginning
        return bool(passing or beginning)
