"""Lets the threads of a pipeline ask Airflow for connections and Variables as if each were alone."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.bridge import _compat
from airflow_parallel_provider.bridge.execution_timeout import timeout_postponed

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME = _compat.COMMS

_of_a_pipeline: ContextVar[bool] = ContextVar("airflow_parallel_provider_thread", default=False)
"""True on the threads of a pipeline (the engine hands its context variables on), False while Airflow answers one."""


class LockedComms:
    """The task's line to its supervisor, one conversation at a time.

    Needed twice. Airflow 3.1 and 3.2.0 have no lock of their own, and two threads that ask at the same time get each
    other's answers, silently: also a thread that asks while another one pushes metrics. And in ``dags test``, on
    every version, see :func:`shared_with_threads`.
    """

    def __init__(self, comms: Any) -> None:
        self.line = comms
        self._lock = threading.RLock()

    def send(self, *args: Any, **kwargs: Any) -> Any:
        """Ask, and wait for the answer; an ``execution_timeout`` of the main thread comes after it, or 3 s late."""
        with self._lock, timeout_postponed():
            token = _of_a_pipeline.set(False)
            try:
                return self.line.send(*args, **kwargs)
            finally:
                _of_a_pipeline.reset(token)

    async def asend(self, *args: Any, **kwargs: Any) -> Any:
        """Ask from an event loop."""
        return await asyncio.to_thread(self.send, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.line, name)


@contextlib.contextmanager
def shared_with_threads() -> Iterator[None]:
    """Make asking Airflow safe from all threads of the pipeline that runs inside the block.

    In ``dags test`` Airflow takes its global ``SUPERVISOR_COMMS`` away while it answers a question, so that the API
    server, which runs in the same process, does not ask itself. Another thread that looks for it just then is told that
    its connection is not defined. Inside the block such a thread finds the shared line and waits for its turn; the API
    server's threads, which are none of the pipeline's, still find nothing.

    The shared line stays when the block ends: a thread that was given up may still be using it.
    """
    module = _compat.task_runner_module()
    comms = getattr(module, _NAME, None)
    if module is None or comms is None:  # not in a task
        yield
        return
    shared = comms if isinstance(comms, LockedComms) else LockedComms(comms)

    def stand_in(name: str) -> Any:
        if name == _NAME and _of_a_pipeline.get():
            return shared
        raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

    names = vars(module)
    before = names.get("__getattr__")
    names[_NAME] = shared
    names["__getattr__"] = stand_in
    token = _of_a_pipeline.set(True)
    try:
        yield
    finally:
        _of_a_pipeline.reset(token)
        if before is None:
            del names["__getattr__"]
        else:
            names["__getattr__"] = before
