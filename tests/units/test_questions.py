"""Workers ask the task process: any thread, the nursery while it imports, and nobody waits behind one that dies."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from airflow_parallel_provider import ListSink, Pipeline, Stage
from airflow_parallel_provider.engine.functions.import_scan import modules_wanted
from airflow_parallel_provider.engine.ipc import requests
from airflow_parallel_provider.engine.ipc.requests import NoAnswer, QuestionDesk, ask
from airflow_parallel_provider.engine.plan.worker_hooks import Answer, WorkerHost
from airflow_parallel_provider.errors import SetupFailed
from tests.support.sync import WAIT_SECONDS


def shout(question: bytes) -> bytes:
    if question == b"refuse":
        raise ValueError("no such thing")
    return question.upper()


@pytest.fixture
def asker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answer], QuestionDesk]]:
    """Opens a desk, and lets this process ask it as a worker does."""
    desks: list[QuestionDesk] = []
    monkeypatch.setattr(requests, "_line", None)

    def open_desk(answer: Answer) -> QuestionDesk:
        desks.append(QuestionDesk(answer))
        requests.connect(os.dup(desks[-1].fd))
        return desks[-1]

    yield open_desk
    for desk in desks:
        desk.close()
    assert requests._line is not None
    requests._line.close()


def test_every_thread_gets_its_own_answer(asker: Callable[..., QuestionDesk]) -> None:
    asker(shout)

    with ThreadPoolExecutor(8) as pool:
        asked = [f"{number} {'x' * 300 * number}".encode() for number in range(100)]
        assert list(pool.map(ask, asked)) == [each.upper() for each in asked]


def test_large_question_and_answer(asker: Callable[..., QuestionDesk]) -> None:
    asker(lambda question: question * 2)

    assert len(ask(b"x" * 3_000_000)) == 6_000_000


def test_question_without_answer_is_told_and_the_next_one_answered(
    asker: Callable[..., QuestionDesk], caplog: pytest.LogCaptureFixture
) -> None:
    asker(shout)

    with pytest.raises(NoAnswer):
        ask(b"refuse")

    assert "no such thing" in caplog.text
    assert ask(b"again") == b"AGAIN"


def test_asker_that_dies_in_the_middle_holds_up_nobody(asker: Callable[..., QuestionDesk]) -> None:
    desk = asker(shout)
    for part in (b"", b"\x09\0\0\0\0\0\0\0half"):
        ours, theirs = socket.socketpair()
        with ours, theirs, socket.socket(fileno=os.dup(desk.fd)) as line:
            socket.send_fds(line, [b"?"], [theirs.fileno()])
            ours.sendall(part)

    assert ask(b"next") == b"NEXT"


def test_closed_desk_answers_nobody(asker: Callable[..., QuestionDesk], monkeypatch: pytest.MonkeyPatch) -> None:
    busy, release = threading.Event(), threading.Event()

    def slow(question: bytes) -> bytes:
        busy.set()
        release.wait(WAIT_SECONDS)
        return question

    desk = asker(slow)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask, b"first")
        assert busy.wait(WAIT_SECONDS)
        second = pool.submit(ask, b"second")
        closing = threading.Thread(target=desk.close)
        closing.start()
        closing.join(WAIT_SECONDS / 2)
        assert not closing.is_alive(), "closing waits for an answer that may never come"
        release.set()
        assert first.result(WAIT_SECONDS) == b"first"
        with pytest.raises(NoAnswer):
            second.result(WAIT_SECONDS)
    monkeypatch.setattr(desk, "close", lambda: None)


def test_without_a_line_there_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "_line", None)

    assert not requests.connected()
    with pytest.raises(NoAnswer, match="no line"):
        ask(b"anything")


# -- in real worker processes -------------------------------------------------------------------------------------


def whisper(value: int) -> tuple[int, str]:
    with ThreadPoolExecutor(3) as pool:
        answers = {each.decode() for each in pool.map(ask, [f"{value}".encode() + b"a"] * 3)}
    return value, answers.pop()


def ask_in_setup() -> str:
    return ask(b"setup").decode()


def with_setup(value: int, told: str) -> tuple[int, str]:
    return value, told


def remember(what: dict[str, str]) -> None:
    os.environ.update({name: f"{value} {ask(b'begin').decode()}" for name, value in what.items()})


def look(value: int) -> str:
    return f"{os.environ['REMEMBERED']} {'colorsys' in sys.modules}"


def run(stage: Stage, host: WorkerHost, items: int = 20) -> list[Any]:
    sink = ListSink()
    Pipeline(range(items), [stage], sink, chunk_size=5, ordered=True, worker_host=host).run()
    return sink.rows


def test_workers_ask_while_their_functions_run() -> None:
    rows = run(Stage(whisper, kind="process", workers=2), WorkerHost(answer=shout))

    assert rows == [(number, f"{number}A") for number in range(20)]


def test_workers_ask_in_setup() -> None:
    stage = Stage(with_setup, kind="process", workers=1, setup=ask_in_setup)

    assert run(stage, WorkerHost(answer=shout), 2) == [(0, "SETUP"), (1, "SETUP")]


def test_begin_may_ask_and_preload_is_done_once_before_the_workers() -> None:
    told: list[frozenset[str]] = []

    def preload(wanted: frozenset[str]) -> list[str]:
        told.append(wanted)
        return ["colorsys:hls_to_rgb", "no_such_module", "os:no_such_name"]

    host = WorkerHost(begin=partial(remember, {"REMEMBERED": "yes"}), answer=shout, preload=preload)

    assert run(Stage(look, kind="process", workers=1), host, 1) == ["yes BEGIN True"]
    assert told == [frozenset({"os", "sys"})]


def fail() -> None:
    raise OSError("not today")


def test_begin_that_fails_fails_the_run() -> None:
    with pytest.raises(SetupFailed, match="cannot begin: OSError: not today"):
        run(Stage(look, kind="process", workers=1), WorkerHost(begin=fail))


# -- what functions want ----------------------------------------------------------------------------------------------


def late(value: int) -> Any:
    import colorsys
    from wave import Wave_read

    return colorsys, Wave_read, [helper(each) for each in range(value)]


def helper(value: int) -> Any:
    import chunk as something

    return something, Pipeline


class AStage:
    def setup(self) -> None:
        import colorsys

        self.module = colorsys

    def process(self, value: int) -> int:
        return value


def test_late_imports_and_globals_of_a_function_are_found() -> None:
    found = modules_wanted([Stage(late)])

    assert {"colorsys", "wave", "wave:Wave_read", "chunk", "airflow_parallel_provider.engine.pipeline"} <= found


def test_methods_of_a_stage_class_are_looked_into() -> None:
    assert "colorsys" in modules_wanted([Stage(AStage)])
    assert "colorsys" in modules_wanted([Stage(AStage())])
