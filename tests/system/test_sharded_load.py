"""Sharded pipelines on a real scheduler: one load, four task instances, one swap."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from dev.airflow_client import poll

if TYPE_CHECKING:
    from tests.system.conftest import Run, Site

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

TASKS = ["load.plan", "load.shard", "load.finish", "told"]
SQUARES = [(number, number * number) for number in range(400)]


def ledger(site: Site, load_key: str) -> list[int]:
    """The chunks of a load that are in."""
    if not site.database.exists() or not site.query("SELECT 1 FROM sqlite_master WHERE name='airflow_parallel_ledger'"):
        return []
    loads = "SELECT load_id FROM airflow_parallel_ledger__loads WHERE load_key = '{}'"
    chunks = f"SELECT chunk_id FROM airflow_parallel_ledger WHERE load_id IN ({loads.format(load_key)})"
    return [int(chunk) for (chunk,) in site.query(chunks)]


def task(run: Run, task_id: str, index: int = -1) -> dict[str, Any]:
    return run.site.client.task(run.dag_id, run.run_id, task_id, index)


def summary(run: Run, task_id: str, index: int = -1) -> Any:
    return run.site.client.xcom(run.dag_id, run.run_id, task_id, "return_value", index)


def test_killed_shard_resumes_and_the_table_is_replaced_once(site: Site) -> None:
    client = site.client
    run = site.start("sharded_replace", table="sharded_killed")
    client.wait_for_task(run.dag_id, run.run_id, "load.plan", ("success",), timeout=180)
    entries = summary(run, "load.plan")
    assert [(each["shard"], each["of"]) for each in entries] == [(0, 4), (1, 4), (2, 4), (3, 4)]
    # The gate lets about half of the chunks of each shard through.
    key = entries[0]["load_key"]
    poll("two chunks of a shard", lambda: len([each for each in ledger(site, key) if each % 4 == 1]) >= 2, timeout=240)
    pid = client.task(run.dag_id, run.run_id, "load.shard", 1)["pid"]

    os.kill(pid, signal.SIGKILL)
    site.gate.touch()

    assert client.wait_for_run(run.dag_id, run.run_id, timeout=300) == "success"
    assert site.rows("sharded_killed") == SQUARES
    shards = [summary(run, "load.shard", index) for index in range(4)]
    assert task(run, "load.shard", 1)["try_number"] == 2
    assert shards[1]["chunks_skipped"] >= 2
    # Others may have taken chunks of the one that was killed.
    assert all(shard["items_committed"] + shard["items_skipped"] >= 100 for shard in shards)
    whole = summary(run, "load.finish")
    assert (whole["rows_committed"], whole["chunks_committed"], whole["aggregates"]) == (400, 40, {"total": 79800})
    assert summary(run, "told") == 400
    assert whole["load_key"] == shards[0]["load_key"] == entries[0]["load_key"]

    # A Clear of the shards does nothing new, one of the group starts over.
    client.clear(run.dag_id, run.run_id, ["load.shard", "load.finish"])
    assert client.wait_for_run(run.dag_id, run.run_id, timeout=300) == "success"
    assert [summary(run, "load.shard", index)["items_committed"] for index in range(4)] == [0] * 4
    assert site.rows("sharded_killed") == SQUARES

    client.clear(run.dag_id, run.run_id, TASKS)
    assert client.wait_for_run(run.dag_id, run.run_id, timeout=300) == "success"
    assert sum(summary(run, "load.shard", index)["items_committed"] for index in range(4)) == 400
    assert summary(run, "load.finish")["load_key"] != whole["load_key"]
    assert site.rows("sharded_killed") == SQUARES
