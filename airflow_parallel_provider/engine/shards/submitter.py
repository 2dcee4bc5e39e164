# SPDX-License-Identifier: Apache-2.0
"""The thread that makes executors and submits shards to them; either may wait for a cluster that is gone."""

from __future__ import annotations

import contextvars
import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from functools import partial
from typing import Any

from airflow_parallel_provider.engine.shards.executors import MakeExecutor, close_executor, made_executor, plain_address
from airflow_parallel_provider.engine.shards.shipping import Outcome, is_terminal, outcome_of
from airflow_parallel_provider.foreign.errors import error_text

log = logging.getLogger("airflow_parallel_provider")

_CLOSING = 1.0
"""Seconds that closing an executor may take."""

Ended = Callable[[Outcome], object]
"""Called once with how a try of a shard has ended, on any thread."""


class Submitter:
    """Submits calls to an executor. One that breaks is made anew.

    :param on_plain_address: called with the address of a cluster to which everything travels in the clear.
    """

    def __init__(self, make: MakeExecutor, on_plain_address: Callable[[str], object]) -> None:
        self._make = make
        self._on_plain_address = on_plain_address
        self._executor: Any = None
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._futures: set[Any] = set()
        self._closed = False
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._serve,), name="parallel-submit", daemon=True)
        self._thread.start()

    def submit(self, call: tuple[Any, ...], ended: Ended) -> None:
        """Submit a call, soon.

        :param call: the function and its arguments.
        """
        self._calls.put(partial(self._submit, call, ended))

    def close(self, *, kill: bool) -> None:
        """Give the executor up; calls that have not begun are not made.

        :param kill: end the processes of a pool on this machine, too.
        """
        self._closed = True
        self._calls.put(partial(self._close, kill=kill))
        self._calls.put(None)
        self._thread.join(_CLOSING)  # if it waits for a cluster, it is left behind

    def _serve(self) -> None:
        while (act := self._calls.get()) is not None:
            act()

    def _submit(self, call: tuple[Any, ...], ended: Ended) -> None:
        if self._closed:
            return
        try:
            if self._executor is None:
                self._executor = made_executor(self._make)
                if (address := plain_address(self._executor)) is not None:
                    self._on_plain_address(address)
            future = self._executor.submit(*call)
        except Exception as error:  # noqa: BLE001 - of the author's executor: the try has failed
            self._drop(self._executor)
            ended(Outcome(False, f"it could not be submitted: {error_text(error)}", is_terminal(error)))
            return
        self._futures.add(future)
        future.add_done_callback(partial(self._done, self._executor, ended))

    def _done(self, executor: Any, ended: Ended, future: Any) -> None:
        """On a thread of the executor's."""
        self._futures.discard(future)
        try:
            outcome = outcome_of(future.result())
        except BaseException as error:  # noqa: BLE001 - CancelledError, too: the try has failed
            if isinstance(error, BrokenExecutor):
                self._calls.put(partial(self._drop, executor))
            outcome = Outcome(False, f"its worker was lost, or the executor failed: {error_text(error)}")
        ended(outcome)

    def _drop(self, executor: Any) -> None:
        if executor is not None and executor is self._executor:
            self._executor = None
            close_executor(executor, kill=True)

    def _close(self, *, kill: bool) -> None:
        executor, self._executor = self._executor, None
        for future in list(self._futures):
            try:
                future.cancel()
            except Exception:
                log.info("A shard could not be cancelled", exc_info=True)
        if executor is not None:
            close_executor(executor, kill=kill)
