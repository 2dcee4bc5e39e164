"""What workers print and log: line by line to the log, and the relay ends whatever the workers left behind."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_parallel_provider import ListSink, Stage
from airflow_parallel_provider.engine.processes import output_relay, worker_log
from airflow_parallel_provider.engine.processes.output_relay import OutputRelay
from airflow_parallel_provider.engine.processes.worker_log import RATE, SocketLogHandler
from tests.support.fakes import FakeTime
from tests.support.running import run_pipeline
from tests.support.sync import WAIT_SECONDS, Gate, in_background


class Pipe:
    """A relay and the writing end of its pipe."""

    def __init__(self) -> None:
        reader, self.writer = os.pipe()
        self.relay = OutputRelay(os.fdopen(reader, "rb", buffering=0))

    def write(self, data: bytes) -> None:
        os.write(self.writer, data)


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was logged."""
    seen: list[str] = []
    monkeypatch.setattr(output_relay.log, "info", lambda text, *values: seen.append(text % values))
    return seen


@pytest.fixture
def pipe(lines: list[str]) -> Iterator[Pipe]:
    made = Pipe()
    yield made
    os.close(made.writer)


def test_lines_are_passed_on_one_by_one(pipe: Pipe, lines: list[str]) -> None:
    pipe.write(b"one\ntwo\n\n  \nthr")
    pipe.write(b"ee\nfour")

    pipe.relay.close()

    assert lines == ["one", "two", "three", "four"]


def test_bytes_that_are_no_text_do_no_harm(pipe: Pipe, lines: list[str]) -> None:
    pipe.write(b"\xff\xfe broken\n")

    pipe.relay.close()

    assert lines == ["\ufffd\ufffd broken"]


def test_output_without_an_end_of_line_is_passed_on_in_pieces(pipe: Pipe, lines: list[str]) -> None:
    pipe.write(b"x" * 20_000)

    pipe.relay.close()

    assert len(lines) > 1
    assert "".join(lines) == "x" * 20_000


def test_the_end_of_the_pipe_ends_the_relay(lines: list[str]) -> None:
    pipe = Pipe()
    pipe.write(b"last words")
    os.close(pipe.writer)
    pipe.relay._thread.join(WAIT_SECONDS)

    assert not pipe.relay._thread.is_alive()
    pipe.relay.close()
    assert lines == ["last words"]


def test_what_was_printed_before_the_end_is_passed_on_however_late(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is slow, or the machine is: the time for last words is over when the relay comes to read them."""
    gate, lines = Gate(), list[str]()
    monkeypatch.setattr(output_relay, "LAST_SECONDS", -1.0)
    monkeypatch.setattr(output_relay.log, "info", lambda _, line: (gate.pass_through(), lines.append(line)))
    pipe.write(b"one\n")
    gate.wait_for_visitor()
    pipe.write(b"two\nthree\n")

    with in_background(pipe.relay.close):
        while not pipe.relay._closing:
            time.sleep(0.001)
        gate.open()
    pipe.relay._thread.join(WAIT_SECONDS)

    assert lines == ["one", "two", "three"]


class TimeIsOver(BaseException):
    """As ``execution_timeout`` is: raised by a signal handler, wherever the main thread is."""


def raise_it(number: int, frame: object) -> None:
    raise TimeIsOver


def test_closing_that_was_cut_short_can_be_done_again(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for a log that takes its time, and there the time of the task is over: then all is closed once more."""
    gate = Gate()
    monkeypatch.setattr(output_relay.log, "info", lambda *_: gate.pass_through())
    pipe.write(b"line\n")

    def strike() -> None:
        gate.wait_for_visitor()
        with contextlib.suppress(OSError):
            while True:  # as long as the call has not come to where it waits
                os.fstat(pipe.relay._waker)
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, raise_it)
    try:
        with in_background(strike), pytest.raises(TimeIsOver):
            pipe.relay.close()
    finally:
        signal.signal(signal.SIGUSR1, before)
        gate.open()

    pipe.relay.close()

    assert not pipe.relay._thread.is_alive()


def test_the_relay_ends_although_a_grandchild_holds_the_pipe(lines: list[str]) -> None:
    reader, writer = os.pipe()
    grandchild = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=writer)
    os.close(writer)
    relay = OutputRelay(os.fdopen(reader, "rb", buffering=0))

    relay.close()
    relay._thread.join(WAIT_SECONDS)

    assert not relay._thread.is_alive()
    assert grandchild.poll() is None, "it still holds the pipe"
    grandchild.kill()
    grandchild.communicate()


def test_the_relay_ends_although_a_grandchild_never_stops_printing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipe is never empty: with every line that is passed on another one comes."""
    reader, writer = os.pipe()
    printing, reached, errors = True, threading.Event(), list[object]()

    def print_more(*_: object) -> None:
        if printing:
            os.write(writer, b"and another one\n")
        reached.set()

    monkeypatch.setattr(output_relay.log, "info", print_more)
    monkeypatch.setattr(threading, "excepthook", errors.append)
    relay = OutputRelay(os.fdopen(reader, "rb", buffering=0))
    os.write(writer, b"the first one\n")
    assert reached.wait(WAIT_SECONDS)

    relay.close()
    relay._thread.join(WAIT_SECONDS)
    ended = not relay._thread.is_alive()
    printing = False
    relay._thread.join(WAIT_SECONDS)
    os.close(writer)

    assert ended
    assert errors == [], "it ended by itself"


# -- log records of workers -------------------------------------------------------------------------------------------


class Sent(list[tuple[int, str, str, int]]):
    """What a worker's handler has sent."""

    def send(self, payload: bytes) -> None:
        self.append(pickle.loads(payload))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    fake = FakeTime()
    monkeypatch.setattr(worker_log, "time", fake)
    return fake


def record(text: str = "hello", *values: Any) -> logging.LogRecord:
    return logging.LogRecord("user.code", logging.WARNING, "x.py", 1, text, values, None)


def test_a_record_is_sent_as_plain_text(clock: FakeTime) -> None:
    sent = Sent()

    SocketLogHandler(sent.send).handle(record("%d of %s", 3, object))

    assert sent == [(logging.WARNING, "user.code", "3 of <class 'object'>", 0)]


def test_a_flood_is_cut_and_the_next_record_says_by_how_much(clock: FakeTime) -> None:
    sent = Sent()
    handler = SocketLogHandler(sent.send)
    for _ in range(int(RATE) + 50):
        handler.handle(record())
    assert len(sent) == RATE

    clock.advance(0.05)
    handler.handle(record("again"))

    assert sent[-1] == (logging.WARNING, "user.code", "again", 50)


def test_the_rate_is_kept_over_time(clock: FakeTime) -> None:
    sent = Sent()
    handler = SocketLogHandler(sent.send)

    for _ in range(1000):
        handler.handle(record())
        clock.advance(0.001)

    assert len(sent) == pytest.approx(2 * RATE, abs=2), "the burst, and a second's worth"


def test_a_record_that_cannot_be_shown_is_counted_as_dropped(clock: FakeTime) -> None:
    sent = Sent()
    handler = SocketLogHandler(sent.send)

    handler.handle(record("%d", "no number"))
    handler.handle(record("fine"))

    assert sent == [(logging.WARNING, "user.code", "fine", 1)]


def test_logging_inside_of_sending_does_not_go_round_in_circles(clock: FakeTime) -> None:
    count = 0

    def send(payload: bytes) -> None:
        nonlocal count
        count += 1
        handler.emit(record("about the sending"))

    handler = SocketLogHandler(send)
    handler.emit(record())

    assert count == 1


def test_a_socket_that_is_gone_does_not_fail_the_item(clock: FakeTime) -> None:
    def send(payload: bytes) -> None:
        raise BrokenPipeError

    SocketLogHandler(send).handle(record())


def test_long_texts_are_cut(clock: FakeTime) -> None:
    sent = Sent()

    SocketLogHandler(sent.send).handle(record("x" * 50_000))

    assert len(sent[0][2]) == 8000


# In an earlier version the text arrived as "INFO:units.flood:record number 0", with level and name a second time.
def test_a_record_of_a_worker_reads_as_it_was_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        run_pipeline([1], [Stage(log_much, kind="process", workers=1)], ListSink())

    (logged,) = [each for each in caplog.records if each.name == "units.flood"]
    assert logged.levelno == logging.INFO
    assert logged.getMessage() == "[log_much/1] record number 0"


# An earlier version reported drops with the next record that passed, so it never reported those after the last one.
def test_what_a_worker_logs_can_be_stored(caplog: pytest.LogCaptureFixture) -> None:
    sent = pickle.dumps((logging.INFO, "shop", "half \ud83d, NUL \x00, \x1b[31mred", 0))

    with caplog.at_level(logging.INFO):
        worker_log.log_record(sent, "w-0", str)

    assert caplog.messages == ["[w-0] half \\ud83d, NUL \\x00, \x1b[31mred"]


def test_every_record_of_a_worker_is_passed_on_or_counted_as_dropped(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        run_pipeline([2000], [Stage(log_much, kind="process", workers=1)], ListSink())

    messages = [each.getMessage() for each in caplog.records]
    passed = sum("record number" in text for text in messages)
    dropped = sum(int(text.split()[1]) for text in messages if "were dropped" in text)
    assert 0 < passed < 2000
    assert passed + dropped == 2000


def log_much(count: int) -> int:
    """All within one moment, so that no allowance grows back."""
    worker_log.__dict__["time"] = FakeTime(time.monotonic())  # in the worker process only
    logger = logging.getLogger("units.flood")
    for number in range(count):
        logger.info("record number %d", number)
    return count
