"""execution_timeout waits for the end of a request to Airflow, but only for a limited time."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

from airflow_parallel_provider.bridge.supervisor.execution_timeout import timeout_postponed
from airflow_parallel_provider.bridge.supervisor.shared_comms import LockedComms

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


class TimeIsUp(BaseException):
    pass


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    def strike(number: int, frame: FrameType | None) -> None:
        raise TimeIsUp

    # pytest-timeout uses the same signal and the same timer; they are given back as they were.
    before, timer = signal.signal(signal.SIGALRM, strike), signal.setitimer(signal.ITIMER_REAL, 0)
    yield
    signal.setitimer(signal.ITIMER_REAL, *timer)
    signal.signal(signal.SIGALRM, before)


def test_alarm_inside_takes_effect_at_the_end() -> None:
    finished = False

    with pytest.raises(TimeIsUp), timeout_postponed():
        os.kill(os.getpid(), signal.SIGALRM)
        finished = True

    assert finished


def test_conversation_with_airflow_is_not_broken_off() -> None:
    """The next request would get the response to this one."""
    told = []

    class Comms:
        def send(self, msg: str) -> None:
            told.append(f"asked {msg}")
            os.kill(os.getpid(), signal.SIGALRM)
            told.append(f"heard of {msg}")

    with pytest.raises(TimeIsUp):
        LockedComms(Comms()).send("it")

    assert told == ["asked it", "heard of it"]


def test_alarm_wins_over_a_push_that_does_not_return() -> None:
    began = time.monotonic()
    reading, writing = os.pipe()

    with pytest.raises(TimeIsUp), timeout_postponed(seconds=0.1):
        os.kill(os.getpid(), signal.SIGALRM)
        select.select([reading], [], [], 20)

    os.close(reading)
    os.close(writing)
    assert 0.1 <= time.monotonic() - began < 5


def test_alarm_strikes_once_only() -> None:
    with pytest.raises(TimeIsUp), timeout_postponed(seconds=0.01):
        os.kill(os.getpid(), signal.SIGALRM)

    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_without_an_alarm_nothing_changes() -> None:
    before = signal.getsignal(signal.SIGALRM)
    signal.setitimer(signal.ITIMER_REAL, 100)

    with timeout_postponed():
        pass

    left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
    assert signal.getsignal(signal.SIGALRM) is before
    assert 90 < left <= 100


def test_error_inside_is_not_hidden_by_the_alarm() -> None:
    with pytest.raises(TimeIsUp) as caught, timeout_postponed():
        os.kill(os.getpid(), signal.SIGALRM)
        raise ValueError("the push failed")

    assert isinstance(caught.value.__context__, ValueError)


def test_other_threads_are_let_alone() -> None:
    seen = []

    def push() -> None:
        with timeout_postponed():
            seen.append(signal.getsignal(signal.SIGALRM))

    expected = signal.getsignal(signal.SIGALRM)
    thread = threading.Thread(target=push)
    thread.start()
    with contextlib.suppress(RuntimeError):
        thread.join(5)

    assert seen == [expected]
