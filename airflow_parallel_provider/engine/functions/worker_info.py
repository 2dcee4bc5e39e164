# SPDX-License-Identifier: Apache-2.0
"""Which worker of its stage a function is called by: the same in threads, worker processes, coroutines and inline."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar, Token
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """One worker of a stage.

    ::

        class Score:
            def setup(self):
                self.model = load_model(device=f"cuda:{get_worker_info().index}")
    """

    stage: str
    """Name of the stage."""
    index: int
    """From 0 to ``count - 1``. No two workers of a stage that work at a time have the same one, and a worker that takes
    the place of another has that one's index: after its death, a timeout, ``worker_lifespan`` or ``memory_limit``."""
    count: int
    """Most workers of the stage on this machine; with ``workers=(min, max)`` and ``"auto"`` there may be fewer now."""


_of_context: ContextVar[WorkerInfo | None] = ContextVar("worker_info", default=None)
_of_process: WorkerInfo | None = None


def get_worker_info() -> WorkerInfo:
    """The worker that makes the present call. For a stage's function, its ``setup`` and its ``teardown``.

    Each shard of a load counts its own workers. In an async stage the workers are its coroutines; ``setup``, which is
    called once for all of them, sees index 0.

    Known limitation: for the moment in which a successor is set up (``worker_lifespan``, ``memory_limit``), and while
    a thread that exceeded its ``timeout`` goes on, two workers have one index. A thread that a function of a thread or
    async stage starts itself has no worker: hand the value to it.

    :raises LookupError: outside a stage; a test uses :func:`worker_info_is`.
    """
    info = _of_context.get() or _of_process
    if info is None:
        raise LookupError("no worker of a stage runs here; in a test use `with worker_info_is(WorkerInfo(...)):`")
    return info


@contextlib.contextmanager
def worker_info_is(info: WorkerInfo) -> Iterator[None]:
    """Make :func:`get_worker_info` return ``info`` inside the block, on this thread; for tests of stage functions."""
    token = enter_worker(info)
    try:
        yield
    finally:
        leave_worker(token)


def enter_worker(info: WorkerInfo) -> Token[WorkerInfo | None]:
    """From now on this context is that of a worker."""
    return _of_context.set(info)


def leave_worker(token: Token[WorkerInfo | None]) -> None:
    """Undo :func:`enter_worker`."""
    _of_context.reset(token)


def keep_worker_info(info: WorkerInfo) -> None:
    """From now on every thread of this process belongs to a worker; for worker processes, which serve one only."""
    global _of_process
    _of_process = info
