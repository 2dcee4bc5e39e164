# SPDX-License-Identifier: Apache-2.0
"""Turns Ctrl-C and SIGTERM into a stop request."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Self

from airflow_parallel_provider.engine.interfaces.stop import StopToken

_NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


class Interrupts:
    """Inside its block the first signal sets the stop token; the second one raises ``KeyboardInterrupt``."""

    def __init__(self) -> None:
        self.token = StopToken()
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    @property
    def exit_code(self) -> int:
        """128 plus the signal's number, as in a shell; 0 when no signal came."""
        return 0 if self.received is None else 128 + self.received

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in _NAMES}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = number
        self.token.stop(_NAMES[signal.Signals(number)])
