"""What a stage would gain from more workers, from the figures of a real run."""

from __future__ import annotations

import time
from typing import Any

import pytest

from airflow_parallel_provider import ListSink, Pipeline, Stage
from airflow_parallel_provider.monitoring.forecast import forecast


def nap(item: int) -> int:
    time.sleep(0.004)
    return item


def test_the_slow_stage_gains_almost_half() -> None:
    report = Pipeline(range(200), [Stage(abs), Stage(nap, workers=2)], ListSink(), chunk_size=20).run()

    found = forecast(report.as_dict())

    assert report.bottleneck == "nap"
    assert found is not None
    assert (found["stage"], found["workers"], found["more_workers"]) == ("nap", 2, 4)
    assert 0.4 <= found["gain"] <= 0.55


@pytest.mark.parametrize(
    "snapshot",
    [
        pytest.param({}, id="nothing yet"),
        pytest.param({"bottleneck": "sink", "stages": [{"name": "a", "kind": "thread", "calls": 90}]}, id="the sink"),
        pytest.param({"bottleneck": "a", "stages": [{"name": "a", "kind": "thread", "calls": 3}]}, id="few calls"),
        pytest.param({"bottleneck": "a", "stages": [{"name": "a", "kind": "inline", "calls": 90}]}, id="no workers"),
        pytest.param(
            {"bottleneck": "a", "stages": [{"name": "a", "kind": "process", "calls": 90, "workers": 4096}]}, id="no CPU"
        ),
    ],
)
def test_nothing_is_promised_without_grounds(snapshot: dict[str, Any]) -> None:
    assert forecast(snapshot) is None
