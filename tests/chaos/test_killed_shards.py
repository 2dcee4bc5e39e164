"""Shards of one load, killed at any moment: nothing lost, nothing twice, one swap. A short form, and a long one.

The long form runs with ``make chaos``: eight shards as processes, ``PARALLEL_CHAOS_KILLS`` (200) kills for each way of
writing and each database. A shard is killed at a named point of a commit, or some time after its start; the plan and
the end of the load are killed, too, and now and then a round has another number of shards.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from airflow_parallel_provider import Pipeline, SinkTable, Stage
from tests.chaos.campaign import POINTS
from tests.chaos.test_campaign import asked_for
from tests.support.children import KILLED, Child
from tests.support.databases import TestDatabase

pytestmark = pytest.mark.airflow

SIZE = 5
OPTIONS: dict[str, dict[str, Any]] = {
    "append": {},
    "merge": {"write_disposition": "merge", "primary_key": "id", "newest": "value"},
    "replace": {"write_disposition": "replace"},
}


class ShardedCampaign:
    """Loads into tables of their own, until so many processes were killed."""

    def __init__(self, database: TestDatabase, how: str, seed: int, *, shards: int, chunks: int, life: float) -> None:
        self.database, self.how, self.shards, self.chunks, self.life = database, how, shards, chunks, life
        self.draw = random.Random(seed)
        self.kills: Counter[str] = Counter()
        self.loads = 0

    def run(self, kills: int) -> None:
        """Go on until so many were killed and the last load is complete."""
        while sum(self.kills.values()) < kills:
            self._load()
            self.loads += 1

    def pipeline(self) -> Pipeline:
        """The load that is going on."""
        options = {"columns": {"id": int, "value": int}, "aggregates": {"n": "count", "sum": "sum(value)"}}
        table = f"sharded_{self.how}_{self.loads}"
        sink = SinkTable(table, conn_id="w", schema=self.database.schema, **options, **OPTIONS[self.how])
        return Pipeline(range(self.chunks * SIZE), [Stage(row)], sink, chunk_size=SIZE, load_key="nightly")

    def _load(self) -> None:
        table = f"sharded_{self.how}_{self.loads}"
        if self.how == "replace":  # what is there before stays until the swap, and then is gone
            before = self.pipeline()
            before.load_key, before.source.origin = "before", range(-10, 0)  # type: ignore[attr-defined]
            before.run()
        self._until_done([lambda: self.pipeline().begin()])
        while True:
            of = self.draw.choice([self.shards, self.shards, self.shards, self.shards - 1])
            if self._round([self._shard(index, of) for index in range(of)]):
                break
            if self.how == "replace":
                assert self._ids(table) == list(range(-10, 0))
        self._until_done([lambda: self.pipeline().finish()])
        report = self.pipeline().finish()
        items = self.chunks * SIZE
        assert self._ids(table) == list(range(items))
        assert (report.rows_committed, report.items_read, report.chunks_committed) == (items, items, self.chunks)
        assert report.aggregates == {"n": items, "sum": sum(number % 7 for number in range(items))}

    def _shard(self, index: int, of: int) -> Callable[[], object]:
        return lambda: self.pipeline().run(shard=(index, of))

    def _ids(self, table: str) -> list[Any]:
        return [each for (each,) in self.database.rows(table, columns=self.database.quote("id"))]

    def _until_done(self, acts: list[Callable[[], object]]) -> None:
        while not self._round(acts):
            pass

    def _round(self, acts: list[Callable[[], object]]) -> bool:
        """Each in a process, all at once, some killed; return whether all have ended well."""
        deaths: list[tuple[float, Child]] = []
        children: list[tuple[Child, str]] = []
        for act in acts:
            fate = self.draw.choice(["point", "moment", "none"])
            point, visit = self.draw.choice(POINTS), self.draw.randint(1, 4)
            child = Child(self._living(act, point if fate == "point" else None, visit))
            children.append((child, point if fate == "point" else fate))
            if fate == "moment":
                deaths.append((time.monotonic() + self.draw.uniform(0.05, self.life), child))
        for moment, child in sorted(deaths, key=lambda each: each[0]):
            time.sleep(max(0.0, moment - time.monotonic()))
            child.kill()
        codes = [child.wait() for child, _ in children]
        for (_, fate), code in zip(children, codes, strict=True):
            assert code in (0, KILLED), "a shard failed by itself, see above"
            self.kills[fate] += code == KILLED
        return not any(codes)

    def _living(self, act: Callable[[], object], point: str | None, visit: int) -> Callable[[], object]:
        def live() -> None:
            from airflow_parallel_provider.sinks.load.table_loader import TableLoader

            seen = 0

            def reached(_: TableLoader, here: str) -> None:
                nonlocal seen
                seen += here == point
                if here == point and seen == visit:
                    os.kill(os.getpid(), signal.SIGKILL)

            loader_class: Any = TableLoader  # of this process only
            loader_class.reached = reached
            act()

        return live


def row(number: int) -> dict[str, int]:
    return {"id": number, "value": number % 7}


@pytest.fixture
def reachable(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> TestDatabase:
    monkeypatch.setattr("airflow_parallel_provider.sql.database.get_connection", lambda *_: database.connection)
    return database


@pytest.mark.parametrize("how", ["replace"])
@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_short(reachable: TestDatabase, how: str) -> None:
    campaign = ShardedCampaign(reachable, how, 2013, shards=3, chunks=12, life=0.4)
    campaign.run(3)

    assert sum(campaign.kills.values()) >= 3


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("how", OPTIONS)
@pytest.mark.parametrize("database", ["postgres", "mariadb"], indirect=True)
def test_long(reachable: TestDatabase, how: str, capsys: pytest.CaptureFixture[str]) -> None:
    kills, seed = asked_for(default_kills=200)
    campaign = ShardedCampaign(reachable, how, seed, shards=8, chunks=60, life=1.0)
    campaign.run(kills)

    with capsys.disabled():
        counted = ", ".join(f"{count} {fate}" for fate, count in sorted(campaign.kills.items()))
        print(f"\n8 shards, {reachable.name}, {how}: {counted}; {campaign.loads} loads", flush=True)
