"""A coroutine worker: one event loop with many coroutines at a time.

Three threads, so that the loop itself never blocks: the worker's own thread takes calls from the channel, the loop thread
runs the coroutines, the settling thread hands results on (and waits there when the next channel is full). A call gives
its place back only when it is settled, so a slow consumer slows the loop.
"""

from __future__ import annotations

import asyncio
import inspect
import queue
import threading
import time
from array import array
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.engine.dataflow.bundle import Bundle
from airflow_parallel_provider.engine.dataflow.channel import END, ChannelBroken
from airflow_parallel_provider.engine.functions.calls import record_batch, record_failure, record_item
from airflow_parallel_provider.engine.functions.outcome import Outcome, describe_error, failure_of
from airflow_parallel_provider.engine.functions.worker_code import BoundFunction
from airflow_parallel_provider.engine.interfaces.drop import DROP
from airflow_parallel_provider.engine.workers.base import Worker, WorkerSupervisor, timeout_failure
from airflow_parallel_provider.errors import SetupFailed

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.stages.stage_run import StageRun

STUCK_GRACE = 0.5
"""Seconds past a call's deadline after which the loop counts as stuck: a turning loop would have ended the call."""

WIND_DOWN_SECONDS = 0.5
"""How long cancelled coroutines may take to clean up."""

_MERGED = 256


class CoroutineWorker(Worker):
    """Serves one stage on one event loop, ``workers`` calls at a time.

    :param inherited: calls of a worker that was given up: the guilty ones with their age, and the others.
    """

    def __init__(
        self,
        stage: StageRun,
        number: int,
        supervisor: WorkerSupervisor,
        inherited: tuple[list[tuple[Bundle, float]], list[Bundle]] | None = None,
    ) -> None:
        super().__init__(stage, number, supervisor)
        self.left: tuple[list[tuple[Bundle, float]], list[Bundle]] | None = None
        self._inherited = inherited
        self._places = stage.stage.worker_range[1]
        self._free = threading.Semaphore(self._places)
        self._lock = threading.Lock()
        self._running: dict[Bundle, tuple[float, asyncio.Task[None] | None]] = {}
        self._done: queue.SimpleQueue[tuple[Bundle, Outcome] | None] = queue.SimpleQueue()
        self._loop = asyncio.new_event_loop()
        self._ending = False

    # -- the worker's own thread --------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Set up, take calls until the channel ends, tear down."""
        name = f"{self.thread.name}-loop"
        loop_thread = threading.Thread(target=self._step, name=name, daemon=True)
        settler = threading.Thread(target=self._settle_all, name=f"{self.thread.name}-settle", daemon=True)
        loop_thread.start()
        settler.start()
        try:
            self._settle_inherited()
            live = self._set_up()
            self._take_all(live)
            self._tear_down(live)
        finally:
            self._ending = True
            self._done.put(None)
            self._loop.call_soon_threadsafe(lambda: self._loop.create_task(self._wind_down()))
            if not self.abandoned:  # else the loop ends when the call that holds it returns, if ever
                loop_thread.join(1.0)
                settler.join(1.0)

    def _take_all(self, live: BoundFunction) -> None:
        while True:
            self._free.acquire()
            if self._ending or self.abandoned:
                raise ChannelBroken
            places = 1
            while places < _MERGED and self._free.acquire(blocking=False):
                places += 1
            limit, began = places, time.monotonic()
            idle = self._places - len(self._running)
            dispatch = self.stage.get_up_to(limit)
            self.stage.waited_for_work((time.monotonic() - began) * idle, self.metrics)
            if dispatch is END or dispatch is None:
                return
            batched = self.stage.stage.batched
            calls = [bundle.one(at, batched=batched) for bundle in dispatch for at in range(len(bundle.values))]
            if places > len(calls):
                self._free.release(places - len(calls))
            with self._lock:
                if not self.abandoned:
                    now = time.monotonic()
                    self._running.update((call, (now, None)) for call in calls)
                    self._loop.call_soon_threadsafe(self._begin_calls, live, calls)
                    continue
            for call in calls:
                self.stage.put_back(call)
            raise ChannelBroken

    def _set_up(self) -> BoundFunction:
        attempt, limit = 0, self.stage.stage.setup_timeout
        while True:
            future = asyncio.run_coroutine_threadsafe(self._begin(), self._loop)
            try:
                return future.result(limit)
            except TimeoutError:
                name = self.stage.stage.name
                self.context.fail(SetupFailed(f"stage {name}: setup took longer than setup_timeout={limit:g} s"))
                raise ChannelBroken from None
            except BaseException as error:  # noqa: BLE001 - whatever setup raises is told and tried again
                attempt += 1
                self.setup_failed(describe_error(error), attempt)

    async def _begin(self) -> BoundFunction:
        code = self.stage.function
        if code.has_process:
            worker = code.worker_object()
            if getattr(worker, "setup", None) is not None:
                await _resolved(worker.setup())
            return BoundFunction(worker.process, getattr(worker, "teardown", None))
        if code.setup is None:
            return code.bind()
        return code.bind_resource(await _resolved(code.setup()))

    def _tear_down(self, live: BoundFunction) -> None:
        if live.teardown is None:
            return
        finish = live.teardown

        async def end() -> None:
            await _resolved(finish())

        try:
            asyncio.run_coroutine_threadsafe(end(), self._loop).result(5.0)
        except BaseException as error:  # noqa: BLE001 - the items are done; the run must not fail now
            failure = describe_error(error)
            self.context.warn(f"stage {self.stage.stage.name}: teardown failed: {failure.error}: {failure.message}")

    # -- the loop thread --------------------------------------------------------------------------------------------

    def _step(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    def _begin_calls(self, live: BoundFunction, calls: list[Bundle]) -> None:
        for call in calls:
            with self._lock:
                if call in self._running:
                    self._running[call] = (time.monotonic(), self._loop.create_task(self._one(live, call)))

    async def _one(self, live: BoundFunction, call: Bundle) -> None:
        stage, batched = self.stage.stage, self.stage.stage.batched
        outcome = Outcome(shapes=[] if batched else None)
        began = time.monotonic_ns()
        deadline = asyncio.timeout(stage.timeout)
        try:
            async with deadline:
                result = await _awaited(live.call(call.values[0]))
            if batched:
                record_batch(outcome, len(call.values[0]), result)
            else:
                _record_one(outcome, result)
        except asyncio.CancelledError:
            if self._ending:
                raise
            record_failure(outcome, 0, describe_error(RuntimeError("the coroutine was cancelled")))
        except TimeoutError as error:
            seconds = (time.monotonic_ns() - began) / 1e9
            expired = deadline.expired()
            failure = timeout_failure(self.stage, seconds) if expired else failure_of(error, stage.retry)
            record_failure(outcome, 0, failure)
        except BaseException as error:  # noqa: BLE001 - SystemExit and friends fail the item, not the loop
            record_failure(outcome, 0, failure_of(error, stage.retry))
        outcome.nanoseconds = array("Q", [time.monotonic_ns() - began])
        with self._lock:
            known = self._running.pop(call, None)
        if known is not None:
            self._done.put((call, outcome))

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
                first = self._done.get()
                if first is None:
                    return
                calls, outcomes = [first[0]], [first[1]]
                while len(calls) < _MERGED and not self._done.empty():
                    more = self._done.get()
                    if more is None:
                        self._done.put(None)
                        break
                    calls.append(more[0])
                    outcomes.append(more[1])
                self.stage.settle(calls, _merged(outcomes), self.metrics)
                self._free.release(len(calls))
        except ChannelBroken:
            self._ending = True
            self._free.release()
        except BaseException as error:  # noqa: BLE001 - a thread that dies silently would hang the run
            self.context.crashed(error)

    # -- deadlines --------------------------------------------------------------------------------------------------

    def check(self, now: float) -> float | None:
        """Give the loop up when it does not turn any more: a coroutine that never yields stops all others."""
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
            guilty = [call for call, task in begun.items() if task is current] or [
                call for call in late if call in begun
            ]
            ages = [(call, now - self._running[call][0]) for call in guilty]
            others = [call for call in self._running if call not in guilty]
            self._running.clear()
            self.abandoned = True
            self.left = (ages, others)
        self._free.release()
        self.supervisor.replace(self)
        return None

    def _settle_inherited(self) -> None:
        if self._inherited is None:
            return
        guilty, others = self._inherited
        for call in others:
            self.stage.put_back(call)
        for call, seconds in guilty:
            self.stage.call_failed(call, 0, timeout_failure(self.stage, seconds), self.metrics)

    def interrupt(self) -> None:
        """The run is being torn down."""
        self._ending = True
        self._free.release()


class _Yielded(list[Any]):
    """What an async generator yielded."""


def _record_one(outcome: Outcome, result: Any) -> None:
    if not isinstance(result, _Yielded):
        record_item(outcome, 0, result)
        return
    outcome.results.extend(each for each in result if each is not DROP)
    outcome.shapes = [len(outcome.results)]


async def _awaited(result: Any) -> Any:
    if inspect.isasyncgen(result):
        return _Yielded([each async for each in result])
    return await result


async def _resolved(result: Any) -> Any:
    """``setup`` and ``teardown`` of an async stage may be plain functions or coroutine functions."""
    return await result if inspect.isawaitable(result) else result


def _merged(outcomes: list[Outcome]) -> Outcome:
    if len(outcomes) == 1:
        return outcomes[0]
    merged = Outcome(shapes=[])
    assert merged.shapes is not None
    for number, outcome in enumerate(outcomes):
        merged.results.extend(outcome.results)
        merged.shapes.extend([1] if outcome.shapes is None else outcome.shapes)
        merged.nanoseconds.extend(outcome.nanoseconds)
        if outcome.failures:
            merged.failures[number] = outcome.failures[0]
    return merged
