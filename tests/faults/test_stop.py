"""Stop at every phase: after the request everything is down in under five seconds, whatever was going on.

Each phase asks for the stop itself, from the place where it is, and then blocks for ever: the worst moment there is.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from airflow_parallel_provider import Pipeline, Retry, Source, Stage, StopToken
from airflow_parallel_provider.engine.sink import ChunkResult, CommittedChunk, LoadSpec
from airflow_parallel_provider.errors import RunFailed, RunStopped
from tests.support import saboteurs as bad
from tests.support.running import RecordingSink, check_report
from tests.support.sync import Clock, Gate, Meeting, in_background

BUDGET = 5.0
REASON = "mark failed in the UI"

Plan = tuple[Any, list[Stage], Any]


class Moment:
    """The moment at which the stop is asked for; whoever reaches it blocks until the test lets go."""

    def __init__(self, path: Path) -> None:
        self.token = StopToken()
        self.clock = Clock()
        self.gate = Gate()
        self.meeting = Meeting.at(path / "meeting")

    def come(self, *_: Any) -> Any:
        """Ask for the stop and block."""
        self.ask()
        self.gate.pass_through()

    def ask(self, *_: Any) -> None:
        if not self.token.is_set:
            self.clock.restart()
            self.token.stop(REASON)

    def ask_when_met(self) -> None:
        """For what happens in a worker process: it comes to the meeting, the stop is asked for here."""
        self.meeting.expect()
        self.ask()


class Source2(Source):
    """A source of two steps."""

    def __init__(self, prepare: Callable[[], object], items: Callable[[], Iterator[int]]) -> None:
        self._prepare, self._items = prepare, items

    def prepare(self) -> None:
        self._prepare()

    def __iter__(self) -> Iterator[int]:
        return self._items()


class Sink2(RecordingSink):
    """Calls ``act`` at one step."""

    def __init__(self, step: str, act: Callable[[], object]) -> None:
        super().__init__()
        self._step, self._act = step, act

    def _at(self, step: str) -> None:
        if step == self._step:
            self._act()

    def prepare(self, spec: LoadSpec) -> None:
        self._at("prepare")

    def open(self) -> Mapping[str, CommittedChunk]:
        self._at("open")
        return {}

    def commit(self, chunk: ChunkResult) -> int:
        self._at("commit")
        return super().commit(chunk)

    def finish(self) -> None:
        self._at("finish")

    def close(self) -> None:
        self._at("close")


def endless(_: Moment) -> Iterator[int]:
    return iter(itertools.count())


def _source_blocks(moment: Moment) -> Plan:
    def items() -> Iterator[int]:
        yield from range(5)
        moment.come()

    return items, [Stage(bad.tenfold)], RecordingSink()


def _source_prepares(moment: Moment) -> Plan:
    return Source2(moment.ask, lambda: iter(range(9))), [Stage(bad.tenfold)], RecordingSink()


def _source_never_ends(moment: Moment) -> Plan:
    def items() -> Iterator[int]:
        for item in itertools.count():
            if item == 5_000:
                moment.ask()
            yield item

    return items, [Stage(bad.tenfold), Stage(bad.same, kind="process")], RecordingSink()


def _thread_call(moment: Moment) -> Plan:
    return range(100), [Stage(moment.come, workers=4)], RecordingSink()


def _inline_call(moment: Moment) -> Plan:
    return range(100), [Stage(moment.come, kind="inline")], RecordingSink()


def _async_call_waits(moment: Moment) -> Plan:
    async def call(item: int) -> None:
        moment.ask()
        await asyncio.sleep(3600)

    return range(100), [Stage(call, kind="async")], RecordingSink()


def _async_call_blocks_its_loop(moment: Moment) -> Plan:
    async def call(item: int) -> None:
        moment.come()

    return range(100), [Stage(call, kind="async")], RecordingSink()


def _async_call_refuses(moment: Moment) -> Plan:
    async def call(item: int) -> None:
        moment.ask()
        while not moment.gate.is_open:
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue

    return range(4), [Stage(call, kind="async", workers=4)], RecordingSink()


def _process_call(moment: Moment, act: Callable[[], object]) -> Plan:
    meeting = moment.meeting

    def call(item: int) -> None:
        if item == 0:
            meeting.arrive()
        act()

    return range(100), [Stage(call, kind="process", workers=2)], RecordingSink()


def _process_call_spins(moment: Moment) -> Plan:
    return _process_call(moment, bad.spin)


def _process_call_blocks_in_c(moment: Moment) -> Plan:
    return _process_call(moment, bad.block_in_c)


def _process_result_hangs(moment: Moment) -> Plan:
    meeting = moment.meeting

    class Slow:
        def __reduce__(self) -> Any:
            meeting.arrive()
            bad.sleep_for_ever()

    return range(100), [Stage(lambda item: Slow(), kind="process", workers=1)], RecordingSink()


def _process_large_results(moment: Moment) -> Plan:
    """Both sides are in the middle of large messages."""
    meeting = moment.meeting

    def call(item: bytes) -> bytes:
        if item[0] == 9:
            meeting.arrive()
        return item * 2

    return ((bytes([at % 200]) * 4_000_000) for at in itertools.count()), [Stage(call, kind="process")], RecordingSink()


def _nursery_starts(moment: Moment) -> Plan:
    """A worker process needs for ever to load the function."""
    return range(100), [Stage(SlowToLoad(moment.meeting), name="slow", kind="process", workers=1)], RecordingSink()


class SlowToLoad:
    """A stage function whose import never ends in the worker process."""

    def __init__(self, meeting: Meeting) -> None:
        self.meeting = meeting

    def __call__(self, item: int) -> int:
        return item

    def __reduce__(self) -> Any:
        return _load_for_ever, (self.meeting,)


def _load_for_ever(meeting: Meeting) -> None:
    meeting.arrive()
    bad.sleep_for_ever()


def _thread_setup(moment: Moment) -> Plan:
    return range(100), [Stage(lambda item, resource: item, setup=moment.come, workers=2)], RecordingSink()


def _inline_setup(moment: Moment) -> Plan:
    return range(100), [Stage(lambda item, resource: item, kind="inline", setup=moment.come)], RecordingSink()


def _process_setup(moment: Moment) -> Plan:
    meeting = moment.meeting

    def setup() -> None:
        meeting.arrive()
        bad.sleep_for_ever()

    return range(100), [Stage(lambda item, resource: item, kind="process", setup=setup, workers=1)], RecordingSink()


def _backoff(moment: Moment) -> Plan:
    def call(item: int) -> None:
        moment.ask()
        raise ConnectionError("later")

    retry = Retry(5, backoff=60, jitter=False)
    return range(4), [Stage(call, workers=2, retry=retry)], RecordingSink()


def _inline_backoff(moment: Moment) -> Plan:
    def call(item: int) -> None:
        moment.ask()
        raise ConnectionError("later")

    return range(4), [Stage(call, kind="inline", retry=Retry(5, backoff=60, jitter=False))], RecordingSink()


def _all_channels_full(moment: Moment) -> Plan:
    stages = [Stage(bad.tenfold), Stage(bad.same, kind="process", workers=2), Stage(moment.come, workers=1)]
    return range(100_000), stages, RecordingSink()


def _sink_prepares(moment: Moment) -> Plan:
    return range(100), [Stage(bad.tenfold, kind="process")], Sink2("prepare", moment.ask)


def _sink_opens(moment: Moment) -> Plan:
    return range(100), [Stage(bad.tenfold, kind="process")], Sink2("open", moment.come)


def _sink_commits(moment: Moment) -> Plan:
    return range(100), [Stage(bad.tenfold, kind="process")], Sink2("commit", moment.come)


PHASES = [
    _source_prepares,
    _source_blocks,
    _source_never_ends,
    _thread_setup,
    _thread_call,
    _inline_setup,
    _inline_call,
    _async_call_waits,
    _async_call_blocks_its_loop,
    _async_call_refuses,
    _nursery_starts,
    _process_setup,
    _process_call_spins,
    _process_call_blocks_in_c,
    _process_result_hangs,
    _process_large_results,
    _backoff,
    _inline_backoff,
    _all_channels_full,
    _sink_prepares,
    _sink_opens,
    _sink_commits,
]
IN_A_PROCESS = {
    _nursery_starts,
    _process_setup,
    _process_call_spins,
    _process_call_blocks_in_c,
    _process_result_hangs,
    _process_large_results,
}


@pytest.mark.parametrize("ordered", [False, True], ids=["any order", "ordered"])
@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.__name__.strip("_"))
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


LATE = {
    "sink finishes": lambda moment: (range(9), [Stage(bad.tenfold)], Sink2("finish", moment.come)),
    "sink closes": lambda moment: (range(9), [Stage(bad.tenfold)], Sink2("close", moment.come)),
    "thread teardown": lambda moment: (
        range(9),
        [Stage(lambda item, _: item, setup=int, teardown=moment.come, workers=2)],
        RecordingSink(),
    ),
    "inline teardown": lambda moment: (
        range(9),
        [Stage(lambda item, _: item, kind="inline", setup=int, teardown=lambda _: moment.ask())],
        RecordingSink(),
    ),
    "process teardown": lambda moment: (range(9), [_hanging_teardown(moment.meeting)], RecordingSink()),
}


def _hanging_teardown(meeting: Meeting) -> Stage:
    def teardown(resource: int) -> None:
        meeting.arrive()
        bad.sleep_for_ever()

    return Stage(lambda item, _: item, kind="process", workers=1, setup=int, teardown=teardown)


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


def test_only_the_first_reason_is_kept() -> None:
    token = StopToken()
    token.stop("first")
    token.stop("second")

    assert token.reason == "first"


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
            Pipeline(range(9), [_hanging_teardown(meeting)], RecordingSink()).run()
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
