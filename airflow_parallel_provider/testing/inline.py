# SPDX-License-Identifier: Apache-2.0
"""Runs a pipeline inside one call: every stage, the source and the sink on the thread of the test."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.engine.functions.worker_code import BoundFunction, StageFunction
from airflow_parallel_provider.engine.interfaces.records import DeadLetter
from airflow_parallel_provider.engine.interfaces.sink import ListSink, Sink
from airflow_parallel_provider.errors import RunFailed
from airflow_parallel_provider.testing.clock import ClockedRetry, VirtualClock
from airflow_parallel_provider.testing.fault_ends import kept_by
from airflow_parallel_provider.testing.fault_site import RUNNING_INLINE
from airflow_parallel_provider.testing.inline_run import InlineRun, is_interrupt
from airflow_parallel_provider.testing.rebuild import rebuilt

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.pipeline import Pipeline
    from airflow_parallel_provider.engine.plan.stage import Stage
    from airflow_parallel_provider.report import RunReport


@dataclass(frozen=True, slots=True)
class InlineResult:
    """The result of :func:`run_inline`."""

    rows: list[Any]
    """The rows in source order; empty for a ``sink`` that does not keep them."""
    dead_letters: list[DeadLetter]
    """The items that could not be processed, in source order."""
    report: RunReport
    clock: VirtualClock
    """The pauses between attempts, which the run did not wait for."""


def run_inline(
    pipeline: Pipeline,
    items: Iterable[Any] | None = None,
    *,
    sink: Sink | None = None,
    clock: VirtualClock | None = None,
) -> InlineResult:
    """Run a pipeline with every stage inline: without threads, processes, or an event loop that outlives a stage.

    The rest of the plan stays the same: batches, chunks, DROP, generators, retries, bisection, tolerance and dead
    letters behave as in a real run. The functions are called on the thread of the caller, one call at a time, so
    breakpoints, monkeypatches and connections that belong to one thread work.

    :param items: read these instead of the pipeline's own source.
    :param sink: commit here instead of into a list; the pipeline's own sink is never used.
    :param clock: records the pauses between attempts, which the run does not wait for.
    :return: rows, dead letters and report; the state of the report is ``success``.
    :raises RunFailed: as ``Pipeline.run`` does, ``.report`` included.
    :raises KeyboardInterrupt: at once, also from inside a stage; ``pytest.fail`` and the like also pass through.

    What it does not do: enforce timeouts, rate limits and memory limits, or check whether functions can be sent to a
    worker process (``pipeline.check_picklable()`` does). It ignores ``load_key``, so it skips nothing.
    """
    clock = clock or VirtualClock()
    target: Sink = ListSink() if sink is None else sink
    stages = [inline_stage(stage, clock) for stage in pipeline.stages]
    plan = rebuilt(pipeline, source=items, stages=stages, sink=target, timeout=None, load_key=None, memory_limit=None)
    token = RUNNING_INLINE.set(True)
    try:
        report = _execute(plan)
    finally:
        RUNNING_INLINE.reset(token)
    return InlineResult(kept_by(target, "rows"), kept_by(target, "dead_letters"), report, clock)


def _execute(plan: Pipeline) -> RunReport:
    assert plan.sink is not None
    run = InlineRun(plan, plan.sink)
    try:
        return run.execute()
    except RunFailed as failed:
        cause: BaseException | None = run.interrupted or failed.__cause__
        if cause is not None and is_interrupt(cause):
            raise cause from None
        raise


def inline_stage(stage: Stage, clock: VirtualClock) -> Stage:
    """A copy of the stage that runs inline."""
    changes: dict[str, Any] = {
        "kind": "inline",
        "workers": "auto",
        "queue_size": None,
        "timeout": None,
        "rate_limit": None,
        "budget": None,
        "cost": None,
        "worker_lifespan": None,
        "memory_limit": None,
        "worker_env": None,
        "retry": ClockedRetry.of(stage.retry, clock),
    }
    if stage.kind == "async":
        changes |= {"function": OnLoop(stage), "setup": None, "teardown": None}
    return replace(stage, **changes)


class OnLoop:
    """A stage object that makes the calls of an async stage one by one on its own event loop.

    Known limitation: it does not work inside a running event loop, so not in an ``async def`` test.
    """

    def __init__(self, stage: Stage) -> None:
        self._code = StageFunction.of(stage)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._live: BoundFunction | None = None

    def setup(self) -> None:
        """Create the loop, and set the worker up on it."""
        loop = self._loop = asyncio.new_event_loop()
        try:
            self._live = loop.run_until_complete(self._begin())
        except BaseException:
            loop.close()
            raise

    async def _begin(self) -> BoundFunction:
        code = self._code
        if code.has_process:
            worker = code.worker_object()
            if getattr(worker, "setup", None) is not None:
                await _resolved(worker.setup())
            return BoundFunction(worker.process, getattr(worker, "teardown", None))
        return code.bind() if code.setup is None else code.bind_resource(await _resolved(code.setup()))

    def process(self, value: Any) -> Any:
        """Make one call."""
        assert self._loop is not None
        assert self._live is not None
        yielded, result = self._loop.run_until_complete(_awaited(self._live.call(value)))
        # For a single item a list is one result, while a generator yields any number of results.
        return (each for each in result) if yielded and not self._code.batched else result

    def teardown(self) -> None:
        """Tear the worker down, and close the loop."""
        assert self._loop is not None
        assert self._live is not None
        try:
            if self._live.teardown is not None:
                self._loop.run_until_complete(_resolved(self._live.teardown()))
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()


async def _awaited(result: Any) -> tuple[bool, Any]:
    if inspect.isasyncgen(result):
        return True, [each async for each in result]
    return False, await result


async def _resolved(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result
