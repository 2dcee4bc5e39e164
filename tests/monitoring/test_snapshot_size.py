"""A snapshot fits into its limit, and says what it left out."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_parallel_provider.monitoring.history import History
from airflow_parallel_provider.monitoring.json_values import json_size
from airflow_parallel_provider.monitoring.snapshot_size import SIZE_LIMIT, fit
from tests.support.airflow_doubles import snapshot


def causes(count: int, text: int = 60) -> list[dict[str, Any]]:
    """Causes with 1,000, 999, ... items."""
    return [
        {
            "stage": "score",
            "cause": f"cause {number} ".ljust(text, "x"),
            "count": 1000 - number,
            "sample": {"item": "y" * text},
        }
        for number in range(count)
    ]


def workers(count: int) -> list[dict[str, Any]]:
    """Worker 7 has failed; the later ones worked longer."""
    names = ("calls", "starved_seconds", "blocked_seconds", "cpu_seconds", "peak_rss_bytes", "lost")
    return [
        {
            "stage": "score",
            "number": each,
            "failed": int(each == 7),
            "busy_seconds": each * 1.5,
            **dict.fromkeys(names, 123),
        }
        for each in range(count)
    ]


def history_of(value: dict[str, Any], seconds: int = 500) -> History:
    history = History()
    for second in range(seconds):
        history.add({**value, "seconds": float(second)})
    return history


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(snapshot(1.0, failures=[{"cause": "é" * 5000, "sample": "x" * 5000}] * 50), id="long texts"),
        pytest.param(snapshot(1.0, failures=causes(200, 500)), id="hundreds of causes"),
        pytest.param(snapshot(1.0, stages=400), id="hundreds of stages"),
        pytest.param(snapshot(1.0, warnings=["w" * 400] * 500), id="hundreds of warnings"),
        pytest.param(snapshot(1.0, advice="a" * 100_000, error="e" * 100_000), id="endless texts"),
    ],
)
def test_any_snapshot_fits(value: dict[str, Any]) -> None:
    bounded = fit(value, history_of(value))

    assert json_size(bounded) <= SIZE_LIMIT
    assert bounded["items_committed"] == 0
    assert bounded["state"] == "running"


def test_nothing_is_left_out_of_what_fits() -> None:
    value = snapshot(1.0, failures=causes(31), decisions=list(range(40)), workers=workers(24))

    bounded = fit(value, history_of(value, 30))

    assert "omitted" not in bounded
    assert {name: len(bounded[name]) for name in ("failures", "decisions", "workers")} == {
        "failures": 31,
        "decisions": 40,
        "workers": 24,
    }
    assert len(bounded["history"]["seconds"]) == 30


def test_run_with_many_workers_and_causes_keeps_its_curves() -> None:
    """The history was dropped from a run of 30 s with 80 workers and 31 causes (issue 17, A7)."""
    value = snapshot(30.0, stages=12, failures=causes(31, 200), workers=workers(64), omitted={"workers": 16})

    bounded = fit(value, history_of(value, 30))

    assert json_size(bounded) <= SIZE_LIMIT
    assert len(bounded["history"]["seconds"]) >= 8
    assert len(bounded["workers"]) + bounded["omitted"]["workers"] == 80


def test_causes_that_are_left_out_are_counted() -> None:
    value = snapshot(1.0, failures=causes(120, 400))

    bounded = fit(value, History())

    kept = len(bounded["failures"])
    assert 5 <= kept < 120
    assert bounded["omitted"]["failures"] == 120 - kept
    assert sum(each["count"] for each in bounded["failures"]) + bounded["omitted"]["failed_items"] == sum(
        range(881, 1001)
    )


def test_workers_that_failed_or_worked_most_stay() -> None:
    bounded = fit(snapshot(1.0, workers=workers(64)), History())

    assert [each["number"] for each in bounded["workers"]] == [7, *range(41, 64)]
    assert bounded["omitted"] == {"workers": 40}


def test_latest_decisions_stay() -> None:
    bounded = fit(snapshot(1.0, decisions=list(range(150))), History())

    assert bounded["decisions"] == list(range(110, 150))
    assert bounded["omitted"] == {"decisions": 110}


def test_snapshot_without_room_for_curves_says_so() -> None:
    value = snapshot(1.0, stages=50)

    bounded = fit(value, history_of(value), limit=12_000)

    assert bounded["history"] == {}
    assert bounded["omitted"]["history"] is True
    assert len(bounded["stages"]) == 50


def test_of_many_shards_those_that_are_not_done_stay() -> None:
    shards = [{"shard": at, "state": "success" if at % 10 else "running", "error": ""} for at in range(300)]

    found = fit({**snapshot(), "shards": shards}, History())

    assert [each["shard"] for each in found["shards"][:30]] == list(range(0, 300, 10))
    assert (len(found["shards"]), found["omitted"]["shards"]) == (60, 240)
