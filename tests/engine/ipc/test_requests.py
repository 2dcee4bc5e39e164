"""Requests to the task process: from any thread, from the fork server while it imports; a dead worker blocks none."""

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
from airflow_parallel_provider.engine.functions.import_scan import imported_modules
from airflow_parallel_provider.engine.ipc import requests
from airflow_parallel_provider.engine.ipc.requests import NoResponse, RequestServer, request
from airflow_parallel_provider.engine.plan.worker_hooks import RequestHandler, WorkerHooks
from airflow_parallel_provider.errors import SetupFailed
from tests.support.sync import WAIT_SECONDS


def shout(payload: bytes) -> bytes:
    if payload == b"refuse":
        raise ValueError("no such thing")
    return payload.upper()


@pytest.fixture
def asker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[RequestHandler], RequestServer]]:
    """Starts a request server, and lets this process send requests to it as a worker does."""
    desks: list[RequestServer] = []
    monkeypatch.setattr(requests, "_server", None)

    def open_desk(answer: RequestHandler) -> RequestServer:
        desks.append(RequestServer(answer))
        requests.connect(os.dup(desks[-1].fd))
        return desks[-1]

    yield open_desk
    for request_server in desks:
        request_server.close()
    assert requests._server is not None
    requests._server.close()


def test_every_thread_gets_its_own_answer(asker: Callable[..., RequestServer]) -> None:
    asker(shout)

    with ThreadPoolExecutor(8) as pool:
        asked = [f"{number} {'x' * 300 * number}".encode() for number in range(100)]
        assert list(pool.map(request, asked)) == [each.upper() for each in asked]


def test_large_question_and_answer(asker: Callable[..., RequestServer]) -> None:
    asker(lambda payload: payload * 2)

    assert len(request(b"x" * 3_000_000)) == 6_000_000


def test_request_without_a_response_is_reported_and_the_next_one_answered(
    asker: Callable[..., RequestServer], caplog: pytest.LogCaptureFixture
) -> None:
    asker(shout)

    with pytest.raises(NoResponse):
        request(b"refuse")

    assert "no such thing" in caplog.text
    assert request(b"again") == b"AGAIN"


def test_asker_that_dies_in_the_middle_holds_up_nobody(asker: Callable[..., RequestServer]) -> None:
    request_server = asker(shout)
    for part in (b"", b"\x09\0\0\0\0\0\0\0half"):
        ours, theirs = socket.socketpair()
        with ours, theirs, socket.socket(fileno=os.dup(request_server.fd)) as line:
            socket.send_fds(line, [b"?"], [theirs.fileno()])
            ours.sendall(part)

    assert request(b"next") == b"NEXT"


def test_closed_desk_answers_nobody(asker: Callable[..., RequestServer], monkeypatch: pytest.MonkeyPatch) -> None:
    busy, release = threading.Event(), threading.Event()

    def slow(payload: bytes) -> bytes:
        busy.set()
        release.wait(WAIT_SECONDS)
        return payload

    request_server = asker(slow)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(request, b"first")
        assert busy.wait(WAIT_SECONDS)
        second = pool.submit(request, b"second")
        closing = threading.Thread(target=request_server.close)
        closing.start()
        closing.join(WAIT_SECONDS / 2)
        assert not closing.is_alive(), "closing waits for an answer that may never come"
        release.set()
        assert first.result(WAIT_SECONDS) == b"first"
        with pytest.raises(NoResponse):
            second.result(WAIT_SECONDS)
    monkeypatch.setattr(request_server, "close", lambda: None)


def test_without_a_line_there_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "_server", None)

    assert not requests.connected()
    with pytest.raises(NoResponse, match="not connected"):
        request(b"anything")


# -- in real worker processes -------------------------------------------------------------------------------------


def whisper(value: int) -> tuple[int, str]:
    with ThreadPoolExecutor(3) as pool:
        answers = {each.decode() for each in pool.map(request, [f"{value}".encode() + b"a"] * 3)}
    return value, answers.pop()


def ask_in_setup() -> str:
    return request(b"setup").decode()


def with_setup(value: int, told: str) -> tuple[int, str]:
    return value, told


def remember(what: dict[str, str]) -> None:
    os.environ.update({name: f"{value} {request(b'begin').decode()}" for name, value in what.items()})


def look(value: int) -> str:
    return f"{os.environ['REMEMBERED']} {'colorsys' in sys.modules}"


def run(stage: Stage, host: WorkerHooks, items: int = 20) -> list[Any]:
    sink = ListSink()
    Pipeline(range(items), [stage], sink, chunk_size=5, ordered=True, worker_hooks=host).run()
    return sink.rows


def test_workers_ask_while_their_functions_run() -> None:
    rows = run(Stage(whisper, kind="process", workers=2), WorkerHooks(handle_request=shout))

    assert rows == [(number, f"{number}A") for number in range(20)]


def test_workers_ask_in_setup() -> None:
    stage = Stage(with_setup, kind="process", workers=1, setup=ask_in_setup)

    assert run(stage, WorkerHooks(handle_request=shout), 2) == [(0, "SETUP"), (1, "SETUP")]


def test_begin_may_ask_and_preload_is_done_once_before_the_workers() -> None:
    told: list[frozenset[str]] = []

    def preload(wanted: frozenset[str]) -> list[str]:
        told.append(wanted)
        return ["colorsys:hls_to_rgb", "no_such_module", "os:no_such_name"]

    host = WorkerHooks(on_start=partial(remember, {"REMEMBERED": "yes"}), handle_request=shout, preload=preload)

    assert run(Stage(look, kind="process", workers=1), host, 1) == ["yes BEGIN True"]
    assert told == [frozenset({"os", "sys"})]


def fail() -> None:
    raise OSError("not today")


def test_begin_that_fails_fails_the_run() -> None:
    with pytest.raises(SetupFailed, match="cannot start: OSError: not today"):
        run(Stage(look, kind="process", workers=1), WorkerHooks(on_start=fail))


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
    found = imported_modules([Stage(late)])

    assert {"colorsys", "wave", "wave:Wave_read", "chunk", "airflow_parallel_provider.engine.pipeline"} <= found


def test_methods_of_a_stage_class_are_looked_into() -> None:
    assert "colorsys" in imported_modules([Stage(AStage)])
    assert "colorsys" in imported_modules([Stage(AStage())])
