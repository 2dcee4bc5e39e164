"""Stop at every phase: after the request everything is down in under five seconds, whatever was going on."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_parallel_provider import Pipeline, Source, Stage, StopToken
from airflow_parallel_provider.errors import RunStopped
from tests.faults.phases import IN_A_PROCESS, LATE, PHASES, REASON, Moment, Plan
from tests.support import saboteurs as bad
from tests.support.running import RecordingSink, check_report
from tests.support.sync import in_background

BUDGET = 5.0


@pytest.mark.parametrize("ordered", [False, True], ids=["any order", "ordered"])
@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.__name__)
def test_stop_at_every_phase(phase: Callable[[Moment], Plan], ordered: bool, tmp_path: Path) -> None:
    moment = Moment(tmp_path)
    source, stages, sink = phase(moment)
    pipeline = Pipeline(source, stages, sink, chunk_size=10, max_in_flight=10_000, ordered=ordered)

    with in_background(moment.ask_when_met if phase in IN_A_PROCESS else lambda: None):
        with pytest.raises(RunStopped) as caught:
            pipeline.run(stop=moment.token)
        seconds = moment.clock.seconds
        moment.gate.open()

    assert seconds < BUDGET
    assert caught.value.reason == REASON
    assert REASON in str(caught.value)
    report = caught.value.report
    assert report is not None
    assert report.state == "stopped"
    check_report(report)


@pytest.mark.parametrize("phase", LATE)
def test_stop_when_the_work_is_done(phase: str, tmp_path: Path) -> None:
    """Whether it counts as stopped or as a success is open by then; the budget holds all the same."""
    moment = Moment(tmp_path)
    source, stages, sink = LATE[phase](moment)
    pipeline = Pipeline(source, stages, sink, chunk_size=10)

    with in_background(moment.ask_when_met if phase == "process teardown" else lambda: None):
        try:
            report = pipeline.run(stop=moment.token)
        except RunStopped as stopped:
            assert stopped.report is not None  # noqa: PT017
            report = stopped.report
        seconds = moment.clock.seconds
        moment.gate.open()

    assert moment.token.is_set
    assert seconds < BUDGET
    check_report(report)


def test_stop_before_the_start_processes_nothing() -> None:
    token = StopToken()
    token.stop(REASON)
    called: list[int] = []

    with pytest.raises(RunStopped, match=REASON):
        Pipeline(range(1000), [Stage(called.append)], RecordingSink()).run(stop=token)

    assert called == []


def test_stop_from_the_observer() -> None:
    moment, seen = StopToken(), []

    def observe(snapshot: dict[str, Any]) -> None:
        seen.append(snapshot["final"])
        moment.stop(REASON)

    with pytest.raises(RunStopped, match=REASON):
        Pipeline(itertools.count(), [Stage(bad.tenfold)], RecordingSink()).run(
            stop=moment, observe=observe, observe_every=0.01
        )

    assert seen[0] is False
    assert seen[-1] is True


def test_stop_from_a_signal_handler(tmp_path: Path) -> None:
    """As Airflow's ``on_kill`` does it: in the main thread, between two bytecodes."""
    moment = Moment(tmp_path)
    before = signal.signal(signal.SIGUSR1, moment.ask)
    try:
        stage = Stage(lambda item: (os.kill(os.getpid(), signal.SIGUSR1), moment.gate.pass_through()), workers=2)
        with pytest.raises(RunStopped, match=REASON):
            Pipeline(range(100), [stage], RecordingSink()).run(stop=moment.token)
        seconds = moment.clock.seconds
    finally:
        signal.signal(signal.SIGUSR1, before)
        moment.gate.open()

    assert seconds < BUDGET


class Interrupted(Source):
    """A long source that says when the run interrupts it: the workers have been interrupted by then."""

    def __init__(self) -> None:
        self.told = threading.Event()

    def __iter__(self) -> Iterator[int]:
        return iter(range(100_000))

    def interrupt(self) -> None:
        self.told.set()


def test_a_dispatch_that_is_cut_short_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """The call during which the run is torn down ends; those after it in the same dispatch are not made."""
    source, token = Interrupted(), StopToken()

    def two(item: int) -> Iterator[int]:
        if item == 5_000:  # by then a dispatch holds many calls
            token.stop("enough")
            source.told.wait(BUDGET)
        yield item
        yield -item

    with pytest.raises(RunStopped):
        Pipeline(source, [Stage(two, workers=1)], RecordingSink(), chunk_size=200).run(stop=token)

    assert source.told.is_set()
    assert not caplog.records, caplog.text


def test_only_the_first_reason_is_kept() -> None:
    token = StopToken()
    token.stop("first")
    token.stop("second")

    assert token.reason == "first"
