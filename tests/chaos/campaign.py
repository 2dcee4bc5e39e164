"""Attempts at loads that are killed, cut off and left without a server, until enough of them have died.

A *load* is one table. A *round* is one to three attempts at it at the same time, each with a fate of its own, drawn
from a seeded generator; a load ends with the first attempt that succeeds. After each round the ledger is compared with
the table; at the end of a load both are compared row by row with what they must be. Which statement a SIGKILL "at a
random moment" meets depends on the machine; everything else follows from the seed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from airflow_parallel_provider.errors import SinkError
from tests.chaos.proxy import CUTS, CuttingProxy, MysqlMessages, PostgresMessages
from tests.chaos.servers import Server
from tests.support.children import KILLED, Child, attempt, everything, killing_hook
from tests.support.databases import TestDatabase

POINTS = ("after_claim", "after_rows", "before_commit", "after_commit")
FAILED = 3
"""Exit code of an attempt that gave up with a SinkError, as a task does that Airflow will run again."""
LEDGER = "airflow_parallel_ledger"
_MESSAGES = {"postgres": PostgresMessages, "mariadb": MysqlMessages}


@dataclasses.dataclass(frozen=True)
class Fate:
    """What becomes of one attempt."""

    kind: str
    """``point``, ``moment``, ``cut`` or ``none``."""
    point: str = ""
    """A named point of a commit; of a cut: before, during or after."""
    number: int = 0
    """At the nth visit, or the nth COMMIT."""
    seconds: float = 0.0
    """For ``moment``: how long it lives."""


@dataclasses.dataclass
class Figures:
    """What a campaign has done."""

    backend: str
    seed: int
    kills: Counter[str] = dataclasses.field(default_factory=Counter)
    attempts: int = 0
    overlapping: int = 0
    """Attempts that had company."""
    gave_up: int = 0
    """Attempts that ended with a SinkError."""
    cuts: int = 0
    restarts: int = 0
    loads: int = 0
    chunks: int = 0
    rows: int = 0
    looks: int = 0
    """How often a reader has looked at the table meanwhile."""
    seconds: float = 0.0

    def line(self) -> str:
        """A row of the table in docs/reliability.md."""
        points = ", ".join(f"{self.kills[point]} {point}" for point in sorted(self.kills))
        total = sum(self.kills.values())
        cells = [
            self.backend, self.seed, f"{total} ({points})", self.attempts, self.overlapping, self.cuts, self.restarts,
            self.gave_up, self.loads, self.chunks, self.rows, f"{self.seconds:.0f} s",
        ]  # fmt: skip
        return "| " + " | ".join(map(str, cells)) + " |"


class Campaign:
    """Loads into one database until so many attempts were killed, each into a table of its own.

    :param server: a server that may be crashed; None: it is left alone.
    :param life: seconds an attempt that dies at a random moment lives at most.
    """

    points: tuple[str, ...] = POINTS
    """Where attempts are killed."""
    kinds: tuple[str, ...] = ("point", "point", "moment", "moment", "none")
    """What happens to an attempt, apart from cuts where there is a connection to cut."""

    def __init__(
        self,
        database: TestDatabase,
        seed: int,
        *,
        server: Server | None = None,
        chunks: int = 12,
        size: int = 40,
        life: float = 0.4,
    ) -> None:
        self.database, self.server = database, server
        self.chunks, self.size, self.life = chunks, size, life
        self.draw = random.Random(seed)
        self.figures = Figures(database.name, seed)
        self._told, self._tell = os.pipe()
        os.set_blocking(self._told, False)
        handle, self._last_words = tempfile.mkstemp(prefix="chaos-", suffix=".err")
        os.close(handle)

    def run(self, kills: int) -> Figures:
        """Go on until so many attempts were killed and the last load is complete."""
        for module in ("airflow_parallel_provider.hooks.sink_table", *self.database.modules):
            importlib.import_module(module)  # or each child would die importing it
        began = time.monotonic()
        try:
            while sum(self.figures.kills.values()) < kills:
                self._load()
        finally:
            self.figures.seconds = time.monotonic() - began
            for end in (self._told, self._tell):
                os.close(end)
            Path(self._last_words).unlink()
        return self.figures

    @property
    def table(self) -> str:
        """Of the load that is going on."""
        return f"scores_{self.figures.loads}"

    @property
    def load_key(self) -> str:
        """Of the load that is going on."""
        return "nightly"

    def compare(self) -> None:
        """Half-way: what the ledger has is in the table, whole and once, and nothing else is.

        A server may still be at the last commit of a process that is dead, so the ledger is read before and after.
        """
        for _ in range(200):
            before = self.ledger()
            ids = self.ids(self.table)
            if before == self.ledger():
                break
        self.require_whole(ids, before)

    def require_complete(self) -> None:
        """At the end of a load: table and ledger are what they must be."""
        assert self.database.rows(self.table, "id, name") == everything(self.chunks, self.size)
        assert self.ledger() == self.all_chunks()

    def attempt(self, database: TestDatabase, number: int, cls: Any = None) -> None:
        """What one process does."""
        attempt(database, self.chunks, self.size, number, cls, table=self.table, lock_timeout=30)

    def _words(self) -> str:
        """What the last attempt that wrote something has written."""
        return Path(self._last_words).read_text(encoding="utf-8")

    def _load(self) -> None:
        number = 0
        while True:
            number += 1
            came_through = self._round(number, calm=number > 60)
            self.compare()
            if came_through:
                break
            assert number < 80, f"no attempt comes through\n{self._words()}"
        self.require_complete()
        self.figures.loads += 1
        self.figures.chunks += self.chunks
        self.figures.rows += self.chunks * self.size

    def _round(self, number: int, *, calm: bool) -> bool:
        fates = [Fate("none")] if calm else [self._fate() for _ in range(self.draw.choice((1, 1, 2, 3)))]
        crash_after = self._crash_after()
        children = [Child(self._life_of(fate, number)) for fate in fates]
        deaths = sorted(
            ((fate.seconds, child) for fate, child in zip(fates, children, strict=True) if fate.kind == "moment"),
            key=lambda death: death[0],
        )
        self._end_at(deaths, crash_after)
        codes = [child.wait() for child in children]
        assert set(codes) <= {0, KILLED, FAILED}, f"exit codes {codes} of {fates}\n{self._words()}"
        self._count(fates, codes)
        return 0 in codes

    def _fate(self) -> Fate:
        kinds = [*self.kinds]
        if self.database.name in _MESSAGES:
            kinds.append("cut")
        kind = self.draw.choice(kinds)
        visit = self.draw.randint(1, self.chunks)
        if kind == "point":
            point = self.draw.choice(self.points)
            once = point not in POINTS
            return Fate(kind, point, 1 if once else min(visit, self.draw.randint(1, self.chunks)))
        if kind == "moment":
            return Fate(kind, seconds=self.draw.uniform(0.0, self.life))
        if kind == "cut":
            return Fate(kind, self.draw.choice(CUTS), visit)
        return Fate(kind)

    def _crash_after(self) -> float | None:
        if self.server is None or self.draw.random() > 0.1:
            return None
        return self.draw.uniform(0.0, self.life)

    def _life_of(self, fate: Fate, number: int) -> Callable[[], object]:
        def live() -> None:
            sys.stderr = open(self._last_words, "a", buffering=1)  # noqa: PTH123, SIM115  # dies with the process
            try:
                if fate.kind == "cut":
                    upstream = self.database.upstream
                    with CuttingProxy(upstream, _MESSAGES[self.database.name]) as proxy:
                        proxy.cut_at(fate.number, fate.point)
                        try:
                            self.attempt(self.database.through(proxy.port), number)
                        finally:
                            os.write(self._tell, bytes(proxy.cuts))
                else:
                    cls = killing_hook(fate.number, fate.point) if fate.kind == "point" else None
                    self.attempt(self.database, number, cls)
            except SinkError as error:
                print(f"attempt {number} gave up: {error}", file=sys.stderr)
                os._exit(FAILED)

        return live

    def _end_at(self, deaths: list[tuple[float, Child]], crash_after: float | None) -> None:
        """Kill each of them when its time has come, and the server when its has."""
        began = time.monotonic()
        events: list[tuple[float, Callable[[], object]]] = [(at, child.kill) for at, child in deaths]
        if crash_after is not None:
            events.append((crash_after, self._restart))
        for at, act in sorted(events, key=lambda event: event[0]):
            time.sleep(max(0.0, began + at - time.monotonic()))
            act()

    def _restart(self) -> None:
        assert self.server is not None
        self.server.crash()
        self.server.start()
        self.figures.restarts += 1

    def _count(self, fates: list[Fate], codes: list[int]) -> None:
        figures = self.figures
        figures.attempts += len(fates)
        figures.overlapping += len(fates) if len(fates) > 1 else 0
        figures.gave_up += codes.count(FAILED)
        with contextlib.suppress(BlockingIOError):
            figures.cuts += len(os.read(self._told, len(fates)))
        for fate, code in zip(fates, codes, strict=True):
            if code == KILLED:
                figures.kills[fate.point or "moment"] += 1

    def ledger(self) -> dict[str, int]:
        """Chunk to rows, of the load that is going on; nothing as long as there is no ledger."""
        if not (self.database.exists(LEDGER) and self.database.exists(f"{LEDGER}__loads")):
            return {}
        loads, ledger = (self.database.place(name) for name in (f"{LEDGER}__loads", LEDGER))
        shown = f"{self.database.schema}.{self.table}" if self.database.schema else self.table
        sql = (
            f"SELECT c.chunk_id, c.rows_committed FROM {ledger} c JOIN {loads} l ON l.load_id = c.load_id "
            f"WHERE l.table_name = '{shown}' AND l.load_key = '{self.load_key}'"
        )
        return {chunk: int(rows) for chunk, rows in self.database.fetch(sql)}

    def all_chunks(self) -> dict[str, int]:
        """The ledger as it must be in the end."""
        return {f"{chunk:08d}": self.size for chunk in range(self.chunks)}

    def ids(self, table: str) -> list[int]:
        """What is in a table, nothing as long as there is none."""
        return [int(row[0]) for row in self.database.rows(table, "id")] if self.database.exists(table) else []

    def require_whole(self, ids: list[int], ledger: dict[str, int]) -> None:
        """What the ledger has is there, whole and once, and nothing else is."""
        assert len(ids) == len(set(ids)), "rows are in the table twice"
        found = Counter(f"{number // self.size:08d}" for number in ids)
        assert dict(found) == ledger, "ledger and table differ"
