"""Workloads: their contestants, their metrics, and the targets of the engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

Params = dict[str, Any]
Measured = dict[str, Any]
Medians = dict[str, dict[str, float]]
"""Contestant to metric to median; a contestant without a single good run is absent."""

OURS = "this engine"


@dataclass
class Contestant:
    """One way of doing the work."""

    name: str
    run: Callable[[Params], Measured]
    config: str
    """Description of its configuration."""
    limit: float
    """Seconds after which it counts as hung."""


@dataclass
class Target:
    """A goal, and how it is computed from the medians."""

    text: str
    goal: float
    value: Callable[[Medians], float | None]
    unit: str = ""
    at_most: bool = False
    """Whether smaller is better."""
    of: str = OURS
    """The contestant whose metric is proportional to the value, so that the plot can show the goal."""

    def met(self, value: float) -> bool:
        """Whether the value reaches the goal."""
        return value <= self.goal if self.at_most else value >= self.goal


@dataclass
class Workload:
    """One piece of work, done by all contestants.

    :param metric: the metric that ranks the contestants.
    :param best: "low" or "high".
    :param shows: further metrics of the table.
    :param imports: module that the process imports before the measurement, as in an Airflow task.
    :param database: whether the workload needs an Airflow database.
    :param rounds: runs of each contestant in a full run, unless an option sets another number.
    """

    name: str
    title: str
    what: str
    timed: str
    metric: str
    unit: str
    best: str
    full: Params
    quick: Params
    shows: tuple[str, ...] = ()
    imports: str = ""
    database: bool = False
    rounds: int = 5
    limit: float = 60.0
    reference: str = OURS
    contestants: dict[str, Contestant] = field(default_factory=dict)
    targets: list[Target] = field(default_factory=list)

    def contestant(
        self, name: str, config: str, *, limit: float | None = None
    ) -> Callable[[Callable[[Params], Measured]], Callable[[Params], Measured]]:
        """Add a function as a contestant. It gets the parameters and returns its measurements."""

        def enter(run: Callable[[Params], Measured]) -> Callable[[Params], Measured]:
            self.contestants[name] = Contestant(name, run, config, limit or self.limit)
            return run

        return enter

    def target(
        self, text: str, goal: float, *, unit: str = "", at_most: bool = False, of: str = OURS
    ) -> Callable[..., Any]:
        """Add a function from medians to a value as a target."""

        def enter(value: Callable[[Medians], float | None]) -> Callable[[Medians], float | None]:
            self.targets.append(Target(text, goal, value, unit, at_most, of))
            return value

        return enter


class Items:
    """An iterable that records the request for its first item, and costs nothing after that."""

    def __init__(self, laps: Laps, items: Iterable[Any]) -> None:
        self.laps = laps
        self.items = items

    def __iter__(self) -> Iterator[Any]:
        self.laps.go()
        return iter(self.items)


class Laps:
    """Wall times of one contestant.

    *total* runs from the construction (libraries are imported, no worker exists) to :meth:`over` (all workers ended).
    *steady* runs from :meth:`go` (the request for the source's first item; pools that can be started beforehand have
    been started and have returned a result) to :meth:`done` (the parent has the last result).
    """

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._go: float | None = None
        self._done: float | None = None

    def go(self) -> None:
        """Start the steady time. Only the first call counts."""
        if self._go is None:
            self._go = time.perf_counter()

    def source(self, items: Iterable[Any]) -> Items:
        """The items; the request for the first one starts the steady time."""
        return Items(self, items)

    def done(self) -> None:
        """End the steady time. The last call counts."""
        self._done = time.perf_counter()

    def over(self, **more: Any) -> Measured:
        """The measurements, when all workers have ended."""
        total = time.perf_counter() - self._began
        assert self._go is not None
        assert self._done is not None
        return {"steady": self._done - self._go, "total": total, **more}


def ratio(medians: Medians, upper: str, lower: str, metric: str) -> float | None:
    """``upper / lower`` of one metric; None when one of them has no good run."""
    if upper not in medians or lower not in medians:
        return None
    return medians[upper][metric] / medians[lower][metric]


def best_peer(medians: Medians, metric: str, best: str, ours: Iterable[str]) -> tuple[str, float] | None:
    """The best contestant that is not one of ours."""
    mine = set(ours)
    peers = [(name, values[metric]) for name, values in medians.items() if name not in mine and metric in values]
    if not peers:
        return None
    return (min if best == "low" else max)(peers, key=lambda pair: pair[1])


def check(condition: bool, text: str) -> None:
    """Check the results: a contestant that loses or changes results has failed, however fast it was."""
    if not condition:
        raise AssertionError(f"wrong results: {text}")
