"""Nothing lost, nothing twice, ledger = table, whatever dies and whenever: a short form, and a long one.

The long form runs with ``make chaos`` on servers of its own, which it crashes as well; it prints the rows of the table
in docs/reliability.md. ``PARALLEL_CHAOS_KILLS`` (200) and ``PARALLEL_CHAOS_SEED`` (2013) change what it does.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.campaign import POINTS, Campaign
from tests.chaos.servers import FILES, private_database
from tests.support.databases import TestDatabase

pytestmark = pytest.mark.airflow
LARGE: dict[str, Any] = {"chunks": 30, "size": 200, "life": 1.0}


@pytest.mark.parametrize("database", ["sqlite", "postgres", "mariadb", "duckdb"], indirect=True)
def test_short(database: TestDatabase) -> None:
    figures = Campaign(database, seed=2013, chunks=8, size=20).run(8)

    assert sum(figures.kills.values()) >= 8
    assert figures.overlapping


def claim_commits_alone(claim: Any) -> Any:
    def alone(self: Any, connection: Any, *rest: Any) -> None:
        claim(self, connection, *rest)
        connection.connection.driver_connection.execute("COMMIT")
        connection.connection.driver_connection.execute("BEGIN IMMEDIATE")

    return alone


def nobody_claims(claim: Any) -> Any:
    return lambda *_: None


@pytest.mark.parametrize("fault", [claim_commits_alone, nobody_claims])
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_harness_notices_a_sink_that_loses_or_doubles(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch, fault: Any
) -> None:
    from airflow_parallel_provider.sinks.ledger.chunks import ChunkLedger

    monkeypatch.setattr(ChunkLedger, "claim", fault(ChunkLedger.claim))
    with pytest.raises(AssertionError, match=r"differ|twice"):
        Campaign(database, seed=2013, chunks=8, size=20).run(50)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("backend", ["sqlite", "postgres", "mariadb", "duckdb"])
def test_long(backend: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kills, seed = asked_for(default_kills=200)
    with private_database(backend, tmp_path) as (database, server):
        figures = Campaign(database, seed, server=server, **LARGE).run(kills)

    with capsys.disabled():
        print(f"\n{figures.line()}", flush=True)
    assert all(figures.kills[point] for point in (*POINTS, "moment"))
    assert figures.restarts or backend in FILES


def asked_for(*, default_kills: int) -> tuple[int, int]:
    """Kills and seed of a long form."""
    wanted = {"KILLS": default_kills, "SEED": 2013}
    kills, seed = (int(os.environ.get(f"PARALLEL_CHAOS_{name}", default)) for name, default in wanted.items())
    return kills, seed
