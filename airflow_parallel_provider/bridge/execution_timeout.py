"""Keeps Airflow's ``execution_timeout`` from striking in the middle of a conversation with Airflow."""

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
    """Let a SIGALRM that comes inside the block take effect at its end, or ``seconds`` after it came.

    Airflow raises ``execution_timeout`` from a SIGALRM handler. Raised between a request to the supervisor and its
    answer, it leaves the answer in the socket, and since answers are not matched with requests everything the task asks
    afterwards gets the answer to the question before. An answer takes some 20 ms, so a time-out is late by that much;
    if Airflow does not answer at all, the time-out wins after ``seconds``.

    Outside the main thread, where handlers cannot be changed and none run, it does nothing.
    """
    handler = signal.getsignal(signal.SIGALRM) if threading.current_thread() is threading.main_thread() else None
    if not callable(handler):
        yield
        return
    came = False
    struck = False

    def postpone(number: int, frame: FrameType | None) -> None:
        nonlocal came, struck
        if came:
            struck = True
            handler(number, frame)
        came = True
        signal.setitimer(signal.ITIMER_REAL, seconds)

    signal.signal(signal.SIGALRM, postpone)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, handler)
        if came:
            signal.setitimer(signal.ITIMER_REAL, 0)
            if not struck:
                handler(signal.SIGALRM, None)
