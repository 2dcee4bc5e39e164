# SPDX-License-Identifier: Apache-2.0
"""Keeps Airflow's ``execution_timeout`` from interrupting a request to the supervisor."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


@contextlib.contextmanager
def timeout_postponed(seconds: float = 3.0) -> Iterator[None]:
    """Postpone a SIGALRM that arrives inside the block to its end, but by ``seconds`` at most.

    Airflow raises ``execution_timeout`` from a SIGALRM handler. Raised between a request to the supervisor and its
    response, it leaves the response in the socket. Responses are not matched with requests, so every later request of
    the task would get the response to the one before. A response takes some 20 ms, so a timeout is late by that much.
    If Airflow does not respond at all, the timeout is raised after ``seconds``.

    Outside the main thread it does nothing: handlers cannot be changed there, and none run there.
    """
    handler = signal.getsignal(signal.SIGALRM) if threading.current_thread() is threading.main_thread() else None
    if not callable(handler):
        yield
        return
    postponed = False
    raised = False

    def postpone(number: int, frame: FrameType | None) -> None:
        nonlocal postponed, raised
        if postponed:
            raised = True
            handler(number, frame)
        postponed = True
        signal.setitimer(signal.ITIMER_REAL, seconds)

    signal.signal(signal.SIGALRM, postpone)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, handler)
        if postponed:
            signal.setitimer(signal.ITIMER_REAL, 0)
            if not raised:
                handler(signal.SIGALRM, None)
