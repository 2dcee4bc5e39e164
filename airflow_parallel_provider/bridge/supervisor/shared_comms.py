# SPDX-License-Identifier: Apache-2.0
"""Lets all threads of a pipeline send requests to the task's supervisor, one at a time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.bridge import _compat
from airflow_parallel_provider.bridge.supervisor.execution_timeout import timeout_postponed
from airflow_parallel_provider.engine.ipc.requests import NoResponse

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME = _compat.COMMS

_in_pipeline: ContextVar[bool] = ContextVar("airflow_parallel_provider_thread", default=False)
"""True on the threads of a pipeline (the engine passes its context variables on), False while Airflow serves one."""


class LockedComms:
    """The task's comms with its supervisor, one request at a time.

    Needed for two reasons. Airflow 3.1 and 3.2.0 have no lock of their own: two threads that send requests at the same
    time silently get each other's responses, also when one of them only pushes metrics. And ``dags test`` needs it in
    every version, see :func:`shared_with_threads`.
    """

    def __init__(self, comms: Any) -> None:
        self.comms = comms
        self._lock = threading.RLock()
        self._pid = os.getpid()

    def send(self, *args: Any, **kwargs: Any) -> Any:
        """Send a request and wait for the response.

        An ``execution_timeout`` of the main thread is raised after the response, or 3 s late.

        :raises NoResponse: in a process that was forked from the task process: two processes that read from one socket
            take each other's responses.
        """
        if os.getpid() != self._pid:
            raise NoResponse(
                "this process was forked by a stage's function in the task process, and cannot ask Airflow: look up "
                "connections and Variables before the fork, or use kind='process', whose children can ask"
            )
        with self._lock, timeout_postponed():
            token = _in_pipeline.set(False)
            try:
                return self.comms.send(*args, **kwargs)
            finally:
                _in_pipeline.reset(token)

    async def asend(self, *args: Any, **kwargs: Any) -> Any:
        """The same from an event loop."""
        return await asyncio.to_thread(self.send, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.comms, name)


@contextlib.contextmanager
def shared_with_threads() -> Iterator[None]:
    """Make requests to Airflow safe from all threads of the pipeline that runs inside the block.

    In ``dags test`` Airflow removes its global ``SUPERVISOR_COMMS`` while it serves a request, so that the API server,
    which runs in the same process, does not send requests to itself. Another thread that looks for the global at that
    moment gets the error that its connection is not defined. Inside the block such a thread finds the shared comms and
    waits for its turn. The threads of the API server do not belong to the pipeline and still find nothing.

    The shared comms stay when the block ends: a thread that was abandoned may still use them.
    """
    module = _compat.task_runner_module()
    comms = getattr(module, _NAME, None)
    if module is None or comms is None:  # not in a task
        yield
        return
    shared = comms if isinstance(comms, LockedComms) else LockedComms(comms)

    def find_shared(name: str) -> Any:
        if name == _NAME and _in_pipeline.get():
            return shared
        raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

    names = vars(module)
    before = names.get("__getattr__")
    names[_NAME] = shared
    names["__getattr__"] = find_shared
    token = _in_pipeline.set(True)
    try:
        yield
    finally:
        _in_pipeline.reset(token)
        if before is None:
            del names["__getattr__"]
        else:
            names["__getattr__"] = before
