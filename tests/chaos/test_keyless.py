"""The campaign on a ledger without keys, as on Snowflake and Redshift: lock, then look, at each level of isolation.

The long form runs with ``make chaos``. Attempts at one load overlap, are killed and cut off as in ``test_campaign.py``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.campaign import POINTS, Campaign
from tests.chaos.servers import private_database
from tests.chaos.test_campaign import LARGE, asked_for
from tests.support.databases import PostgresDatabase, TestDatabase
from tests.support.keyless import LEVELS, ledger_without_keys

pytestmark = pytest.mark.airflow


def keyless(database: TestDatabase, level: str) -> TestDatabase:
    """The same place, where the ledger has no keys and transactions have this isolation."""
    assert isinstance(database, PostgresDatabase)
    ledger_without_keys(database)
    return database.at_level(level)


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_short(database: TestDatabase) -> None:
    """The two stricter levels are in the long form, and without kills in ``tests/sinks/ledger/test_keys.py``."""
    figures = Campaign(keyless(database, "read committed"), seed=2013, chunks=8, size=20).run(8)

    assert sum(figures.kills.values()) >= 8
    assert figures.overlapping


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_harness_notices_a_sink_that_claims_without_looking(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the sink did before: an INSERT alone, which no key refuses."""
    from airflow_parallel_provider.sinks.ledger.chunks import ChunkLedger

    place = keyless(database, "read committed")
    monkeypatch.setattr(ChunkLedger, "prove_transactional", lambda *_: True)
    with pytest.raises(AssertionError, match=r"differ|twice|exit codes"):
        Campaign(place, seed=2013, chunks=8, size=20).run(50)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("level", LEVELS)
def test_long(level: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kills, seed = asked_for(default_kills=200)
    with private_database("postgres", tmp_path) as (database, server):
        figures = Campaign(keyless(database, level), seed, server=server, **LARGE).run(kills)

    figures.backend = f"postgres without keys, {level}"
    with capsys.disabled():
        print(f"\n{figures.line()}", flush=True)
    assert all(figures.kills[point] for point in (*POINTS, "moment"))
    assert figures.restarts
