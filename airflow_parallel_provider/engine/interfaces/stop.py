# SPDX-License-Identifier: Apache-2.0
"""The stop token: one way to ask a run to end, from any thread or from a signal handler."""

from __future__ import annotations

import threading
from collections.abc import Callable


class StopToken:
    """Asks a run to stop, once, with a reason.

    Safe to use from any thread and from a signal handler (Airflow calls ``on_kill`` in one). It does not interrupt
    anything by itself: the run notices it and ends within five seconds.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self._reason = ""
        self._listeners: list[Callable[[], None]] = []

    @property
    def is_set(self) -> bool:
        """Whether the run has been asked to stop."""
        return self._event.is_set()

    @property
    def reason(self) -> str:
        """The reason; empty before :meth:`stop`."""
        return self._reason

    def stop(self, reason: str) -> None:
        """Ask the run to stop; only the first reason is kept."""
        if not self._reason:
            self._reason = reason or "no reason given"
        self._event.set()
        for listener in list(self._listeners):
            listener()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for :meth:`stop`, at most ``seconds``; return :attr:`is_set`."""
        return self._event.wait(seconds)

    def listen(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` when the token is set: quick, without a lock, because it may run in a signal handler."""
        self._listeners.append(listener)
        if self.is_set:
            listener()

    def forget(self, listener: Callable[[], None]) -> None:
        """Remove a listener."""
        if listener in self._listeners:
            self._listeners.remove(listener)
