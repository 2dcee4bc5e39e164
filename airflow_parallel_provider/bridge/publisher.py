"""Writes values where Airflow shows them. Never fails the task: figures about the work are not the work."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.bridge import _compat
from airflow_parallel_provider.bridge.alarm import alarm_postponed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow.sdk import Context

_PAUSE_AFTER_ERROR = 30.0

log = logging.getLogger(__name__)


class Publisher:
    """Pushes XComs and, where Airflow has one, writes to the task state store. Main thread only.

    After an error it keeps silent for half a minute: an API server in trouble is not helped by more requests, and each
    may hold up the main thread.

    :param context: the context that ``execute`` was given.
    :param clock: seconds; only tests give another one.
    """

    def __init__(self, context: Context | Mapping[str, Any], clock: Callable[[], float] = time.monotonic) -> None:
        self._ti: Any = context["ti"]
        self._state_store = _compat.task_state_store(context)
        self._clock = clock
        self._silent_until: dict[str, float] = {}

    def push(self, key: str, value: dict[str, Any]) -> None:
        """Push an XCom of this task instance; it can be seen at once, but the next try begins by deleting it."""
        self._try("XCom", lambda: self._ti.xcom_push(key=key, value=value))

    def store(self, key: str, value: dict[str, Any]) -> None:
        """Write to the task state store, which keeps it through retries; nothing happens where there is none."""
        store = self._state_store
        if store is not None:
            self._try("the task state store", lambda: store.set(key, value))

    def _try(self, where: str, write: Callable[[], object]) -> None:
        if self._clock() < self._silent_until.get(where, 0.0):
            return
        try:
            with alarm_postponed():
                write()
        except Exception as error:  # noqa: BLE001 - see the module's first line; a time-out is no Exception and passes
            self._silent_until[where] = self._clock() + _PAUSE_AFTER_ERROR
            log.warning("Metrics could not be written to %s: %s: %s", where, type(error).__name__, error)
