"""Phases of a run in which a stop may be asked for: each pipeline asks at the worst moment and then blocks forever."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from airflow_parallel_provider import Retry, Stage, StopToken
from tests.support import saboteurs as bad
from tests.support.doubles import StepSink, StepSource
from tests.support.running import RecordingSink
from tests.support.sync import Clock, Gate, Meeting

REASON = "mark failed in the UI"

Plan = tuple[Any, list[Stage], Any]


class Moment:
    """The moment at which the stop is asked for; the code that reaches it blocks until the test lets it go on."""

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


def source_blocks(moment: Moment) -> Plan:
    def items() -> Iterator[int]:
        yield from range(5)
        moment.come()

    return items, [Stage(bad.tenfold)], RecordingSink()


def source_prepares(moment: Moment) -> Plan:
    return StepSource(moment.ask, lambda: iter(range(9))), [Stage(bad.tenfold)], RecordingSink()


def source_never_ends(moment: Moment) -> Plan:
    def items() -> Iterator[int]:
        for item in itertools.count():
            if item == 5_000:
                moment.ask()
            yield item

    return items, [Stage(bad.tenfold), Stage(bad.same, kind="process")], RecordingSink()


def thread_call(moment: Moment) -> Plan:
    return range(100), [Stage(moment.come, workers=4)], RecordingSink()


def inline_call(moment: Moment) -> Plan:
    return range(100), [Stage(moment.come, kind="inline")], RecordingSink()


def async_call_waits(moment: Moment) -> Plan:
    async def call(item: int) -> None:
        moment.ask()
        await asyncio.sleep(3600)

    return range(100), [Stage(call, kind="async")], RecordingSink()


def async_call_blocks_its_loop(moment: Moment) -> Plan:
    async def call(item: int) -> None:
        moment.come()

    return range(100), [Stage(call, kind="async")], RecordingSink()


def async_call_refuses(moment: Moment) -> Plan:
    async def call(item: int) -> None:
        moment.ask()
        while not moment.gate.is_open:
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue

    return range(4), [Stage(call, kind="async", workers=4)], RecordingSink()


def process_call(moment: Moment, act: Callable[[], object]) -> Plan:
    meeting = moment.meeting

    def call(item: int) -> None:
        if item == 0:
            meeting.arrive()
        act()

    return range(100), [Stage(call, kind="process", workers=2)], RecordingSink()


def process_call_spins(moment: Moment) -> Plan:
    return process_call(moment, bad.spin)


def process_call_blocks_in_c(moment: Moment) -> Plan:
    return process_call(moment, bad.block_in_c)


def process_result_hangs(moment: Moment) -> Plan:
    meeting = moment.meeting

    class Slow:
        def __reduce__(self) -> Any:
            meeting.arrive()
            bad.sleep_for_ever()

    return range(100), [Stage(lambda item: Slow(), kind="process", workers=1)], RecordingSink()


def process_large_results(moment: Moment) -> Plan:
    """Both sides are in the middle of large messages."""
    meeting = moment.meeting

    def call(item: bytes) -> bytes:
        if item[0] == 9:
            meeting.arrive()
        return item * 2

    return ((bytes([at % 200]) * 4_000_000) for at in itertools.count()), [Stage(call, kind="process")], RecordingSink()


def fork_server_starts(moment: Moment) -> Plan:
    """A worker process never finishes loading the function."""
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


def thread_setup(moment: Moment) -> Plan:
    return range(100), [Stage(lambda item, resource: item, setup=moment.come, workers=2)], RecordingSink()


def inline_setup(moment: Moment) -> Plan:
    return range(100), [Stage(lambda item, resource: item, kind="inline", setup=moment.come)], RecordingSink()


def process_setup(moment: Moment) -> Plan:
    meeting = moment.meeting

    def setup() -> None:
        meeting.arrive()
        bad.sleep_for_ever()

    return range(100), [Stage(lambda item, resource: item, kind="process", setup=setup, workers=1)], RecordingSink()


def backoff(moment: Moment) -> Plan:
    def call(item: int) -> None:
        moment.ask()
        raise ConnectionError("later")

    retry = Retry(5, backoff=60, jitter=False)
    return range(4), [Stage(call, workers=2, retry=retry)], RecordingSink()


def inline_backoff(moment: Moment) -> Plan:
    def call(item: int) -> None:
        moment.ask()
        raise ConnectionError("later")

    return range(4), [Stage(call, kind="inline", retry=Retry(5, backoff=60, jitter=False))], RecordingSink()


def all_channels_full(moment: Moment) -> Plan:
    stages = [Stage(bad.tenfold), Stage(bad.same, kind="process", workers=2), Stage(moment.come, workers=1)]
    return range(100_000), stages, RecordingSink()


def sink_prepares(moment: Moment) -> Plan:
    return range(100), [Stage(bad.tenfold, kind="process")], StepSink("prepare", moment.ask)


def sink_opens(moment: Moment) -> Plan:
    return range(100), [Stage(bad.tenfold, kind="process")], StepSink("open", moment.come)


def sink_commits(moment: Moment) -> Plan:
    return range(100), [Stage(bad.tenfold, kind="process")], StepSink("commit", moment.come)


PHASES = [
    source_prepares,
    source_blocks,
    source_never_ends,
    thread_setup,
    thread_call,
    inline_setup,
    inline_call,
    async_call_waits,
    async_call_blocks_its_loop,
    async_call_refuses,
    fork_server_starts,
    process_setup,
    process_call_spins,
    process_call_blocks_in_c,
    process_result_hangs,
    process_large_results,
    backoff,
    inline_backoff,
    all_channels_full,
    sink_prepares,
    sink_opens,
    sink_commits,
]
IN_A_PROCESS = {
    fork_server_starts,
    process_setup,
    process_call_spins,
    process_call_blocks_in_c,
    process_result_hangs,
    process_large_results,
}


LATE = {
    "sink finishes": lambda moment: (range(9), [Stage(bad.tenfold)], StepSink("finish", moment.come)),
    "sink closes": lambda moment: (range(9), [Stage(bad.tenfold)], StepSink("close", moment.come)),
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
    "process teardown": lambda moment: (range(9), [hanging_teardown(moment.meeting)], RecordingSink()),
}


def hanging_teardown(meeting: Meeting) -> Stage:
    def teardown(resource: int) -> None:
        meeting.arrive()
        bad.sleep_for_ever()

    return Stage(lambda item, _: item, kind="process", workers=1, setup=int, teardown=teardown)
