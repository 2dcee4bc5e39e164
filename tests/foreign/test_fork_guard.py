"""A forked child ends inside the guard, as an ordinary program would."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from airflow_parallel_provider import ListSink
from airflow_parallel_provider.engine.functions.calls import run_calls
from airflow_parallel_provider.engine.functions.status_page import PAGE_WORDS
from airflow_parallel_provider.engine.interfaces.records import ChunkResult
from airflow_parallel_provider.engine.plan.retry import Retry
from airflow_parallel_provider.foreign.fork_guard import guarded
from airflow_parallel_provider.rows.validate import validate_rows
from airflow_parallel_provider.sources.http.page import Page, value_at
from airflow_parallel_provider.sources.queue.queue_source import AcknowledgingSink


def exit_of(child: Callable[[], object]) -> int:
    """The exit code of a forked process that calls a guarded function; it must not come back from there."""

    def fork() -> int:
        pid = os.fork()
        if pid == 0:
            child()
        return pid

    me = os.getpid()
    pid = guarded(fork)()
    if os.getpid() != me:  # pragma: no cover - what the guard prevents
        os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def exit_with(code: object) -> Callable[[], NoReturn]:
    def leave() -> NoReturn:
        sys.exit(code)  # type: ignore[arg-type]

    return leave


def raise_value() -> NoReturn:
    raise ValueError("the child's")


@pytest.mark.parametrize(
    ("child", "code"),
    [
        (lambda: None, 0),
        (exit_with(None), 0),
        (exit_with(7), 7),
        (exit_with("no more"), 1),
        (raise_value, 1),
    ],
)
def test_exit_code_is_that_of_a_program(child: Callable[[], object], code: int) -> None:
    assert exit_of(child) == code


def test_what_the_child_says_at_its_end_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    exit_of(lambda: sys.stdout.write("said"))
    exit_of(exit_with("no more"))
    exit_of(raise_value)

    out, err = capfd.readouterr()
    assert out == "said"
    assert err.startswith("no more\nTraceback")
    assert err.endswith("ValueError: the child's\n")


class Forking(ListSink):
    """Forks where a user's code does; a child that comes back from there exits with 99."""

    def __init__(self) -> None:
        super().__init__()
        self.pids: list[int] = []

    def __call__(self, *_: object) -> None:
        self.pids.append(os.fork())

    def commit(self, chunk: Any) -> int:
        self()
        return 0


def in_validate(forking: Forking) -> object:
    return validate_rows(forking, [{"id": 1}], None)


def in_a_model(forking: Forking) -> object:
    pydantic = pytest.importorskip("pydantic")

    class Row(pydantic.BaseModel):  # type: ignore[name-defined,misc]  # untyped where it is not installed
        id: int

        def model_post_init(self, context: Any, /) -> None:
            forking()

    return validate_rows(Row, [{"id": 1}], None)


def in_items_of_a_page(forking: Forking) -> object:
    return value_at(Page([], None, "", "page 1"), forking)


def in_the_sink_of_a_queue(forking: Forking) -> object:
    class Source:
        def message_ids(self, positions: range) -> list[str]:
            return []

        def acknowledge(self, positions: range) -> None:
            if os.getpid() != ME:
                os._exit(99)

    chunk = ChunkResult("0", 0, 0, 0, 0, [], [])
    return AcknowledgingSink(forking, Source()).commit(chunk)  # type: ignore[arg-type]


ME = os.getpid()


@pytest.mark.parametrize("run", [in_validate, in_a_model, in_items_of_a_page, in_the_sink_of_a_queue])
def test_a_child_does_not_come_back_from_code_of(run: Callable[[Forking], object]) -> None:
    forking = Forking()

    run(forking)

    if os.getpid() != ME:  # pragma: no cover - what the guard prevents
        os._exit(99)
    (pid,) = forking.pids
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_the_calls_after_the_fork_are_made_once() -> None:
    """In the child the loop ends without a look at the process id before each call."""
    read, write = os.pipe()

    def call(value: int) -> int:
        os.write(write, b"%d" % value)
        if value == 3:
            pid = os.fork()
            if pid:
                os.waitpid(pid, 0)
        return value

    for page in ([0] * PAGE_WORDS, memoryview(bytearray(8 * PAGE_WORDS)).cast("Q")):
        outcome = run_calls(call, range(7), batched=False, retry=Retry(), page=page)
        assert outcome.results == list(range(7))
    os.close(write)

    assert os.read(read, 100) == b"0123456" * 2
    os.close(read)
