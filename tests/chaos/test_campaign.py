"""Nothing lost, nothing twice, ledger = table, whatever dies and whenever: a short form, and a long one.

The long form runs with ``make chaos`` on servers of its own, which it crashes as well; it prints the rows of the table
in docs/reliability.md. ``PARALLEL_CHAOS_KILLS`` (200) and ``PARALLEL_CHAOS_SEED`` (2013) change what it does.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.campaign import POINTS, Campaign, Figures
from tests.chaos.servers import MariadbServer, PostgresServer
from tests.sinks.databases import MariaDatabase, PostgresDatabase, SqliteDatabase, TestDatabase

pytestmark = pytest.mark.airflow
LARGE: dict[str, Any] = {"chunks": 30, "size": 200, "life": 1.0}


@pytest.mark.parametrize("database", ["sqlite", "postgres", "mariadb"], indirect=True)
def test_short(database: TestDatabase) -> None:
    figures = Campaign(database, seed=2013, chunks=8, size=20).run(12)

    assert sum(figures.kills.values()) >= 12
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
    from airflow_parallel_provider.sinks.ledger import Ledger

    monkeypatch.setattr(Ledger, "claim", fault(Ledger.claim))
    with pytest.raises(AssertionError, match=r"differ|twice"):
        Campaign(database, seed=2013, chunks=8, size=20).run(50)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("backend", ["sqlite", "postgres", "mariadb"])
def test_long(backend: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kills, seed = (
        int(os.environ.get(f"PARALLEL_CHAOS_{name}", default)) for name, default in (("KILLS", 200), ("SEED", 2013))
    )
    figures = long_form(backend, tmp_path, kills, seed)

    with capsys.disabled():
        print(f"\n{figures.line()}", flush=True)
    assert all(figures.kills[point] for point in (*POINTS, "moment"))
    assert figures.restarts or backend == "sqlite"


def long_form(backend: str, folder: Path, kills: int, seed: int) -> Figures:
    if backend == "sqlite":
        return Campaign(SqliteDatabase(folder / "warehouse.db"), seed, **LARGE).run(kills)
    kind = PostgresServer if backend == "postgres" else MariadbServer
    with kind() as server:
        database = PostgresDatabase(where=server.where) if backend == "postgres" else MariaDatabase(server.where)
        return Campaign(database, seed, server=server, **LARGE).run(kills)
