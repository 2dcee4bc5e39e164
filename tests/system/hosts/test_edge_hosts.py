"""The same load over two hosts with workers of the Edge executor: ``make test-edge``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.system.hosts.lost_host import check_whole, lose

if TYPE_CHECKING:
    from tests.system.hosts.hosts_airflow import HostsSite

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(1500)]


def test_edge_host_that_dies(edge_hosts: HostsSite) -> None:
    run, on_h1, missed = lose(edge_hosts, "killed", edge_hosts.network.hosts["h1"].kill)
    edge_hosts.gate.touch()
    opened = time.monotonic()

    assert run.ended() == "success"
    check_whole(run, on_h1)
    print(f"\nkilled: missed after {missed:.0f} s, the rest took {time.monotonic() - opened:.0f} s")
