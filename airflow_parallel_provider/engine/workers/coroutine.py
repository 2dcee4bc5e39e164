# SPDX-License-Identifier: Apache-2.0
"""A coroutine worker: one event loop with many coroutines at a time.

Three threads, so that the loop itself never blocks: the worker's own thread takes calls from the channel, the loop
thread runs the coroutines, the settling thread passes results on (and waits there while the next channel is full). A
call counts as running until it is settled, so a slow consumer slows the loop.
"""

from __future__ import annotations

import asyncio
import heapq
import os
import queue
import threading
import time
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_parallel_provider.engine.dataflow.bundle import Bundle
from airflow_parallel_provider.engine.dataflow.channel import END, ChannelBroken
from airflow_parallel_provider.engine.functions.async_calls import await_call, await_if_needed, record_async_item
from airflow_parallel_provider.engine.functions.calls import record_batch, record_failure
from airflow_parallel_provider.engine.functions.outcome import Outcome, describe_error, failure_of, merge_outcomes
from airflow_parallel_provider.engine.functions.worker_code import BoundFunction
from airflow_parallel_provider.engine.functions.worker_info import enter_worker
from airflow_parallel_provider.engine.processes.system import end_programs_of
from airflow_parallel_provider.engine.workers.base import Worker, WorkerSupervisor, timeout_failure
from airflow_parallel_provider.errors import SetupFailed
from airflow_parallel_provider.foreign.fork_guard import end_child, watch_loop

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.stages.stage_run import StageRun

STUCK_GRACE = 0.5
"""Seconds past a call's deadline after which the loop counts as stuck: a loop that runs would have ended the call."""

WIND_DOWN_SECONDS = 0.5
"""How long canceled coroutines may take to clean up."""

_MAX_MERGED = 256
"""Calls that are taken or settled at once at most."""


@dataclass(frozen=True, slots=True)
class AbandonedCalls:
    """The calls that were running on an abandoned loop."""

    stuck: list[tuple[Bundle, float]]
    """Calls that block the loop or have passed their deadline, and for how many seconds they had been running."""
    others: list[Bundle]


class CoroutineWorker(Worker):
    """Serves one stage on one event loop, ``workers`` calls at a time.

    :param takes_over: the calls of the abandoned worker that this one replaces.
    """

    leftover: AbandonedCalls | None

    def __init__(
        self,
        stage: StageRun,
        number: int,
        supervisor: WorkerSupervisor,
        takes_over: AbandonedCalls | None = None,
    ) -> None:
        super().__init__(stage, number, supervisor)
        self._takes_over = takes_over
        self._concurrency = stage.stage.worker_range[1]
        self._free = threading.Semaphore(self._concurrency)
        self._free_indexes = list(range(self._concurrency))  # heap; on the loop's thread only
        self._lock = threading.Lock()
        self._running: dict[Bundle, tuple[float, asyncio.Task[None] | None]] = {}
        self._finished: queue.SimpleQueue[tuple[Bundle, Outcome] | None] = queue.SimpleQueue()
        self._loop = asyncio.new_event_loop()
        self._loop_thread = threading.Thread(target=self._run_loop, name=f"{self.thread.name}-loop", daemon=True)
        self._ending = False

    def start(self) -> None:
        """Start the thread."""
        try:
            super().start()
        except BaseException:
            self._loop.close()
            raise

    # -- the worker's own thread --------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Set up, take calls until the channel ends, tear down."""
        settler = threading.Thread(target=self._settle_all, name=f"{self.thread.name}-settle", daemon=True)
        try:
            self._loop_thread.start()
        except BaseException:
            self._loop.close()
            raise
        try:
            settler.start()
            self._settle_abandoned()
            bound = self._set_up()
            self._take_calls(bound)
            self._tear_down(bound)
        finally:
            self._ending = True
            self._finished.put(None)
            self._loop.call_soon_threadsafe(lambda: self._loop.create_task(self._wind_down()))
            if not self.abandoned:  # otherwise the loop ends when the call that blocks it returns, if ever
                self._loop_thread.join(1.0)
                if settler.is_alive():
                    settler.join(1.0)

    def _take_calls(self, bound: BoundFunction) -> None:
        while True:
            self._free.acquire()
            if self._ending or self.abandoned:
                raise ChannelBroken
            free = 1
            while free < _MAX_MERGED and self._free.acquire(blocking=False):
                free += 1
            began = time.monotonic()
            idle = self._concurrency - len(self._running)
            dispatch = self.stage.get_up_to(free)
            self.stage.waited_for_work((time.monotonic() - began) * idle, self.metrics)
            if dispatch is END or dispatch is None:
                return
            batched = self.stage.stage.batched
            calls = [bundle.one(at, batched=batched) for bundle in dispatch for at in range(len(bundle.values))]
            if free > len(calls):
                self._free.release(free - len(calls))
            with self._lock:
                if not self.abandoned:
                    now = time.monotonic()
                    self._running.update((call, (now, None)) for call in calls)
                    self._loop.call_soon_threadsafe(self._begin_calls, bound, calls)
                    continue
            for call in calls:
                self.stage.put_back(call)
            raise ChannelBroken

    def _set_up(self) -> BoundFunction:
        attempt, limit = 0, self.stage.stage.setup_timeout
        while True:
            future = asyncio.run_coroutine_threadsafe(self._bind(), self._loop)
            try:
                return future.result(limit)
            except TimeoutError:
                name = self.stage.stage.name
                self.context.fail(SetupFailed(f"stage {name}: setup took longer than setup_timeout={limit:g} s"))
                raise ChannelBroken from None
            except BaseException as error:  # noqa: BLE001 - whatever setup raises is reported, and setup tried again
                attempt += 1
                self.setup_failed(describe_error(error), attempt)

    async def _bind(self) -> BoundFunction:
        function = self.stage.function
        if function.has_process:
            worker = function.worker_object()
            if getattr(worker, "setup", None) is not None:
                await await_if_needed(worker.setup())
            return BoundFunction(worker.process, getattr(worker, "teardown", None))
        if function.setup is None:
            return function.bind()
        return function.bind_resource(await await_if_needed(function.setup()))

    def _tear_down(self, bound: BoundFunction) -> None:
        if bound.teardown is None:
            return
        teardown = bound.teardown

        async def end() -> None:
            await await_if_needed(teardown())

        try:
            asyncio.run_coroutine_threadsafe(end(), self._loop).result(5.0)
        except BaseException as error:  # noqa: BLE001 - the items are done; the run must not fail now
            failure = describe_error(error)
            self.context.warn(f"stage {self.stage.stage.name}: teardown failed: {failure.error}: {failure.message}")

    # -- the loop thread --------------------------------------------------------------------------------------------

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        pid = watch_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            end_child(pid)
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    def _begin_calls(self, bound: BoundFunction, calls: list[Bundle]) -> None:
        for call in calls:
            with self._lock:
                if call in self._running:
                    self._running[call] = (time.monotonic(), self._loop.create_task(self._make_call(bound, call)))

    async def _make_call(self, bound: BoundFunction, call: Bundle) -> None:
        index = heapq.heappop(self._free_indexes)
        enter_worker(self.info(index))  # in the context of this task
        try:
            await self._record_call(bound, call)
        finally:
            heapq.heappush(self._free_indexes, index)

    async def _record_call(self, bound: BoundFunction, call: Bundle) -> None:
        stage, batched = self.stage.stage, self.stage.stage.batched
        outcome = Outcome(shapes=[] if batched else None)
        pid, began = os.getpid(), time.monotonic_ns()
        deadline = asyncio.timeout(stage.timeout)
        try:
            async with deadline:
                # A copy, see calls.run_calls.
                result = await await_call(bound.call(call.values[0][:] if batched else call.values[0]))
            if batched:
                record_batch(outcome, len(call.values[0]), result)
            else:
                record_async_item(outcome, result)
            end_child(pid)
        except asyncio.CancelledError:
            end_child(pid)
            if self._ending:
                raise
            record_failure(outcome, 0, describe_error(RuntimeError("the coroutine was canceled")))
        except TimeoutError as error:
            seconds = (time.monotonic_ns() - began) / 1e9
            expired = deadline.expired()
            failure = timeout_failure(self.stage, seconds) if expired else failure_of(error, stage.retry)
            record_failure(outcome, 0, failure)
        except BaseException as error:  # noqa: BLE001 - SystemExit and friends fail the item, not the loop
            end_child(pid, error)
            record_failure(outcome, 0, failure_of(error, stage.retry))
        outcome.nanoseconds = array("Q", [time.monotonic_ns() - began])
        with self._lock:
            running = self._running.pop(call, None)
        if running is not None:  # otherwise the worker has been abandoned, and its replacement settles the call
            self._finished.put((call, outcome))

    async def _wind_down(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=WIND_DOWN_SECONDS)  # a coroutine may swallow its cancellation
        self._loop.stop()

    # -- the settling thread ----------------------------------------------------------------------------------------

    def _settle_all(self) -> None:
        try:
            while True:
                first = self._finished.get()
                if first is None:
                    return
                calls, outcomes = [first[0]], [first[1]]
                while len(calls) < _MAX_MERGED and not self._finished.empty():
                    more = self._finished.get()
                    if more is None:
                        self._finished.put(None)
                        break
                    calls.append(more[0])
                    outcomes.append(more[1])
                self.stage.settle(calls, merge_outcomes(outcomes), self.metrics)
                self._free.release(len(calls))
        except ChannelBroken:
            self._ending = True
            self._free.release()
        except BaseException as error:  # noqa: BLE001 - a thread that dies silently would hang the run
            self.context.crashed(error)

    # -- deadlines --------------------------------------------------------------------------------------------------

    def check(self, now: float) -> float | None:
        """Abandon the worker when its loop is stuck: a coroutine that never yields stops all others."""
        timeout = self.stage.stage.timeout
        if timeout is None or self.abandoned:
            return None
        limit = timeout + STUCK_GRACE
        with self._lock:
            late = [call for call, (began, _) in self._running.items() if now - began >= limit]
            if not late:
                oldest = min((began for began, _ in self._running.values()), default=now)
                return oldest + limit
            current = asyncio.current_task(self._loop)
            begun = {call: task for call, (_, task) in self._running.items() if task is not None}
            stuck = [call for call, task in begun.items() if task is current] or [
                call for call in late if call in begun
            ]
            ages = [(call, now - self._running[call][0]) for call in stuck]
            others = [call for call in self._running if call not in stuck]
            self._running.clear()
            self.abandoned = True
            self.leftover = AbandonedCalls(ages, others)
        self._free.release()
        self.supervisor.replace(self)
        return None

    def _settle_abandoned(self) -> None:
        if self._takes_over is None:
            return
        for call in self._takes_over.others:
            self.stage.put_back(call)
        for call, seconds in self._takes_over.stuck:
            self.stage.call_failed(call, 0, timeout_failure(self.stage, seconds), self.metrics)

    def end_programs(self) -> None:
        """Kill the programs that coroutines have started. From another thread."""
        end_programs_of(self._loop_thread)

    def interrupt(self) -> None:
        """The run is being torn down."""
        self._ending = True
        self._free.release()
