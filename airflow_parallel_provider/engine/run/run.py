"""One run of a pipeline: starts everything, waits on the calling thread, ends everything.

The calling thread (in Airflow the task's main thread) is the coordinator. It blocks only in waits that a signal can
interrupt, and never joins without a deadline, so that ``execution_timeout`` and Ctrl-C take effect at once. Other
threads, and signal handlers, reach it through a ``SimpleQueue``, whose ``put`` may be called from a signal handler.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from airflow_parallel_provider.engine.dataflow.in_flight import InFlightLimit
from airflow_parallel_provider.engine.dataflow.router import Router
from airflow_parallel_provider.engine.dataflow.sink_writer import SinkWriter
from airflow_parallel_provider.engine.dataflow.source_reader import SourceReader
from airflow_parallel_provider.engine.interfaces.records import CommittedChunk
from airflow_parallel_provider.engine.interfaces.sink import Sink
from airflow_parallel_provider.engine.interfaces.source import source_length
from airflow_parallel_provider.engine.interfaces.stop import StopToken
from airflow_parallel_provider.engine.metrics.failure_causes import Causes
from airflow_parallel_provider.engine.metrics.rejections import RejectionTracker
from airflow_parallel_provider.engine.metrics.tolerance_tracker import ToleranceTracker
from airflow_parallel_provider.engine.processes.client import ForkServerClient, ForkServerLost
from airflow_parallel_provider.engine.run.monitor import Monitor, Observer
from airflow_parallel_provider.engine.run.report_builder import build_report
from airflow_parallel_provider.engine.run.shutdown import ABORT_SECONDS
from airflow_parallel_provider.engine.run.state import RunClock
from airflow_parallel_provider.engine.run.worker_pool import WorkerPool
from airflow_parallel_provider.engine.stages.inline_stage import InlineStageRun
from airflow_parallel_provider.engine.stages.stage_run import StageRun
from airflow_parallel_provider.engine.workers.base import Worker
from airflow_parallel_provider.errors import RunFailed, RunStopped
from airflow_parallel_provider.report import RunReport, State

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.pipeline import Pipeline

log = logging.getLogger("airflow_parallel_provider")

SINK_THREAD = "parallel-sink"

COMMIT_GRACE = 0.5
"""How long an aborted run lets the commit that is going on end by itself, seconds."""

END_SECONDS = 8.0
"""How long a successful run waits for ``teardown`` of its workers."""


class Run:
    """Everything that lives while a pipeline runs. Use once."""

    def __init__(
        self,
        plan: Pipeline,
        sink: Sink,
        *,
        stop: StopToken | None = None,
        observe: Observer | None = None,
        observe_every: float = 2.0,
    ) -> None:
        self.plan = plan
        self.sink = plan.source.wrap_sink(sink)
        self.stop_requested = stop or StopToken()
        self.stop = StopToken()  # set when the run is being torn down, for whatever reason
        self.mailbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.causes = Causes()
        self.warnings: list[str] = []
        self.redact = plan.worker_hooks.redact
        self.error: RunFailed | None = None
        self.items_skipped = 0
        self.chunks_skipped = 0
        self.tolerance = ToleranceTracker(plan.tolerance)
        self.clock = RunClock.start()
        self.stages = [self._stage_run(index) for index in range(len(plan.stages))]
        self.sink_writer = SinkWriter(self.sink, self, ordered=plan.ordered)
        self.router = Router(list(self.stages), self.sink_writer.complete)
        self.in_flight = InFlightLimit(plan.max_in_flight)
        self.source_reader: SourceReader | None = None
        self.pool = WorkerPool(self)
        self.monitor = Monitor(self, observe, observe_every)
        self._lock = threading.Lock()
        self._committed: Mapping[str, CommittedChunk] = {}
        self._over = False
        self._threads: list[threading.Thread] = []

    def _stage_run(self, index: int) -> StageRun:
        stage = self.plan.stages[index]
        stage.check_rendered()
        kind = InlineStageRun if stage.kind == "inline" else StageRun
        # Batches of a first stage are in source order anyway; further down only a whole chunk can be put in order.
        return kind(index, stage, self, in_order=self.plan.ordered and index > 0)

    # -- the calling thread -------------------------------------------------------------------------------------------

    def execute(self) -> RunReport:
        """Run to the end; see :meth:`Pipeline.run`."""
        self.stop_requested.listen(self._on_stop_requested)
        state: State = "failed"
        try:
            self._begin()
            self._coordinate()
            state = self._outcome()
        finally:
            self.stop_requested.forget(self._on_stop_requested)
            self._end_always(success=state == "success")
            self.clock.ended = time.monotonic()
            self.monitor.publish(final=True, state=state)
        report = build_report(self, state)
        if self.error is not None:
            raise self._with_report(report)
        return report

    def _begin(self) -> None:
        self.plan.source.prepare()
        self.tolerance.total = source_length(self.plan.source)  # known to some sources only now
        self.sink.bind(RejectionTracker(self.tolerance, self.causes, self._items_read))
        self.sink.prepare(self.plan.load_spec)
        self._start_thread(SINK_THREAD, self.sink_writer.run)
        try:
            self.pool.prepare()
        except ForkServerLost:
            if not self.stop_requested.is_set:
                raise
            self.fail(RunStopped(f"stopped: {self.stop_requested.reason}", None, self.stop_requested.reason))

    def _coordinate(self) -> None:
        while not self._over and self.error is None:
            try:
                message = self.mailbox.get(timeout=self._wait_seconds())
            except queue.Empty:
                pass
            else:
                message()
            self.pool.check(time.monotonic())
            self._check_total_timeout()
            self.monitor.sample()

    def _wait_seconds(self) -> float:
        now = time.monotonic()
        until = min(self.monitor.next_sample, self.pool.next_check)
        if self.plan.timeout is not None:
            until = min(until, self.clock.began + self.plan.timeout)
        return max(0.0, until - now)

    def _check_total_timeout(self) -> None:
        limit = self.plan.timeout
        if limit is not None and self.clock.seconds >= limit:
            self.fail(RunStopped(f"the run took longer than Pipeline.timeout={limit:g} s", None, "timeout"))

    def _outcome(self) -> State:
        if self.error is None:
            return "success"
        return "stopped" if isinstance(self.error, RunStopped) else "failed"

    def _end_always(self, *, success: bool) -> None:
        """A signal handler may raise while everything ends by itself (``execution_timeout``): then it is ended."""
        try:
            self._end(success=success)
        except BaseException:
            self._end(success=False)
            raise

    def _end(self, *, success: bool) -> None:
        """End everything, within a deadline; what does not end by then is left behind and said."""
        deadline = time.monotonic() + (END_SECONDS if success else ABORT_SECONDS)
        if not success:
            self.stop.stop("the run is being torn down")
            for stage in self.stages:
                stage.channel.break_()
            self.in_flight.break_()
            self.sink_writer.break_()
            self.pool.interrupt()
            with contextlib.suppress(Exception):  # its run has failed already
                self.plan.source.interrupt()
            self._interrupt_sink()
        self.pool.end(deadline)
        for thread in self._threads:
            thread.join(max(0.05, deadline - time.monotonic()))
            if thread.is_alive():
                self.warn(f"thread {thread.name} did not end and was left behind")

    def _interrupt_sink(self) -> None:
        """A commit that goes on may end by itself; one that hangs (a lock, a dead network) is broken off."""
        for thread in self._threads:
            if thread.name == SINK_THREAD:
                thread.join(COMMIT_GRACE)
                if thread.is_alive():
                    self.sink.interrupt()

    def _with_report(self, report: RunReport) -> RunFailed:
        error = self.error
        assert error is not None
        lines = [self.redact(error.message)]
        lines += [f"{each['count']:>9,}  {each['stage']}: {each['cause']}" for each in report.failures[:10]]
        error.message = "\n".join(lines)
        error.report = report
        return error

    # -- asked for by other threads -----------------------------------------------------------------------------------

    def _on_stop_requested(self) -> None:
        # May run in a signal handler: no locks here.
        self.mailbox.put(
            lambda: self.fail(RunStopped(f"stopped: {self.stop_requested.reason}", None, self.stop_requested.reason))
        )

    def fail(self, error: RunFailed) -> None:
        """End the run with this error, unless it is ending already. From any thread."""
        with self._lock:
            if self.error is None and not self._over:
                self.error = error
        self.mailbox.put(lambda: None)

    def crashed(self, error: BaseException) -> None:
        """An error of the engine's own ends the run; nothing is swallowed."""
        failed = RunFailed(f"internal error: {type(error).__name__}: {error}")
        failed.__cause__ = error
        log.error("internal error", exc_info=error)
        self.fail(failed)

    def warn(self, text: str) -> None:
        """Put a line into the report."""
        with self._lock:
            if text not in self.warnings:
                self.warnings.append(text)

    def record_failed_items(self, items: int) -> None:
        """So many more items were given up: is it still within the tolerance? From any worker's thread."""
        if (failed := self.tolerance.add(items, self._items_read())) is not None:
            self.fail(failed)

    def _items_read(self) -> int:
        return self.source_reader.items_read if self.source_reader else 0

    def allow_in_flight(self, items: int) -> None:
        """Fast, light items: more may be in flight, unless the author said how many. From any worker's thread."""
        if self.plan.automatic_in_flight:
            self.in_flight.grow(items)

    def opened(self, committed: Mapping[str, CommittedChunk]) -> None:
        """The sink is open: the source may be read. From the sink's thread."""
        self._committed = committed
        self.tolerance.before = sum(chunk.dead_letters + chunk.rows_rejected for chunk in committed.values())
        self.mailbox.put(self._start_reading)

    def _start_reading(self) -> None:
        self.clock.working_since = time.monotonic()
        self.pool.start()
        first = self.stages[0] if self.stages else None
        channel = None if first is None or isinstance(first, InlineStageRun) else first.channel
        self.source_reader = SourceReader(
            self.plan.source,
            self,
            chunk_size=self.plan.chunk_size,
            stages=len(self.stages),
            in_flight=self.in_flight,
            committed=self._committed,
            channel=channel,
            state=self.sink.source_state(),
        )
        self._start_thread("parallel-source", self.source_reader.run)

    def skip(self, index: int, items: int) -> None:
        """A chunk of an earlier try was passed over. From the source's thread."""
        self.items_skipped += items
        self.chunks_skipped += 1
        self.sink_writer.skip(index)

    def source_ended(self, chunks: int) -> None:
        """From the source's thread."""
        self.router.end(chunks - self.chunks_skipped)
        self.sink_writer.end(chunks)

    def may_commit(self) -> bool:
        """From the sink's thread: nothing more is committed once the run is ending."""
        return self.error is None and not self.stop_requested.is_set and not self.stop.is_set

    def may_finish(self) -> bool:
        """From the sink's thread: the last look at the tolerance, now that the number of items is known."""
        if (failed := self.tolerance.check(self._items_read(), final=True)) is not None:
            self.fail(failed)
        return self.may_commit()

    def chunk_finished(self, items: int) -> None:
        """From the sink's thread."""
        self.in_flight.release(items)

    def sink_done(self) -> None:
        """From the sink's thread: the run is a success."""
        self.mailbox.put(self._finish)

    def _finish(self) -> None:
        with self._lock:
            self._over = True

    # -- what workers ask for -------------------------------------------------------------------------------------------

    def fork_server(self, broken: ForkServerClient | None = None) -> ForkServerClient:
        """The running fork server; from a worker's thread."""
        return self.pool.fork_server(broken)

    def replace(self, worker: Worker) -> None:
        """A worker was given up; from the coordinating thread."""
        self.pool.replace(worker)

    def recycle(self, worker: Worker) -> None:
        """A worker's worker has served its time: start a successor. From any thread."""
        self.mailbox.put(lambda: self.pool.recycle(worker))

    def cpu_seconds(self) -> float:
        """CPU time of this process since the run began, and of its workers."""
        return time.process_time() - self.clock.cpu_before + sum(stage.metrics.cpu for stage in self.stages)

    def peak_rss(self) -> int:
        """See :class:`RunReport`."""
        return self.pool.memory.peak

    def _start_thread(self, name: str, target: Callable[[], None]) -> None:
        import contextvars

        run = contextvars.copy_context().run
        thread = threading.Thread(target=lambda: run(target), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()
