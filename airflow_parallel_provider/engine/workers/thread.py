"""A thread worker: calls the stage's function on its own thread.

A thread cannot be killed. When a call passes the stage's ``timeout`` the coordinating thread gives the worker up: the
finished calls of its hand are settled, the stuck one is charged, the rest goes back, and a new worker takes its place.
The stuck thread is left behind; whatever it returns later is thrown away.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from airflow_parallel_provider.engine.dataflow.channel import END, Dispatch
from airflow_parallel_provider.engine.functions.calls import run_calls
from airflow_parallel_provider.engine.functions.outcome import Outcome, describe_error
from airflow_parallel_provider.engine.functions.status_page import BEGAN_NS, CALL, LIMIT, PAGE_SLOTS
from airflow_parallel_provider.engine.functions.worker_code import BoundFunction
from airflow_parallel_provider.engine.workers.base import Stopwatch, Worker, WorkerSupervisor, timeout_failure
from airflow_parallel_provider.errors import SetupFailed

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.stages.stage_run import StageRun


class ThreadWorker(Worker):
    """Serves one stage on one thread.

    :param inherited: a hand another worker was given up with, what it had finished, and the number of the stuck call.
    """

    def __init__(
        self,
        stage: StageRun,
        number: int,
        supervisor: WorkerSupervisor,
        inherited: tuple[Dispatch, Outcome, int, float] | None = None,
    ) -> None:
        super().__init__(stage, number, supervisor)
        self._inherited = inherited
        self._lock = threading.Lock()
        self._page = [0] * PAGE_SLOTS
        self._dispatch: Dispatch | None = None
        self._outcome = Outcome()
        self._setting_up: float | None = None
        self.left: tuple[Dispatch, Outcome, int, float] | None = None

    def serve(self) -> None:
        """Settle what was inherited, set up, then take and settle hands."""
        if self._inherited is not None:
            self._settle_inherited(*self._inherited)
        live = self._set_up()
        code, watch = self.stage.function, Stopwatch()
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
            run_calls(live.call, values, batched=code.batched, retry=code.retry, page=self._page, outcome=outcome)
            cpu = time.thread_time() - cpu
            with self._lock:
                if self.abandoned:
                    return
                self._dispatch = None
            self.stage.metrics.computed(cpu)
            self.metrics.cpu += cpu
            self.stage.settle(dispatch, outcome, self.metrics)
        self._tear_down(live)

    def _set_up(self) -> BoundFunction:
        attempt = 0
        while True:
            self._setting_up = time.monotonic()
            try:
                return self.stage.function.bind()
            except BaseException as error:  # noqa: BLE001 - whatever setup raises is told and tried again
                attempt += 1
                self.setup_failed(describe_error(error), attempt)
            finally:
                self._setting_up = None

    def _tear_down(self, live: BoundFunction) -> None:
        if live.teardown is None:
            return
        try:
            live.teardown()
        except BaseException as error:  # noqa: BLE001 - the items are done; the run must not fail now
            failure = describe_error(error)
            self.context.warn(f"stage {self.stage.stage.name}: teardown failed: {failure.error}: {failure.message}")

    def check(self, now: float) -> float | None:
        """Give the worker up when its running call has passed the deadline."""
        setting_up = self._setting_up
        if setting_up is not None:
            return self._check_setup(setting_up, now)
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
            if self._page[CALL] != number:  # it has ended just now; the next one is not to blame
                return now + timeout
            self.abandoned = True
            self._page[LIMIT] = number + 1  # when it does come back it makes no further call
            self.left = (self._dispatch, self._outcome.first(number), number, running)
        self.supervisor.replace(self)
        return None

    def interrupt(self) -> None:
        """The run is being torn down: make no further call."""
        self._page[LIMIT] = 1

    def _check_setup(self, since: float, now: float) -> float | None:
        limit = self.stage.stage.setup_timeout
        if now - since < limit:
            return since + limit
        name = self.stage.stage.name
        self.context.fail(SetupFailed(f"stage {name}: setup took longer than setup_timeout={limit:g} s"))
        return None

    def _settle_inherited(self, dispatch: Dispatch, outcome: Outcome, stuck: int, seconds: float) -> None:
        """Settle the finished calls of a worker that was given up, charge the stuck one, return the rest."""
        batched, at = self.stage.stage.batched, 0
        done: Dispatch = []
        stuck_call = None
        for bundle in dispatch:
            for number in range(len(bundle.values)):
                call = bundle.one(number, batched=batched)
                if at < stuck:
                    done.append(call)
                elif at == stuck:
                    stuck_call = call
                else:
                    self.stage.put_back(call)
                at += 1
        if stuck_call is not None:
            self.stage.call_failed(stuck_call, 0, timeout_failure(self.stage, seconds), self.metrics)
        if done:
            self.stage.settle(done, outcome, self.metrics)
