# SPDX-License-Identifier: Apache-2.0
"""An inline stage: one call at a time, on the thread that brings the items; without workers of its own."""

from __future__ import annotations

import threading
import time

from airflow_parallel_provider.engine.dataflow.bundle import Bundle
from airflow_parallel_provider.engine.dataflow.channel import Channel, ChannelBroken
from airflow_parallel_provider.engine.dataflow.in_flight import InFlightLimit
from airflow_parallel_provider.engine.functions.calls import run_calls
from airflow_parallel_provider.engine.functions.outcome import describe_error
from airflow_parallel_provider.engine.functions.status_page import LIMIT, PAGE_WORDS
from airflow_parallel_provider.engine.functions.worker_code import BoundFunction
from airflow_parallel_provider.engine.functions.worker_info import WorkerInfo, worker_info_is
from airflow_parallel_provider.engine.plan.stage import Stage
from airflow_parallel_provider.engine.stages.failed_calls import StageRunContext
from airflow_parallel_provider.engine.stages.setup_retry import setup_failed
from airflow_parallel_provider.engine.stages.stage_run import StageRun


class InlineStageRun(StageRun):
    """Makes the calls inside :meth:`accept`. Retries wait there, too, until the run stops."""

    def __init__(
        self, index: int, stage: Stage, context: StageRunContext, in_flight: InFlightLimit, *, in_order: bool
    ) -> None:
        retries = Channel(1 << 62, batched=stage.batched)  # only calls that are made again wait in it
        super().__init__(index, stage, context, in_flight, in_order=in_order, channel=retries)
        self._context = context
        self._lock = threading.RLock()
        self._page = [0] * PAGE_WORDS
        self._bound: BoundFunction | None = None
        self._worker_metrics = self.new_worker_metrics()
        self.peak_workers = 1
        self._info = WorkerInfo(stage.name, 0, 1)

    def accept(self, bundle: Bundle) -> float:
        """Make the calls now, retries included."""
        waited = self.channel.put(bundle)
        with self._lock, worker_info_is(self._info):
            live = self._begin()
            while True:
                dispatch = self.channel.get(lambda _: 1 << 30, block=False)
                if not dispatch:
                    pause = self.channel.next_due()
                    if pause is None:
                        return waited
                    if self._context.stop.wait(pause):
                        raise ChannelBroken
                    continue
                values = [value for each in dispatch for value in each.values]
                code = self.function
                cpu = time.thread_time()
                outcome = run_calls(live.call, values, batched=code.batched, retry=code.retry, page=self._page)
                self.metrics.computed(time.thread_time() - cpu)
                if len(outcome.nanoseconds) < len(values):  # cut short, because the run is being torn down
                    raise ChannelBroken
                waited += self.settle(dispatch, outcome, self._worker_metrics)

    def _begin(self) -> BoundFunction:
        attempt = 0
        while self._bound is None:
            try:
                self._bound = self.function.bind()
            except BaseException as error:  # noqa: BLE001 - any error of setup is reported, and setup called again
                attempt += 1
                setup_failed(self.stage.name, describe_error(error), attempt, self._context)
        return self._bound

    def interrupt(self) -> None:
        """The run is being torn down: make no further call."""
        self._page[LIMIT] = 1

    def teardown(self) -> None:
        """Call ``teardown``, at the end of the run."""
        if self._bound is None or self._bound.teardown is None:
            return
        try:
            with worker_info_is(self._info):
                self._bound.teardown()
        except BaseException as error:  # noqa: BLE001 - the items are done
            failure = describe_error(error)
            self._context.warn(f"stage {self.stage.name}: teardown failed: {failure.error}: {failure.message}")
