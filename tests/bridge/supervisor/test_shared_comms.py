"""Threads of a pipeline share the one line to Airflow's supervisor."""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from airflow_parallel_provider.bridge import _compat
from airflow_parallel_provider.bridge.supervisor.shared_comms import LockedComms, shared_with_threads
from airflow_parallel_provider.engine.ipc.requests import NoResponse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MODULE = "airflow.sdk.execution_time.task_runner"


class OldComms:
    """As in Airflow 3.1: request out, next frame in, no lock. Two at a time get each other's answers."""

    def __init__(self) -> None:
        self._frames: list[Any] = []
        self._inside = 0
        self.most_inside = 0
        self.socket = "the socket"

    def send(self, msg: Any) -> Any:
        self._inside += 1
        self.most_inside = max(self.most_inside, self._inside)
        self._frames.append(f"answer to {msg}")
        threading.Event().wait(0.0005)  # gives way to other threads, as reading a socket does
        self._inside -= 1
        return self._frames.pop(0) if self._inside == 0 else self._frames.pop()


class InProcessComms(OldComms):
    """As in ``dags test``: the module has no connection while it answers a request."""

    def __init__(self, module: ModuleType) -> None:
        super().__init__()
        self._module = module
        self.seen_by_api_server: list[bool] = []

    def send(self, msg: Any) -> Any:
        old = self._module.SUPERVISOR_COMMS
        del self._module.SUPERVISOR_COMMS
        try:
            api_server = threading.Thread(target=copy_context().run, args=(self._answer,))
            api_server.start()
            api_server.join()
            return super().send(msg)
        finally:
            self._module.SUPERVISOR_COMMS = old  # type: ignore[attr-defined]

    def _answer(self) -> None:
        self.seen_by_api_server.append(hasattr(self._module, "SUPERVISOR_COMMS"))


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    made = ModuleType(MODULE)
    monkeypatch.setitem(sys.modules, MODULE, made)
    return made


def ask(module: ModuleType, number: int) -> Any:
    """As Airflow's code does: look for the line when it is needed."""
    return module.SUPERVISOR_COMMS.send(number)


def in_threads(function: Callable[[int], Any], count: int = 60) -> list[Any]:
    """Call it on eight threads that have our context variables, as the engine's threads do."""

    def call(number: int) -> Any:
        return contexts[number].run(function, number)

    contexts = [copy_context() for _ in range(count)]
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(call, range(count)))


@pytest.fixture
def fast_switching() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("fast_switching")
def test_each_thread_gets_the_response_to_its_own_request(module: ModuleType) -> None:
    comms = OldComms()
    module.SUPERVISOR_COMMS = comms  # type: ignore[attr-defined]

    with shared_with_threads():
        answers = in_threads(lambda number: ask(module, number))

    assert answers == [f"answer to {number}" for number in range(60)]
    assert comms.most_inside == 1


@pytest.mark.usefixtures("fast_switching")
def test_dags_test_has_a_line_for_every_thread_and_none_for_the_api_server(module: ModuleType) -> None:
    comms = InProcessComms(module)
    module.SUPERVISOR_COMMS = comms  # type: ignore[attr-defined]

    with shared_with_threads():
        answers = in_threads(lambda number: ask(module, number))

    assert answers == [f"answer to {number}" for number in range(60)]
    assert comms.seen_by_api_server == [False] * 60


def test_second_pipeline_of_a_task_finds_out_as_well_as_the_first_who_looks_after_it(module: ModuleType) -> None:
    """A replay runs one for each stage. In ``dags test`` the parent process is a shell, whose end means nothing."""
    module.SUPERVISOR_COMMS = InProcessComms(module)  # type: ignore[attr-defined]
    with shared_with_threads():
        pass
    assert not _compat.has_supervisor_process()

    module.SUPERVISOR_COMMS = OldComms()  # type: ignore[attr-defined]
    with shared_with_threads():
        pass
    assert _compat.has_supervisor_process()


def test_other_callers_get_the_original_comms(module: ModuleType) -> None:
    module.SUPERVISOR_COMMS = OldComms()  # type: ignore[attr-defined]
    found = []

    with shared_with_threads():
        del module.SUPERVISOR_COMMS
        stranger = threading.Thread(target=lambda: found.append(hasattr(module, "SUPERVISOR_COMMS")))
        stranger.start()
        stranger.join()
        ours = hasattr(module, "SUPERVISOR_COMMS")
        with pytest.raises(AttributeError, match="no attribute 'anything'"):
            _ = module.anything

    assert (found, ours) == ([False], True)


def test_event_loop_may_ask(module: ModuleType) -> None:
    module.SUPERVISOR_COMMS = OldComms()  # type: ignore[attr-defined]

    async def ask_many() -> list[Any]:
        return await asyncio.gather(*(module.SUPERVISOR_COMMS.asend(number) for number in range(10)))

    with shared_with_threads():
        answers = asyncio.run(ask_many())

    assert answers == [f"answer to {number}" for number in range(10)]


def test_module_is_as_before_but_for_the_line(module: ModuleType) -> None:
    module.SUPERVISOR_COMMS = OldComms()  # type: ignore[attr-defined]

    with shared_with_threads():
        inner = module.SUPERVISOR_COMMS
        with shared_with_threads():
            assert module.SUPERVISOR_COMMS is inner

    assert "__getattr__" not in vars(module)
    assert isinstance(module.SUPERVISOR_COMMS, LockedComms)
    assert module.SUPERVISOR_COMMS.socket == "the socket"


def test_outside_a_task_nothing_happens(module: ModuleType) -> None:
    with shared_with_threads():
        assert not hasattr(module, "SUPERVISOR_COMMS")

    assert "__getattr__" not in vars(module)


def test_a_forked_process_of_the_task_cannot_ask() -> None:
    """It would take responses that are meant for the task process, from the socket that both hold."""
    shared = LockedComms(OldComms())
    answers = multiprocessing.get_context("fork").SimpleQueue()

    def ask() -> None:
        try:
            answers.put(shared.send("secret"))
        except NoResponse as error:
            answers.put(str(error))

    child = multiprocessing.get_context("fork").Process(target=ask)
    child.start()
    child.join()

    assert "look up connections and Variables before the fork" in answers.get()
    assert shared.send("mine") == "answer to mine"
