# SPDX-License-Identifier: Apache-2.0
"""A thread worker: calls the stage's function on its own thread.

A thread cannot be killed. When a call passes the stage's ``timeout``, the coordinating thread abandons the worker and
starts a replacement. The replacement settles the finished calls of the abandoned dispatch, fails the stuck one and puts
the others back. The stuck thread is left behind; whatever it returns later is ignored.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_parallel_provider.engine.dataflow.channel import END, ChannelBroken, Dispatch
from airflow_parallel_provider.engine.functions.calls import run_calls
from airflow_parallel_provider.engine.functions.outcome import Outcome, describe_error
from airflow_parallel_provider.engine.functions.status_page import BEGAN_NS, CALL, LIMIT, PAGE_WORDS
from airflow_parallel_provider.engine.functions.worker_code import BoundFunction
from airflow_parallel_provider.engine.workers.base import Stopwatch, Worker, WorkerSupervisor, timeout_failure
from airflow_parallel_provider.errors import SetupFailed

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.stages.stage_run import StageRun


@dataclass(frozen=True, slots=True)
class AbandonedDispatch:
    """The dispatch of an abandoned thread worker."""

    dispatch: Dispatch
    outcome: Outcome
    """How the calls before the stuck one ended."""
    stuck: int
    """Number of the stuck call in the dispatch."""
    seconds: float
    """How long the stuck call had been running."""


class ThreadWorker(Worker):
    """Serves one stage on one thread.

    :param takes_over: the dispatch of the abandoned worker that this one replaces.
    """

    leftover: AbandonedDispatch | None

    def __init__(
        self,
        stage: StageRun,
        number: int,
        supervisor: WorkerSupervisor,
        takes_over: AbandonedDispatch | None = None,
    ) -> None:
        super().__init__(stage, number, supervisor)
        self._takes_over = takes_over
        self._lock = threading.Lock()
        self._page = [0] * PAGE_WORDS
        self._dispatch: Dispatch | None = None
        self._outcome = Outcome()
        self._setup_began: float | None = None

    def serve(self) -> None:
        """Settle what it takes over, set up, then make the calls of one dispatch after the other."""
        if self._takes_over is not None:
            self._settle_abandoned(self._takes_over)
        bound = self._set_up()
        function, watch = self.stage.function, Stopwatch()
        while True:
            watch.lap()
            dispatch = self.stage.get()
            self.stage.waited_for_work(watch.lap(), self.metrics)
            if dispatch is None or dispatch is END:
                break
            values = (
                dispatch[0].values if len(dispatch) == 1 else [value for bundle in dispatch for value in bundle.values]
            )
            outcome = Outcome()
            with self._lock:
                self._page[CALL], self._page[BEGAN_NS] = 0, time.monotonic_ns()
                self._dispatch, self._outcome = dispatch, outcome
            cpu = time.thread_time()
            run_calls(
                bound.call, values, batched=function.batched, retry=function.retry, page=self._page, outcome=outcome
            )
            cpu = time.thread_time() - cpu
            with self._lock:
                if self.abandoned:
                    return
                self._dispatch = None
            self.stage.metrics.computed(cpu)
            self.metrics.cpu += cpu
            if len(outcome.nanoseconds) < len(values):  # cut short, because the run is being torn down
                raise ChannelBroken
            self.stage.settle(dispatch, outcome, self.metrics)
        self._tear_down(bound)

    def _set_up(self) -> BoundFunction:
        attempt = 0
        while True:
            self._setup_began = time.monotonic()
            try:
                return self.stage.function.bind()
            except BaseException as error:  # noqa: BLE001 - whatever setup raises is reported, and setup tried again
                attempt += 1
                self.setup_failed(describe_error(error), attempt)
            finally:
                self._setup_began = None

    def _tear_down(self, bound: BoundFunction) -> None:
        if bound.teardown is None:
            return
        try:
            bound.teardown()
        except BaseException as error:  # noqa: BLE001 - the items are done; the run must not fail now
            failure = describe_error(error)
            self.context.warn(f"stage {self.stage.stage.name}: teardown failed: {failure.error}: {failure.message}")

    def check(self, now: float) -> float | None:
        """Abandon the worker when its running call has passed the deadline."""
        setup_began = self._setup_began
        if setup_began is not None:
            return self._check_setup(setup_began, now)
        timeout = self.stage.stage.timeout
        if timeout is None or self.abandoned:
            return None
        with self._lock:
            if self._dispatch is None:
                return now + timeout
            number = self._page[CALL]
            running = time.monotonic() - self._page[BEGAN_NS] / 1e9
            if running < timeout:
                return now + timeout - running
            if self._page[CALL] != number:  # it has just ended; the next call is not late
                return now + timeout
            self.abandoned = True
            self._page[LIMIT] = number + 1  # if it does return, it makes no further call
            self.leftover = AbandonedDispatch(self._dispatch, self._outcome.first(number), number, running)
        self.supervisor.replace(self)
        return None

    def interrupt(self) -> None:
        """The run is being torn down: make no further call."""
        self._page[LIMIT] = 1

    def _check_setup(self, began: float, now: float) -> float | None:
        limit = self.stage.stage.setup_timeout
        if now - began < limit:
            return began + limit
        name = self.stage.stage.name
        self.context.fail(SetupFailed(f"stage {name}: setup took longer than setup_timeout={limit:g} s"))
        return None

    def _settle_abandoned(self, abandoned: AbandonedDispatch) -> None:
        """Settle the finished calls of an abandoned worker, fail the stuck one, put the others back."""
        batched, at = self.stage.stage.batched, 0
        done: Dispatch = []
        stuck_call = None
        for bundle in abandoned.dispatch:
            for number in range(len(bundle.values)):
                call = bundle.one(number, batched=batched)
                if at < abandoned.stuck:
                    done.append(call)
                elif at == abandoned.stuck:
                    stuck_call = call
                else:
                    self.stage.put_back(call)
                at += 1
        if stuck_call is not None:
            self.stage.call_failed(stuck_call, 0, timeout_failure(self.stage, abandoned.seconds), self.metrics)
        if done:
            self.stage.settle(done, abandoned.outcome, self.metrics)
