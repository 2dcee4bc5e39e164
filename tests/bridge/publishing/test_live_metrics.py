"""Live metrics: bounded, on time, plain JSON, and never the reason why a task fails."""

from __future__ import annotations

import itertools
import json
import logging
import math
from typing import TYPE_CHECKING, Any

import pytest

from airflow_parallel_provider.bridge.identity import RunIdentity
from airflow_parallel_provider.bridge.publishing.live_metrics import LiveMetrics
from airflow_parallel_provider.bridge.publishing.publisher import Publisher
from airflow_parallel_provider.monitoring.json_values import json_size, to_json_value
from airflow_parallel_provider.monitoring.snapshot_size import SIZE_LIMIT
from tests.support.airflow_doubles import FakeStateStore, FakeTaskInstance, snapshot

if TYPE_CHECKING:
    from collections.abc import Callable


class FakeClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """A LiveMetrics with a clock that the test moves."""

    def __init__(self, context: dict[str, Any]) -> None:
        self.clock = FakeClock()
        self.ti: FakeTaskInstance = context["ti"]
        identity = RunIdentity.from_context(context)
        self.metrics = LiveMetrics(Publisher(context, self.clock), identity, {"sink": "table scores"}, self.clock)

    def run(self, seconds: int) -> list[float]:
        """Observe every second; return when something was pushed, in seconds since the start."""
        times = []
        for second in range(1, seconds + 1):
            self.clock.now += 1
            before = len(self.ti.pushed)
            self.metrics.observe(snapshot(float(second), committed=second * 10))
            if len(self.ti.pushed) > before:
                times.append(float(second))
        return times


@pytest.fixture
def bench(context_of: Callable[..., dict[str, Any]]) -> Bench:
    return Bench(context_of())


# -- when -----------------------------------------------------------------------------------------


def test_at_once_then_every_two_seconds_and_after_a_minute_every_five(bench: Bench) -> None:
    times = bench.run(100)

    assert times[:4] == [1, 3, 5, 7]
    assert [later - earlier for earlier, later in itertools.pairwise(times)] == [2] * 29 + [5] * 8


def test_slow_api_server_is_asked_less_often(bench: Bench) -> None:
    """The main thread waits for each answer, and meanwhile does not check timeouts and worker counts."""

    def half_a_second(key: str, value: Any) -> None:
        bench.clock.now += 0.5
        FakeTaskInstance.xcom_push(bench.ti, key, value)

    bench.ti.xcom_push = half_a_second  # type: ignore[method-assign]
    times = bench.run(60)

    distances = {later - earlier for earlier, later in itertools.pairwise(times)}
    assert distances <= {9, 10, 11}


def test_very_slow_api_server_is_asked_every_five_minutes_all_the_same(bench: Bench) -> None:
    def a_minute(key: str, value: Any) -> None:
        bench.clock.now += 60
        FakeTaskInstance.xcom_push(bench.ti, key, value)

    bench.ti.xcom_push = a_minute  # type: ignore[method-assign]
    times = bench.run(1000)

    assert {later - earlier for earlier, later in itertools.pairwise(times)} == {300 - 60}


def test_one_line_in_the_log_every_ten_seconds(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "airflow_parallel_provider"):
        bench.run(35)

    assert len(caplog.messages) == 3
    assert caplog.messages[-1] == "300 items, 10/s; waiting: score 3/64"


def test_last_snapshot_carries_the_outcome_and_comes_once(bench: Bench) -> None:
    bench.metrics.observe(snapshot(1.5, committed=15, final=True))

    bench.metrics.end({"items_committed": 20, "state": "success"}, "success")
    bench.metrics.end(None, "failed")

    (last,) = bench.ti.values("pipeline_metrics")
    assert last["final"] is True
    assert last["state"] == "success"
    assert last["items_committed"] == 20
    assert last["sink"] == "table scores"


def test_state_of_the_report_is_the_one_that_counts(bench: Bench) -> None:
    bench.metrics.end({"state": "stopped"}, "failed")

    assert bench.ti.pushed[-1][1]["state"] == "stopped"


def test_torn_down_run_leaves_its_last_figures(bench: Bench) -> None:
    bench.run(5)

    bench.metrics.end(None, "failed")

    last = bench.ti.values("pipeline_metrics")[-1]
    assert (last["final"], last["state"], last["items_committed"]) == (True, "failed", 50)


def test_figures_nobody_expected_do_not_fail_the_task(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.metrics.end({"stages": [{"no": "name"}]}, "success")

    assert "The last metrics could not be written" in caplog.text


def test_run_that_never_began_still_says_so(bench: Bench) -> None:
    bench.metrics.end(None, "failed")

    (only,) = bench.ti.values("pipeline_metrics")
    assert (only["final"], only["state"]) == (True, "failed")


# -- where ----------------------------------------------------------------------------------------


def test_state_store_keeps_each_try_apart(context_of: Callable[..., dict[str, Any]]) -> None:
    store = FakeStateStore()
    bench = Bench(context_of(store=store, try_number=3))

    bench.run(2)

    assert list(store.kept) == ["pipeline_metrics/try-3"]
    assert store.kept["pipeline_metrics/try-3"] == bench.ti.values("pipeline_metrics")[-1]


def test_state_store_is_written_now_and_then_and_at_the_end(context_of: Callable[..., dict[str, Any]]) -> None:
    times: list[float] = []

    class Store(FakeStateStore):
        def set(self, key: str, value: Any) -> None:
            times.append(watched.clock.now - 1000)
            super().set(key, value)

    store = Store()
    watched = Bench(context_of(store=store))
    watched.run(40)
    watched.metrics.end(None, "failed")

    assert times == [1, 11, 21, 31, 40]
    assert store.kept["pipeline_metrics/try-1"] == watched.ti.values("pipeline_metrics")[-1]


def test_items_that_failed_are_for_those_who_may_read_xcoms(context_of: Callable[..., dict[str, Any]]) -> None:
    """The task state store can be read by every user who may see task instances."""
    store = FakeStateStore()
    bench = Bench(context_of(store=store))
    sample = {"position": 7, "item": "alice@example.com", "message": "no such alice@example.com"}

    bench.metrics.observe(
        snapshot(1.0, failures=[{"stage": "score", "cause": "KeyError", "count": 3, "sample": sample}])
    )

    (pushed,) = bench.ti.values("pipeline_metrics")
    assert pushed["failures"][0]["sample"] == sample
    kept = store.kept["pipeline_metrics/try-1"]
    assert kept["failures"] == [{"stage": "score", "cause": "KeyError", "count": 3, "sample": {"position": 7}}]
    assert "alice" not in json.dumps(kept)


def test_many_workers_and_decisions_leave_room_for_the_curves(bench: Bench) -> None:
    worker = {"stage": "score", "number": 1, "calls": 123_456, "busy_seconds": 1234.5678, "peak_rss_bytes": 123_456_789}
    decision = {"at": 12.345, "stage": "score", "before": 3, "after": 4, "reason": "calls wait and all are busy"}
    for second in range(1, 400):
        bench.clock.now += 1
        more = {"workers": [worker] * 64, "decisions": [{**decision, "at": at} for at in range(200)]}
        bench.metrics.observe(snapshot(float(second), committed=second * 1000, stages=3, **more))

    last = bench.ti.values("pipeline_metrics")[-1]
    assert json_size(last) <= SIZE_LIMIT
    assert len(last["history"]["seconds"]) >= 40
    assert last["decisions"][-1]["at"] == 199
    assert len(last["workers"]) == 24


def test_refused_push_is_logged_once_and_tried_again_later(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.ti.refuse = RuntimeError("the API server is gone")

    bench.run(20)
    bench.ti.refuse = None
    times = bench.run(20)

    complaints = [each for each in caplog.messages if "could not be written" in each]
    assert complaints == ["Metrics could not be written to XCom: RuntimeError: the API server is gone"]
    assert times[0] == 11  # half a minute after the refusal at second 1


def test_last_figures_are_tried_although_a_push_was_refused_just_before(
    context_of: Callable[..., dict[str, Any]],
) -> None:
    """Otherwise the page would show a run that never ends."""
    store = FakeStateStore()
    bench = Bench(context_of(store=store))
    bench.ti.refuse = RuntimeError("the API server is gone for a moment")
    bench.run(5)
    bench.ti.refuse = None

    bench.metrics.end(None, "failed")

    (last,) = bench.ti.values("pipeline_metrics")
    assert (last["final"], last["state"]) == (True, "failed")
    assert store.kept["pipeline_metrics/try-1"] == last


def test_stop_of_the_task_passes_through_a_push(bench: Bench) -> None:
    """execution_timeout is a BaseException; swallowing it would make the task endless."""

    class TaskTimeout(BaseException):
        pass

    bench.ti.refuse = TaskTimeout()  # type: ignore[assignment]

    with pytest.raises(TaskTimeout):
        bench.run(3)


# -- what -----------------------------------------------------------------------------------------


def test_snapshot_is_plain_json(bench: Bench) -> None:
    odd = {"cause": ValueError("x"), "ratio": math.nan, "speed": math.inf, "pair": (1, 2), 3: b"bytes"}

    bench.clock.now += 5
    bench.metrics.observe(snapshot(5.0, failures=[odd]))

    (value,) = bench.ti.values("pipeline_metrics")
    assert json.loads(json.dumps(value, allow_nan=False)) == value
    assert value["failures"] == [{"cause": "x", "ratio": None, "speed": None, "pair": [1, 2], "3": "b'bytes'"}]


def test_long_run_with_many_stages_stays_small(bench: Bench) -> None:
    for second in range(1, 4000):
        bench.clock.now += 1
        bench.metrics.observe(snapshot(float(second), committed=second * 123_456, stages=6))

    sizes = [json_size(each) for each in bench.ti.values("pipeline_metrics")]
    last = bench.ti.values("pipeline_metrics")[-1]
    assert max(sizes) <= SIZE_LIMIT
    assert len(last["history"]["seconds"]) > 40  # bounded, but still a curve
    assert set(last["history"]["stages"]) == {"score", "score1", "score2", "score3", "score4", "score5"}


def test_texts_that_utf8_cannot_hold_are_made_to_fit() -> None:
    """A file name that is no UTF-8 reaches Python as lone surrogates, and JSON over HTTP refuses those."""
    name = b"caf\xe9.csv".decode("utf-8", "surrogateescape")

    assert to_json_value({"sample": name}) == {"sample": "caf\\udce9.csv"}


def test_booleans_and_number_subclasses_keep_their_value() -> None:
    import enum

    class Level(enum.IntEnum):
        HIGH = 3

    assert to_json_value([True, Level.HIGH, 2**63, -0.0]) == [True, 3, 2**63, -0.0]
