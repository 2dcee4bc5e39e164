"""What must hold when a host is lost in the middle of a sharded load, whatever executor has sent the shards there."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from dev.airflow_client import poll
from tests.system.hosts.hosts_airflow import HostsRun, HostsSite, lost

if TYPE_CHECKING:
    from collections.abc import Callable

# Those of dags/hosts_pipelines.py.
ITEMS, CHUNK, SHARDS = 960, 10, 8
NUMBERS = [(number, number * number) for number in range(ITEMS)]


def both_at_work(site: HostsSite, table: str) -> tuple[HostsRun, list[int]]:
    """A run whose shards wait at the gate, each with chunks that are in, on both hosts; and those of ``h1``."""
    site.gate.unlink(missing_ok=True)
    site.start_workers(h1=2, h2=4)
    run = HostsRun(site, "hosts_lost", table)

    def both() -> bool:
        at_work = run.at_work()
        return (at_work.count("h1"), at_work.count("h2")) == (2, 4)

    poll("shards on both hosts", both, timeout=480, every=0.5)
    found = [each["map_index"] for each in run.shards() if each["hostname"] == "h1"]
    key = run.load_key()
    poll("chunks of theirs", lambda: all(site.chunks(key, shard) for shard in found), timeout=240, every=0.5)
    return run, found


def check_whole(run: HostsRun, on_h1: list[int]) -> None:
    """All rows are there, each once; what ``h1`` had committed was kept, and the rest was made on ``h2``."""
    rows = run.rows()
    assert [row[:2] for row in rows] == NUMBERS
    whole = run.summary()
    assert (whole["rows_committed"], whole["chunks_committed"]) == (ITEMS, ITEMS // CHUNK)
    assert whole["aggregates"] == {"total": sum(range(ITEMS))}
    assert {"h1", "h2"} == {host for _, _, host in rows}
    for shard in on_h1:
        again = run.shards()[shard]
        assert (again["state"], again["hostname"], again["try_number"] >= 2) == ("success", "h2", True)
        assert run.summary("load.shard", shard)["chunks_skipped"] > 0


def lose(site: HostsSite, table: str, how: Callable[[], object]) -> tuple[HostsRun, list[int], float]:
    """Lose ``h1`` in the middle of a load; return the run, its shards, and the seconds until Airflow missed them."""
    run, on_h1 = both_at_work(site, table)
    how()
    began = time.monotonic()
    poll("Airflow to miss the shards", lambda: lost(run, on_h1), timeout=240, every=0.5)
    return run, on_h1, time.monotonic() - began
