"""Dead letters on a real scheduler: one DAG leaves them, another one replays them, and they are gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.system.conftest import Site

# The hook does the same in tests/sinks/test_replay.py, the operator in tests/operators; `make test-matrix` runs this.
pytestmark = [
    pytest.mark.system,
    pytest.mark.slow,
    pytest.mark.timeout(900),
]  # the first test also waits for Airflow to start

READINGS, DEAD_LETTERS = 300, 30
ALL_ROWS = [(number, number + 0.5) for number in range(READINGS)]
COUNTS = ("waiting", "replayed", "failed_again", "not_replayable", "rows", "rows_rejected")


def ran(site: Site, dag_id: str) -> Any:
    run = site.start(dag_id)
    assert site.client.wait_for_run(run.dag_id, run.run_id, timeout=400) == "success"
    return run.xcom()


def dead_letters(site: Site) -> list[tuple[Any, ...]]:
    """Position of each dead_letter, when it was resolved, and by which chunk of which replay."""
    return site.query("SELECT position, resolved_at, resolved_by FROM readings__dead_letters ORDER BY position")


def test_dead_letters_are_replayed_once(site: Site) -> None:
    loaded = ran(site, "leaves_dead_letters")
    assert (loaded["rows_committed"], loaded["items_dead_lettered"]) == (READINGS - DEAD_LETTERS, DEAD_LETTERS)
    assert dead_letters(site) == [(number, None, None) for number in range(0, READINGS, 10)]

    first = ran(site, "replays_dead_letters")
    assert {name: first[name] for name in COUNTS} == dict(
        zip(COUNTS, (DEAD_LETTERS, DEAD_LETTERS, 0, 0, DEAD_LETTERS, 0), strict=True)
    )
    assert site.rows("readings") == ALL_ROWS, "each exactly once"
    marks = dead_letters(site)
    assert [position for position, when, by in marks if when and by] == list(range(0, READINGS, 10))

    second = ran(site, "replays_dead_letters")
    assert second == {**dict.fromkeys(COUNTS, 0), "stages": {}}
    assert site.rows("readings") == ALL_ROWS
    assert dead_letters(site) == marks, "nothing was touched"
