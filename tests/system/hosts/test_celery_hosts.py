"""One load over two hosts with Celery workers: one host dies, one is cut off, one is slow.

How long it took is printed (``pytest -s``).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.system.hosts.hosts_airflow import HEARTBEAT_TIMEOUT, HostsRun
from tests.system.hosts.lost_host import CHUNK, NUMBERS, SHARDS, check_whole, lose

if TYPE_CHECKING:
    from tests.system.hosts.hosts_airflow import HostsSite

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(1500)]

CUT = 60.0
"""Seconds without a link."""


def test_host_that_dies(celery_hosts: HostsSite) -> None:
    run, on_h1, missed = lose(celery_hosts, "killed", celery_hosts.network.hosts["h1"].kill)
    celery_hosts.gate.touch()
    opened = time.monotonic()

    assert run.ended() == "success"
    check_whole(run, on_h1)
    print(f"\nkilled: missed after {missed:.0f} s, the rest took {time.monotonic() - opened:.0f} s")
    assert missed >= HEARTBEAT_TIMEOUT - 5  # nobody but the scheduler notices


def test_host_that_is_cut_off_and_comes_back(celery_hosts: HostsSite) -> None:
    """Its shards run on beside their second tries."""
    host = celery_hosts.network.hosts["h1"]
    run, on_h1, missed = lose(celery_hosts, "cut", host.cut)
    mended = time.monotonic() - missed + CUT
    try:
        celery_hosts.gate.touch()
        opened = time.monotonic()
        while time.monotonic() < mended:
            time.sleep(0.5)
        before = celery_hosts.client.run_state(run.dag_id, run.run_id)
    finally:
        host.mend()

    assert run.ended() == "success"
    check_whole(run, on_h1)
    rest = time.monotonic() - opened
    print(f"\ncut off: missed after {missed:.0f} s, {before} when the link came back, the rest took up to {rest:.0f} s")


def test_slow_host_holds_nobody_up(celery_hosts: HostsSite) -> None:
    """Shards of the other host make chunks of those that run on the slow one."""
    took = {}
    for dag in ("hosts_one_slow_without_help", "hosts_one_slow"):
        celery_hosts.start_workers(h1=2, h2=2)
        run = HostsRun(celery_hosts, dag, dag)
        assert run.ended() == "success"
        rows = run.rows()
        assert [row[:2] for row in rows] == NUMBERS
        hosts = {shard["map_index"]: shard["hostname"] for shard in run.shards()}
        helped = [number for number, _, host in rows if host != hosts[number // CHUNK % SHARDS]]
        assert bool(helped) == (dag == "hosts_one_slow")
        took[dag] = f"{time.monotonic() - run.began:.0f} s, {len(helped)} items made elsewhere"
    print(f"\none of two hosts ten times slower: {took}")
