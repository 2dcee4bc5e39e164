"""Exceptions raised in the calling thread (``execution_timeout``, Ctrl-C) and the timeout of a whole run."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from airflow_parallel_provider import Pipeline, Stage
from airflow_parallel_provider.errors import RunFailed
from tests.faults.phases import Moment, hanging_teardown
from tests.support import saboteurs as bad
from tests.support.running import RecordingSink, check_report
from tests.support.sync import Clock, Gate, Meeting, in_background

BUDGET = 5.0


class Alarm(BaseException):
    """As Airflow's task timeout: raised by a signal handler in the main thread, no ``Exception``."""


def raise_alarm(*_: Any) -> None:
    raise Alarm


@pytest.mark.parametrize("error", [Alarm, KeyboardInterrupt])
@pytest.mark.parametrize("kind", ["thread", "process"])
def test_an_exception_in_the_calling_thread_tears_everything_down(
    error: type[BaseException], kind: Any, tmp_path: Path
) -> None:
    moment = Moment(tmp_path)

    def handler(*_: Any) -> None:
        moment.clock.restart()
        raise error

    pid, gate = os.getpid(), moment.gate

    def call(item: int) -> None:
        os.kill(pid, signal.SIGUSR1)
        gate.pass_through() if os.getpid() == pid else bad.sleep_for_ever()

    stage = Stage(call, workers=1) if kind == "thread" else Stage(_Signals(pid), kind="process", workers=1)
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(error):
            Pipeline(range(100), [stage], RecordingSink()).run()
        seconds = moment.clock.seconds
    finally:
        signal.signal(signal.SIGUSR1, before)
        moment.gate.open()

    assert seconds < BUDGET


class _Signals:
    """Signals the task process from a worker process, then hangs."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def __call__(self, item: int) -> None:
        os.kill(self.pid, signal.SIGUSR1)
        bad.sleep_for_ever()


class Alarms:
    """Raises :class:`Alarm` for the first ``count`` signals, and only while the run is on the stack."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.armed = False

    def __call__(self, *_: Any) -> None:
        if self.armed and self.left:
            self.left -= 1
            raise Alarm


def test_a_second_alarm_during_the_teardown_leaves_nothing_behind() -> None:
    """``on_kill`` and ``execution_timeout`` may both come: the second one while everything is being ended."""
    gate, alarms, pid = Gate(), Alarms(2), os.getpid()

    def call(item: int) -> None:
        if item == 0:
            os.kill(pid, signal.SIGUSR1)
        gate.pass_through()

    def again() -> None:
        gate.wait_for_visitor()
        while alarms.left and alarms.armed:
            gate.wait(0.1)
            os.kill(pid, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, alarms)
    try:
        stages = [Stage(call, workers=1), Stage(bad.same, kind="process", workers=2)]
        with in_background(again):
            with pytest.raises(Alarm):
                try:
                    alarms.armed = True
                    Pipeline(range(100), stages, RecordingSink()).run()
                finally:
                    alarms.armed = False
            gate.open()
    finally:
        signal.signal(signal.SIGUSR1, before)
        gate.open()


def test_an_alarm_during_a_hanging_teardown_leaves_nothing_behind(tmp_path: Path) -> None:
    """The work is done and a worker's ``teardown`` hangs when ``execution_timeout`` strikes."""
    meeting = Meeting.at(tmp_path / "meeting")
    pid = os.getpid()
    before = signal.signal(signal.SIGUSR1, raise_alarm)

    def strike() -> None:
        meeting.expect()
        os.kill(pid, signal.SIGUSR1)

    clock = Clock()
    try:
        with in_background(strike), pytest.raises(Alarm):
            Pipeline(range(9), [hanging_teardown(meeting)], RecordingSink()).run()
    finally:
        signal.signal(signal.SIGUSR1, before)

    assert clock.seconds < BUDGET


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_the_whole_run_has_a_timeout(kind: Any) -> None:
    gate = Gate()
    call: Any = (lambda item: gate.pass_through()) if kind == "thread" else _sleep
    clock = Clock()
    try:
        with pytest.raises(RunFailed, match="timeout") as caught:
            Pipeline(range(100), [Stage(call, name="slow", kind=kind)], RecordingSink(), timeout=0.5).run()
    finally:
        gate.open()

    assert 0.5 <= clock.seconds < 0.5 + BUDGET
    assert caught.value.report is not None
    check_report(caught.value.report)


def _sleep(item: int) -> None:
    bad.sleep_for_ever()
