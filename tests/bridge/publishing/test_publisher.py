"""A slow API server: the pipeline does not wait for it, nothing piles up, and nothing fails because of it."""

from __future__ import annotations

import importlib
import itertools
import logging
import os
import signal
import threading
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowTaskTimeout

from airflow_parallel_provider import ListSink, Pipeline, Stage, StopToken
from airflow_parallel_provider.bridge.identity import RunIdentity
from airflow_parallel_provider.bridge.publishing import publisher as module
from airflow_parallel_provider.bridge.publishing.live_metrics import LiveMetrics
from airflow_parallel_provider.bridge.publishing.publisher import Publisher
from airflow_parallel_provider.bridge.publishing.telemetry import Telemetry
from airflow_parallel_provider.bridge.task_run import run_in_task
from airflow_parallel_provider.errors import RunStopped
from tests.support.airflow_doubles import FakeStateStore, FakeTaskInstance, snapshot
from tests.support.sync import WAIT_SECONDS, Gate, in_background

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_mock import MockerFixture


pytestmark = pytest.mark.airflow


OF_THE_CALLER: ContextVar[str] = ContextVar("of_the_caller", default="nothing")


class SlowTaskInstance(FakeTaskInstance):
    """Its line to Airflow answers when the gate is opened.

    :param at_the_end: only then is it slow.
    """

    def __init__(self, *, at_the_end: bool = False) -> None:
        super().__init__()
        self.at_the_end = at_the_end
        self.gate = Gate()
        self.waits = 0
        self.threads: list[tuple[str, str]] = []

    def xcom_push(self, key: str, value: Any) -> None:
        self.threads.append((threading.current_thread().name, OF_THE_CALLER.get()))
        if value.get("final") or not self.at_the_end:
            self.waits += 1
            self.gate.pass_through()
            self.waits -= 1
        super().xcom_push(key, value)


@pytest.fixture
def slow(context_of: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A context whose line does not answer before the end of the test."""
    importlib.import_module("airflow.settings")  # sets logging up; later it would take caplog's handler away
    monkeypatch.setattr(module, "HURRIED_SECONDS", 0.1)
    context = {**context_of(), "ti": SlowTaskInstance()}
    yield context
    context["ti"].gate.open()
    for thread in publishing():
        thread.join(WAIT_SECONDS)


def publishing() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "parallel-publisher"]


def same(number: int) -> int:
    return number


def forget(rows: list[Any]) -> None:
    pass


def endless(**run: Any) -> Pipeline:
    return Pipeline(itertools.count, [Stage(same)], forget, chunk_size=10, **run)


@pytest.fixture
def slow_at_the_end(slow: dict[str, Any]) -> dict[str, Any]:
    """However long the run takes, it is its last figures that get no answer."""
    slow["ti"].at_the_end = True
    return slow


def short(**run: Any) -> Pipeline:
    return Pipeline(range(25), [Stage(same)], ListSink(), chunk_size=10, **run)


def fail(number: int) -> int:
    raise LookupError("no such thing")


def failing(**run: Any) -> Pipeline:
    return Pipeline(range(25), [Stage(fail)], ListSink(), chunk_size=10, **run)


@contextmanager
def alarms_raise(error: type[BaseException]) -> Iterator[None]:
    """As Airflow does with ``execution_timeout``."""

    def strike(number: int, frame: object) -> None:
        raise error

    # pytest-timeout uses the same signal and the same timer; they are given back as they were.
    before, timer = signal.signal(signal.SIGALRM, strike), signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def when_the_line_hangs(context: dict[str, Any], act: Callable[[], object]) -> Iterator[None]:
    """Act as soon as a thread waits for an answer."""

    def wait() -> None:
        context["ti"].gate.wait_for_visitor()
        act()

    with in_background(wait):
        yield


def test_stop_is_heard_while_a_push_waits_for_its_answer(
    slow: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    stop = StopToken()

    with when_the_line_hangs(slow, lambda: stop.stop("asked")), pytest.raises(RunStopped, match="stopped: asked"):
        run_in_task(slow, endless, stop)

    assert slow["ti"].waits == 1, "it ended without the answer"
    assert publishing(), "the publisher still waits for it"
    assert slow["ti"].pushed == []
    assert "The last metrics are not written" in caplog.text


def test_execution_timeout_is_on_time_while_a_push_waits_for_its_answer(slow: dict[str, Any]) -> None:
    with (
        alarms_raise(AirflowTaskTimeout),
        when_the_line_hangs(slow, lambda: os.kill(os.getpid(), signal.SIGALRM)),
        pytest.raises(AirflowTaskTimeout),
    ):
        run_in_task(slow, endless, StopToken())

    assert slow["ti"].waits == 1, "it ended without the answer"
    assert publishing(), "the publisher still waits for it"


def test_run_that_has_ended_well_waits_for_its_last_figures(slow_at_the_end: dict[str, Any]) -> None:
    with when_the_line_hangs(slow_at_the_end, slow_at_the_end["ti"].gate.open):
        summary = run_in_task(slow_at_the_end, short, StopToken())

    last = slow_at_the_end["ti"].values("pipeline_metrics")[-1]
    assert (last["final"], last["items_committed"]) == (True, summary["items_committed"])


def test_run_that_has_ended_well_does_not_wait_for_ever(
    slow_at_the_end: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LAST_WRITES_SECONDS", 0.1)

    summary = run_in_task(slow_at_the_end, short, StopToken())

    assert summary["state"] == "success"
    assert slow_at_the_end["ti"].waits == 1


def test_run_that_has_ended_well_stays_so_when_it_is_asked_to_stop_while_it_waits(
    slow_at_the_end: dict[str, Any],
) -> None:
    stop = StopToken()
    with when_the_line_hangs(slow_at_the_end, lambda: stop.stop("asked")):
        summary = run_in_task(slow_at_the_end, short, stop)

    assert summary["state"] == "success"
    assert slow_at_the_end["ti"].waits == 1


def test_run_that_has_ended_well_stays_so_when_its_time_is_over_while_it_waits(
    slow_at_the_end: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with (
        alarms_raise(AirflowTaskTimeout),
        when_the_line_hangs(slow_at_the_end, lambda: os.kill(os.getpid(), signal.SIGALRM)),
    ):
        summary = run_in_task(slow_at_the_end, short, StopToken())

    assert summary["state"] == "success"
    assert slow_at_the_end["ti"].waits == 1
    assert "execution_timeout has passed" in caplog.text


def test_run_that_has_failed_says_why_when_its_time_is_over_while_it_waits(
    slow_at_the_end: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Whether a retry can help shows in why it failed, not in the time that its figures took."""
    with (
        alarms_raise(AirflowTaskTimeout),
        when_the_line_hangs(slow_at_the_end, lambda: os.kill(os.getpid(), signal.SIGALRM)),
        pytest.raises(AirflowFailException, match="no such thing"),
    ):
        run_in_task(slow_at_the_end, failing, StopToken())

    assert slow_at_the_end["ti"].waits == 1
    assert "execution_timeout has passed" in caplog.text


def test_run_that_has_ended_well_stays_so_when_its_time_is_over_while_other_calls_wait(
    context_of: Callable[..., dict[str, Any]], mocker: MockerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    mocker.patch.object(Telemetry, "end", side_effect=AirflowTaskTimeout)

    summary = run_in_task(context_of(), short, StopToken())

    assert summary["state"] == "success"
    assert "execution_timeout has passed" in caplog.text


def test_run_that_has_failed_says_why_when_its_time_is_over_while_other_calls_wait(
    slow_at_the_end: dict[str, Any], mocker: MockerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    """And then it does not wait for its figures: the time is over but once."""
    mocker.patch.object(Telemetry, "end", side_effect=AirflowTaskTimeout)

    with pytest.raises(AirflowFailException, match="no such thing"):
        run_in_task(slow_at_the_end, failing, StopToken())

    assert "execution_timeout has passed" in caplog.text
    assert "no response from Airflow for" in caplog.text


def test_what_was_given_up_is_not_written_later(slow: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The next try may have begun by then, with figures of its own."""
    monkeypatch.setattr(module, "LAST_WRITES_SECONDS", 0.05)
    publisher = Publisher(slow)
    with publisher.at_work(StopToken()):
        publisher.push("one", {})
        publisher.push("two", {})
        slow["ti"].gate.wait_for_visitor()
    (thread,) = publishing()

    slow["ti"].gate.open()
    thread.join(WAIT_SECONDS)

    assert [key for key, _ in slow["ti"].pushed] == ["one"]


def test_snapshots_do_not_pile_up(slow: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    publisher = Publisher(slow, lambda: now[0])
    metrics = LiveMetrics(publisher, RunIdentity.from_context(slow), {}, lambda: now[0])

    with publisher.at_work(StopToken()), caplog.at_level(logging.INFO):
        for second in range(1, 61):
            now[0] = float(second)
            metrics.observe(snapshot(now[0]))
        slow["ti"].gate.open()

    assert len(slow["ti"].pushed) == 1
    assert len([each for each in caplog.messages if "items" in each]) == 6, "the lines in the log go on"


def test_after_a_slow_write_the_next_one_waits_twenty_times_as_long(slow: dict[str, Any]) -> None:
    now, ti = [0.0], slow["ti"]
    ti.gate.open()
    ti.xcom_push = lambda key, value: now.__setitem__(0, now[0] + 5.0) or ti.pushed.append((key, value))
    publisher = Publisher(slow, lambda: now[0])
    metrics = LiveMetrics(publisher, RunIdentity.from_context(slow), {}, lambda: now[0])
    times = []
    for _ in range(400):
        now[0] += 1
        before = len(ti.pushed)
        metrics.observe(snapshot(now[0]))
        if len(ti.pushed) > before:
            times.append(now[0])

    assert len(times) > 3
    assert {later - earlier for earlier, later in itertools.pairwise(times)} == {100}


def test_writes_come_in_order_from_a_thread_that_sees_the_callers_context(
    context_of: Callable[..., dict[str, Any]],
) -> None:
    store = FakeStateStore()
    context = {**context_of(store=store), "ti": SlowTaskInstance()}
    context["ti"].gate.open()
    publisher = Publisher(context)
    OF_THE_CALLER.set("seen")

    with publisher.at_work(StopToken()):
        for number in range(50):
            publisher.push(f"key {number}", {"number": number})
        publisher.store("kept", {"number": 1})
    publisher.push("afterwards", {})

    assert [key for key, _ in context["ti"].pushed] == [*(f"key {number}" for number in range(50)), "afterwards"]
    assert store.kept == {"kept": {"number": 1}}
    assert context["ti"].threads == [("parallel-publisher", "seen")] * 50 + [("MainThread", "seen")]
    assert publisher.idle
    assert publisher.cpu_seconds > 0
