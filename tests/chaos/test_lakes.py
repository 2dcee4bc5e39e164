"""Loads into a lake table that are killed at named points and at random moments, one to three attempts at once.

One attempt after the other is killed at each point in ``tests/sinks/lakes``. This runs with ``make chaos``:
``PARALLEL_CHAOS_KILLS`` (200) and ``PARALLEL_CHAOS_SEED`` (2013) change it.
After each load, be it appended, replacing or merged, the table must be what an undisturbed run gives, with one version
for each load. On a local disk: the conditional PUT of the S3 server of the tests is not atomic.
"""

from __future__ import annotations

import random
import signal
import subprocess
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.test_campaign import asked_for
from tests.support.lakes import KINDS, POINTS, ROWS, Lake, ended

pytestmark = pytest.mark.airflow


HOW = ("append", "replace", "merge")


def campaign(lake: Lake, seed: int, kills: int) -> Counter[str]:
    """Load after load, appended, replacing and merged in turns, until so many attempts were killed."""
    draw, done, loads, base = random.Random(seed), Counter[str](), 0, 0
    expected: dict[int, dict[str, Any]] = {}
    while sum(done[point] for point in (*POINTS, "moment")) < kills:
        how = draw.choice(HOW)
        base = base if how == "merge" else 1000 * loads
        rows = rows_of(how, base, loads)
        options: dict[str, Any] = {"key": f"load {loads}", "write_disposition": how, "rows": rows}
        if how == "merge":
            options["primary_key"] = "id"
        while not round_of(lake, draw, done, options):
            assert not lake.exists or lake.version() in (loads - 1, loads)
        loads += 1
        expected = {} if how == "replace" else expected
        expected.update((row["id"], row) for row in rows)
        assert lake.rows() == sorted(expected.values(), key=lambda row: row["id"])
        assert lake.version() == loads - 1
        done["loads"] = loads
    return done


def rows_of(how: str, base: int, load: int) -> list[dict[str, Any]]:
    """Those of one load. A merge has some keys of the load before and some new ones, and many of them in two chunks."""
    ids = [base + (50 + number % 60 if how == "merge" else number) for number in range(ROWS)]
    return [{"id": each, "name": f"load {load}, row {number}"} for number, each in enumerate(ids)]


def round_of(lake: Lake, draw: random.Random, done: Counter[str], options: dict[str, Any]) -> bool:
    """One to three attempts at once, each with a fate of its own; whether one came through."""
    points = [draw.choice((*POINTS, "moment", "")) for _ in range(draw.choice((1, 2, 3)))]
    begun = [lake.started("" if point == "moment" else point, draw.randint(1, 3), **options) for point in points]
    for point, process in zip(points, begun, strict=True):
        if point == "moment":
            with suppress(subprocess.TimeoutExpired):
                process.wait(draw.uniform(1.0, 4.0))
            process.kill()
    codes = [ended(process) for process in begun]
    assert set(codes) <= {0, -signal.SIGKILL}
    done["attempts"] += len(codes)
    for point, code in zip(points, codes, strict=True):
        done[point] += code == -signal.SIGKILL
        done[f"killed in {options['write_disposition']}"] += code == -signal.SIGKILL
    return 0 in codes


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
def test_long(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip({"delta": "deltalake", "iceberg": "pyiceberg"}[kind])
    kills, seed = asked_for(default_kills=200)
    done = campaign(Lake(kind, tmp_path / "table"), seed, kills)

    with capsys.disabled():
        print(f"\n{kind}, seed {seed}: {dict(done)}", flush=True)
    assert all(done[point] for point in POINTS)
    assert all(done[f"killed in {how}"] for how in HOW)
