"""What the soak has counted and measured, and the judgement: nothing missing, nothing twice, nothing grows."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

MIB = 1 << 20

WARM_UP = 0.25
"""Share of the samples that are not judged: caches fill, modules are imported, the allocator gets its share."""


@dataclass(frozen=True)
class Allowance:
    """By how much a figure may grow and still count as flat."""

    absolute: float
    share: float = 0.0


TASK_MEMORY = Allowance(24 * MIB)
"""Each attempt has an engine of its own, and SQLAlchemy keeps the last 128 dialects in caches of their class
(``functools.lru_cache`` on methods). That is 0.2 MiB each, and all that grows from load to load."""
SERVER_MEMORY = Allowance(4 * MIB, 0.05)
COUNT = Allowance(2)


@dataclass(frozen=True)
class Growth:
    """A figure near the beginning, after the warm-up, and at the end."""

    first: float
    last: float
    allowance: Allowance

    @property
    def flat(self) -> bool:
        """Whether it has not grown by more than is allowed."""
        return self.last <= self.first + max(self.allowance.absolute, self.allowance.share * self.first)


def growth(samples: Sequence[float], allowance: Allowance) -> Growth:
    """Compare the first third of the samples, after the warm-up, with the last one, by medians: single samples jump."""
    judged = list(samples[int(len(samples) * WARM_UP) :]) or [0.0]
    third = max(1, len(judged) // 3)
    return Growth(statistics.median(judged[:third]), statistics.median(judged[-third:]), allowance)


def growth_of_each(series: Sequence[Sequence[float]], allowance: Allowance) -> Growth:
    """The same for processes that come and go: the medians over all that lived long enough to be judged."""
    each = [growth(samples, allowance) for samples in series if len(samples) >= 8]
    if not each:
        return Growth(0.0, 0.0, allowance)
    first, grown = (
        statistics.median(values) for values in zip(*((g.first, g.last - g.first) for g in each), strict=True)
    )
    return Growth(first, first + grown, allowance)


@dataclass
class Sample:
    """The task process and its fork server at one moment."""

    task_memory: int
    descriptors: int
    threads: int
    server: int | None = None
    """Process id of the fork server; None: there is none."""
    server_memory: int = 0


@dataclass
class Checked:
    """What is in the database after a load."""

    items: int
    rows: int
    dead_letters: int
    missing: int
    twice: int
    wrong: int
    """Rows with a wrong value, or of items that no stage can do."""


@dataclass
class Figures:
    """Everything about one soak."""

    loads: list[Checked] = field(default_factory=list)
    kills: int = 0
    fork_server_kills: int = 0
    stops: int = 0
    retried: int = 0
    timed_out: int = 0
    workers_lost: int = 0
    seconds: float = 0.0
    between_loads: list[Sample] = field(default_factory=list)
    in_loads: list[Sample] = field(default_factory=list)

    def grown(self) -> dict[str, Growth]:
        """What must be flat, by name."""
        servers: dict[int, list[float]] = {}
        for sample in self.in_loads:
            if sample.server is not None:
                servers.setdefault(sample.server, []).append(sample.server_memory)
        return {
            "memory of the task process": growth([s.task_memory for s in self.between_loads], TASK_MEMORY),
            "memory of a fork server": growth_of_each(list(servers.values()), SERVER_MEMORY),
            "descriptors": growth([s.descriptors for s in self.between_loads], COUNT),
            "threads": growth([s.threads for s in self.between_loads], COUNT),
        }

    def problems(self) -> list[str]:
        """What must not be; empty: the soak is passed."""
        found = [
            f"load {number}: {count} {what}"
            for number, load in enumerate(self.loads, 1)
            for what, count in (("missing", load.missing), ("twice", load.twice), ("wrong", load.wrong))
            if count
        ]
        found += [
            f"{name} grew from {each.first:,.0f} to {each.last:,.0f}"
            for name, each in self.grown().items()
            if not each.flat
        ]
        if not self.loads:
            found.append("no load was completed")
        if not self.kills:
            found.append("no worker was killed")
        return found

    def table(self) -> str:
        """The figures as a table for docs/reliability.md."""
        total = {name: sum(getattr(load, name) for load in self.loads) for name in ("items", "rows", "dead_letters")}
        wrong = {name: sum(getattr(load, name) for load in self.loads) for name in ("missing", "twice", "wrong")}
        grown = self.grown()
        lines = [
            ("time", f"{self.seconds / 60:.1f} minutes"),
            ("loads, each stopped once and resumed", f"{len(self.loads)}"),
            ("items", f"{total['items']:,}"),
            ("rows in the table, dead letters", f"{total['rows']:,}, {total['dead_letters']:,}"),
            ("worker processes killed, fork servers killed", f"{self.kills:,}, {self.fork_server_kills:,}"),
            ("calls retried", f"{self.retried:,}"),
            ("calls timed out, calls lost with their worker", f"{self.timed_out:,}, {self.workers_lost:,}"),
            ("**missing, twice, wrong**", f"**{wrong['missing']}, {wrong['twice']}, {wrong['wrong']}**"),
        ]  # fmt: skip
        for name, each in grown.items():
            first, last = ((f"{v / MIB:.1f} MiB" if "memory" in name else f"{v:.0f}") for v in (each.first, each.last))
            lines.append((f"{name}, first and last third", f"{first}, {last}"))
        return "\n".join(["| figure | |", "|---|---|", *(f"| {name} | {value} |" for name, value in lines)])
