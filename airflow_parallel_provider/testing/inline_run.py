# SPDX-License-Identifier: Apache-2.0
"""A run on one thread: the parts of the engine, each called by the one before it instead of by its own thread."""

from __future__ import annotations

import heapq
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from airflow_parallel_provider.engine.dataflow.channel import ChannelBroken
from airflow_parallel_provider.engine.dataflow.chunk import Chunk
from airflow_parallel_provider.engine.dataflow.sink_writer import SinkWriter
from airflow_parallel_provider.engine.functions.worker_code import BoundFunction, StageFunction
from airflow_parallel_provider.engine.interfaces.sink import Sink
from airflow_parallel_provider.engine.interfaces.source import place_text
from airflow_parallel_provider.engine.interfaces.stop import StopToken
from airflow_parallel_provider.engine.plan.pipeline_plan import PipelinePlan
from airflow_parallel_provider.engine.plan.retry import Retry
from airflow_parallel_provider.engine.run.run import Run
from airflow_parallel_provider.engine.run.state import RunState
from airflow_parallel_provider.engine.stages.stage_run import StageRun
from airflow_parallel_provider.errors import RunFailed, RunStopped


def is_interrupt(error: BaseException) -> bool:
    """Whether an error must end the test instead of an item: Ctrl-C, ``pytest.fail``, a timeout."""
    pytest = sys.modules.get("_pytest.outcomes")  # only where a test runs under pytest
    outcomes = () if pytest is None else (pytest.OutcomeException,)
    return isinstance(error, (KeyboardInterrupt, *outcomes))


class InlineRun(Run):
    """A run of a plan whose stages are all inline, without any thread.

    Where a run starts a thread this one makes the call: the source is read inside the coordinating loop, its items go
    through the stages as they come, and a chunk commits inside the call that completes it.
    """

    def __init__(self, plan: PipelinePlan, sink: Sink) -> None:
        self.interrupted: BaseException | None = None
        super().__init__(plan, sink)

    def _new_state(self, plan: PipelinePlan, stop_requested: StopToken) -> RunState:
        return InlineRunState(plan, stop_requested, self._break_channels)

    def _new_stage(self, index: int) -> StageRun:
        stage = super()._new_stage(index)
        stage.function = _Guarded(stage.function, self.interrupt)  # type: ignore[assignment]  # what an inline stage reads of it
        return stage

    def _new_sink_writer(self) -> SinkWriter:
        return DirectSinkWriter(self)

    def _start_thread(self, name: str, target: Callable[[], None]) -> None:  # noqa: ARG002 - there is no thread to name
        target()

    def _break_channels(self) -> None:
        for stage in self.stages:
            stage.channel.break_()

    def interrupt(self, error: BaseException) -> None:
        """Stop at once, and remember the error to raise: Ctrl-C, or a failed test."""
        self.interrupted = self.interrupted or error
        self.state.fail(RunStopped("interrupted", None, "interrupted"))


class InlineRunState(RunState):
    """The state of an inline run: its failure stops the reading of the source, further up the same stack, at once."""

    def __init__(self, plan: PipelinePlan, stop_requested: StopToken, on_fail: Callable[[], None]) -> None:
        super().__init__(plan, stop_requested)
        self._on_fail = on_fail

    def fail(self, error: RunFailed) -> None:
        """End the run with this error."""
        super().fail(error)
        self._on_fail()


class DirectSinkWriter(SinkWriter):
    """Commits each chunk inside the call that reports it complete."""

    def __init__(self, run: InlineRun) -> None:
        super().__init__(
            run.sink,
            run.state,
            run.in_flight,
            on_open=run._on_sink_open,
            ordered=run.state.plan.ordered,
            place_of=partial(place_text, run.state.plan.source),
        )
        self._interrupt = run.interrupt
        self._is_open = False
        self._done = 0

    def run(self) -> None:
        """Open; the rest happens in :meth:`complete` and :meth:`end`."""
        self._is_open = True
        self._guarded(lambda: self._on_open(self._sink.open()))

    def complete(self, chunk: Chunk) -> None:
        """Commit the chunk and what waited for it.

        :raises ChannelBroken: when that fails, or nothing more may be committed.
        """
        super().complete(chunk)
        self._guarded(self._commit_ready)
        if not self._context.may_commit():
            raise ChannelBroken

    def skip(self, index: int) -> None:
        """Skip a chunk that is committed."""
        super().skip(index)
        self._guarded(self._commit_ready)

    def end(self, chunks: int, *, whole: int | None = None) -> None:
        """The source has ended: finish and close."""
        super().end(chunks, whole=whole)
        self._guarded(self._finish)

    def break_(self) -> None:
        """The run is being torn down."""
        super().break_()
        self._guarded(self._close)

    def _commit_ready(self) -> None:
        while self._ready() and self._context.may_commit():
            _, chunk = heapq.heappop(self._waiting)
            self._next += 1
            self._done += 1
            if chunk is not None:
                self._commit(chunk)

    def _finish(self) -> None:
        if self._done == self._total and self._context.may_finish():
            self.finish_sink()
            self._close()
            self._context.sink_done()

    def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._sink.close()

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except BaseException as error:  # noqa: BLE001 - as on the sink's thread: it ends the run, by name
            if is_interrupt(error):
                self._interrupt(error)
                return
            self._failed(error)


class _Guarded:
    """A stage's function that lets interrupts out: the engine counts any other error as the failure of an item."""

    def __init__(self, code: StageFunction, interrupt: Callable[[BaseException], None]) -> None:
        self._code = code
        self._interrupt = interrupt
        self.batched: bool = code.batched
        self.retry: Retry = code.retry

    def bind(self) -> BoundFunction:
        live = self._code.bind()

        def call(value: Any) -> Any:
            try:
                return live.call(value)
            except BaseException as error:
                if is_interrupt(error):
                    self._interrupt(error)
                raise

        return BoundFunction(call, live.teardown)
