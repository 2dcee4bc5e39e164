"""An inline stage: one call at a time, on whatever thread brings the items; no channel, no worker of its own."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from airflow_parallel_provider.engine.dataflow.bundle import Parcel
from airflow_parallel_provider.engine.dataflow.channel import Channel, ChannelBroken
from airflow_parallel_provider.engine.functions.calls import run_calls
from airflow_parallel_provider.engine.functions.outcome import describe_error
from airflow_parallel_provider.engine.functions.status_page import LIMIT, PAGE_SLOTS
from airflow_parallel_provider.engine.functions.worker_code import LiveCode
from airflow_parallel_provider.engine.stages.setup_retry import setup_failed
from airflow_parallel_provider.engine.stages.stage_run import StageRun

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.interfaces.run_context import RunContext
    from airflow_parallel_provider.engine.plan.stage import Stage


class InlineStageRun(StageRun):
    """Runs the calls inside :meth:`accept`. Retries wait there too, and stop waiting when the run stops."""

    def __init__(self, index: int, stage: Stage, context: RunContext, *, in_order: bool) -> None:
        super().__init__(index, stage, context, in_order=in_order)  # type: ignore[arg-type]  # a run is both
        self._slots = context
        self._lock = threading.RLock()
        self._page = [0] * PAGE_SLOTS
        self._live: LiveCode | None = None
        self._tally = self.new_tally()
        self.channel = Channel(1 << 62, batched=stage.batched)  # only for attempts that come back
        self.peak_workers = 1

    def accept(self, parcel: Parcel) -> float:
        """Make the calls now, retries included."""
        waited = self.channel.put(parcel)
        with self._lock:
            live = self._begin()
            while True:
                hand = self.channel.take(lambda _: 1 << 30, block=False)
                if not hand:
                    pause = self.channel.next_return()
                    if pause is None:
                        return waited
                    if self._slots.stop.wait(pause):
                        raise ChannelBroken
                    continue
                values = [value for each in hand for value in each.values]
                code = self.code
                cpu = time.thread_time()
                outcome = run_calls(live.call, values, batched=code.batched, retry=code.retry, page=self._page)
                self.meter.computed(time.thread_time() - cpu)
                waited += self.settle(hand, outcome, self._tally)

    def _begin(self) -> LiveCode:
        attempt = 0
        while self._live is None:
            try:
                self._live = self.code.begin()
            except BaseException as error:  # noqa: BLE001 - whatever setup raises is told and tried again
                attempt += 1
                setup_failed(self.stage.name, describe_error(error), attempt, self._slots)
        return self._live

    def interrupt(self) -> None:
        """The run is being torn down: make no further call."""
        self._page[LIMIT] = 1

    def finish(self) -> None:
        """Tear down, at the end of the run."""
        if self._live is None or self._live.finish is None:
            return
        try:
            self._live.finish()
        except BaseException as error:  # noqa: BLE001 - the items are done
            failure = describe_error(error)
            self._slots.warn(f"stage {self.stage.name}: teardown failed: {failure.error}: {failure.message}")
