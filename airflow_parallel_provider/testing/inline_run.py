"""One run on one thread: the engine's own parts, each called by the one before it instead of by a thread of its own."""

from __future__ import annotations

import heapq
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.engine.dataflow.channel import ChannelBroken
from airflow_parallel_provider.engine.dataflow.chunk import Chunk
from airflow_parallel_provider.engine.dataflow.router import Router
from airflow_parallel_provider.engine.dataflow.sink_writer import SinkWriter
from airflow_parallel_provider.engine.functions.worker_code import BoundFunction, StageFunction
from airflow_parallel_provider.engine.run.run import Run
from airflow_parallel_provider.errors import RunFailed, RunStopped, SinkFailed

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.interfaces.sink import Sink
    from airflow_parallel_provider.engine.pipeline import Pipeline
    from airflow_parallel_provider.engine.plan.retry import Retry
    from airflow_parallel_provider.engine.stages.stage_run import StageRun


def is_interrupt(error: BaseException) -> bool:
    """Whether an error is for whoever runs the test, not for the pipeline: Ctrl-C, ``pytest.fail``, a timeout."""
    pytest = sys.modules.get("_pytest.outcomes")  # only where a test runs under pytest
    outcomes = () if pytest is None else (pytest.OutcomeException,)
    return isinstance(error, (KeyboardInterrupt, *outcomes))


class InlineRun(Run):
    """A run of a plan whose stages are all inline, without any thread.

    Where a run starts a thread this one makes the call: the source is read inside the coordinating loop, its items go
    through the stages as they come, and a chunk commits inside the call that completes it.
    """

    def __init__(self, plan: Pipeline, sink: Sink) -> None:
        self.interrupted: BaseException | None = None
        super().__init__(plan, sink)
        self.sink_writer: DirectSinkWriter = DirectSinkWriter(self.sink, self, ordered=plan.ordered)
        self.router = Router(list(self.stages), self.sink_writer.complete)

    def _stage_run(self, index: int) -> StageRun:
        stage = super()._stage_run(index)
        stage.function = _Guarded(stage.function, self.interrupt)  # type: ignore[assignment]  # what an inline stage reads of it
        return stage

    def _start_thread(self, name: str, target: Callable[[], None]) -> None:  # noqa: ARG002 - nothing has a name here
        target()

    def fail(self, error: RunFailed) -> None:
        """End the run with this error; the reading of the source, further up this very stack, stops at once."""
        super().fail(error)
        for stage in self.stages:
            stage.channel.break_()

    def interrupt(self, error: BaseException) -> None:
        """Somebody wants out: stop, and remember what to raise."""
        self.interrupted = self.interrupted or error
        self.fail(RunStopped("interrupted", None, "interrupted"))


class DirectSinkWriter(SinkWriter):
    """Commits each chunk inside the call that says it is complete."""

    def __init__(self, sink: Sink, run: InlineRun, *, ordered: bool) -> None:
        super().__init__(sink, run, ordered=ordered)
        self._inline_run = run
        self._is_open = False
        self._done = 0

    def run(self) -> None:
        """Open; the rest happens in :meth:`complete` and :meth:`end`."""
        self._is_open = True
        self._guarded(lambda: self._inline_run.opened(self._sink.open()))

    def complete(self, chunk: Chunk) -> None:
        """Commit the chunk and what waited for it.

        :raises ChannelBroken: when that fails, or nothing more may be committed.
        """
        super().complete(chunk)
        self._guarded(self._commit_ready)
        if not self._inline_run.may_commit():
            raise ChannelBroken

    def skip(self, index: int) -> None:
        """Pass over a chunk that is in."""
        super().skip(index)
        self._guarded(self._commit_ready)

    def end(self, chunks: int) -> None:
        """The source has ended: seal and close."""
        super().end(chunks)
        self._guarded(self._seal)

    def break_(self) -> None:
        """The run is being torn down."""
        super().break_()
        self._guarded(self._close)

    def _commit_ready(self) -> None:
        while self._ready() and self._inline_run.may_commit():
            _, chunk = heapq.heappop(self._waiting)
            self._next += 1
            self._done += 1
            if chunk is not None:
                self._commit(chunk)

    def _seal(self) -> None:
        if self._done == self._total and self._inline_run.may_finish():
            self.finish_sink()
            self._close()
            self._inline_run.sink_done()

    def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._sink.close()

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except BaseException as error:  # noqa: BLE001 - as on the sink's thread: it ends the run, by name
            if is_interrupt(error):
                self._inline_run.interrupt(error)
                return
            text = f"the sink {self._sink.describe()} failed: {type(error).__name__}: {error}"
            failed = SinkFailed(text)
            failed.__cause__ = error
            self._inline_run.fail(failed)


class _Guarded:
    """A stage's code that lets an interrupt out: the engine counts whatever a call raises as that item's failure."""

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
