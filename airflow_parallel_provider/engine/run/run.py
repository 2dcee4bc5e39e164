# SPDX-License-Identifier: Apache-2.0
"""One run of a pipeline: starts everything, waits on the calling thread, ends everything.

The calling thread (in Airflow the task's main thread) is the coordinator. It blocks only in waits that a signal can
interrupt, and never joins without a deadline, so that ``execution_timeout`` and Ctrl-C take effect at once. Other
threads, and signal handlers, reach it through the mailbox of the :class:`RunState`, a ``SimpleQueue``, whose ``put``
may be called from a signal handler.
"""

from __future__ import annotations

import contextlib
import contextvars
import queue
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial

from airflow_parallel_provider.engine.dataflow.in_flight import InFlightLimit
from airflow_parallel_provider.engine.dataflow.router import Router
from airflow_parallel_provider.engine.dataflow.sink_writer import SinkWriter
from airflow_parallel_provider.engine.dataflow.source_reader import SourceReader
from airflow_parallel_provider.engine.interfaces.records import CommittedChunk
from airflow_parallel_provider.engine.interfaces.shard import Shard
from airflow_parallel_provider.engine.interfaces.sink import Sink
from airflow_parallel_provider.engine.interfaces.source import place_text, source_length
from airflow_parallel_provider.engine.interfaces.source_notes import warnings_of
from airflow_parallel_provider.engine.interfaces.stop import StopToken
from airflow_parallel_provider.engine.metrics.rejections import RejectionTracker
from airflow_parallel_provider.engine.plan.pipeline_plan import PipelinePlan
from airflow_parallel_provider.engine.processes.client import ForkServerLost
from airflow_parallel_provider.engine.processes.launch import LaunchedServer
from airflow_parallel_provider.engine.processes.system import end_programs_of
from airflow_parallel_provider.engine.resources.limits import shortage
from airflow_parallel_provider.engine.run.budgets import Budgets
from airflow_parallel_provider.engine.run.memory import MemoryMonitor
from airflow_parallel_provider.engine.run.monitor import Monitor, Observer
from airflow_parallel_provider.engine.run.report_builder import RunParts, attach_report, build_report
from airflow_parallel_provider.engine.run.shutdown import ABORT_SECONDS
from airflow_parallel_provider.engine.run.stage_series import StageSeries
from airflow_parallel_provider.engine.run.state import RunState
from airflow_parallel_provider.engine.run.worker_pool import WorkerPool
from airflow_parallel_provider.engine.stages.inline_stage import InlineStageRun
from airflow_parallel_provider.engine.stages.stage_run import StageRun
from airflow_parallel_provider.errors import RunStopped, SetupFailed
from airflow_parallel_provider.foreign.fork_guard import run_begins, run_ended
from airflow_parallel_provider.report import RunReport, State

SINK_THREAD = "parallel-sink"

SOURCE_THREAD = "parallel-source"

COMMIT_GRACE = 0.5
"""How long an aborted run waits for the running commit to end by itself, seconds."""

END_SECONDS = 8.0
"""How long a successful run waits for ``teardown`` of its workers, seconds."""


class Run:
    """Everything that lives while a pipeline runs. Use once.

    It builds the parts, connects them, and coordinates them on the calling thread. The parts know the
    :class:`RunState` and each other, never the run.
    """

    def __init__(
        self,
        plan: PipelinePlan,
        sink: Sink,
        *,
        stop: StopToken | None = None,
        observe: Observer | None = None,
        observe_every: float = 2.0,
        shard: Shard | None = None,
        fork_server: LaunchedServer | None = None,
    ) -> None:
        self.shard = shard
        self.sink = plan.source.wrap_sink(sink)
        self.state = self._new_state(plan, stop or StopToken())
        self.in_flight = InFlightLimit(plan.max_in_flight, may_grow=plan.automatic_in_flight)
        self.stages = [self._new_stage(index) for index in range(len(plan.stages))]
        self.sink_writer = self._new_sink_writer()
        self.source_reader = self._connected_reader()
        memory = MemoryMonitor(self.state, self.in_flight)
        self.pool = WorkerPool(self.state, self.stages, memory, fork_server)
        self._parts = RunParts(
            self.state,
            self.stages,
            self.source_reader,
            self.sink_writer,
            self.in_flight,
            memory,
            self.pool.decisions,
            StageSeries(self.stages),
        )
        self.monitor = Monitor(self._parts, self.pool.sample_memory, observe, observe_every)
        self._threads: list[threading.Thread] = []
        self._budgets = Budgets(self.state, self.stages, self.sink_writer)

    # -- the parts ----------------------------------------------------------------------------------------------------

    def _new_state(self, plan: PipelinePlan, stop_requested: StopToken) -> RunState:
        return RunState(plan, stop_requested)

    def _new_stage(self, index: int) -> StageRun:
        plan = self.state.plan
        stage = plan.stages[index]
        stage.check_rendered()
        if self.shard is not None:
            stage = stage.share(self.shard.of)
        kind = InlineStageRun if stage.kind == "inline" else StageRun
        # Batches of a first stage are in source order anyway; further down only a whole chunk can be put in order.
        return kind(index, stage, self.state, self.in_flight, in_order=plan.ordered and index > 0)

    def _new_sink_writer(self) -> SinkWriter:
        return SinkWriter(
            self.sink,
            self.state,
            self.in_flight,
            on_open=self._on_sink_open,
            ordered=self.state.plan.ordered,
            place_of=partial(place_text, self.state.plan.source),
        )

    def _connected_reader(self) -> SourceReader:
        """Connect the stages with the sink writer and put a source reader in front of them."""
        router = Router(list(self.stages), self.sink_writer.complete)
        for stage in self.stages:
            stage.connect(router)
        first = self.stages[0] if self.stages else None
        reader = SourceReader(
            self.state.plan.source,
            self.state,
            router,
            self.sink_writer,
            self.in_flight,
            chunk_size=self.state.plan.chunk_size,
            stages=len(self.stages),
            channel=None if first is None or isinstance(first, InlineStageRun) else first.channel,
            call_size=self.state.plan.chunk_size if first is None else first.batch_size or 1,
            shard=self.shard,
            helps=self._helps,
        )
        self.state.tolerance.items_read = lambda: reader.items_read
        if self._helps:
            self.sink_writer.on_look = lambda found: reader.resume_after(found, self.sink.source_state())
        return reader

    @property
    def _helps(self) -> bool:
        """Whether this is a shard that takes chunks of others at its end: it must not read all of theirs for that."""
        return self.shard is not None and self.state.plan.balance and self.state.plan.source.can_jump

    # -- the calling thread -------------------------------------------------------------------------------------------

    def execute(self) -> RunReport:
        """Run to the end; see :meth:`Pipeline.run`."""
        self.state.stop_requested.listen(self.state.on_stop_requested)
        run_begins()
        outcome: State = "failed"
        try:
            try:
                self._begin()
                self._coordinate()
            except (OSError, MemoryError, RuntimeError, ImportError) as error:
                if shortage(error) is None:
                    raise
                self.state.crashed(error)
            self.state.forgive_help()
            outcome = self._outcome()
        finally:
            run_ended()
            self.state.stop_requested.forget(self.state.on_stop_requested)
            self._end_always(success=outcome == "success" and not self.state.help_failed)
            self.state.clock.ended = time.monotonic()
            self.monitor.publish(final=True, state=outcome)
        report = build_report(self._parts, outcome)
        if self.state.error is not None:
            raise attach_report(self.state.error, report, self.state.plan.worker_hooks.redact)
        return report

    def _begin(self) -> None:
        state, source = self.state, self.state.plan.source
        if self.shard is None:
            source.prepare()
        else:
            source.prepare_shard()
        for text in warnings_of(source):
            state.warn(text)
        # Known to some sources only now, to one that will be narrowed not yet.
        state.tolerance.total = source_length(source) if source.narrow is None else None
        state.tolerance.in_shard = self.shard is not None
        rejections = RejectionTracker(state.tolerance, state.causes)
        self.sink.bind(rejections)
        self.sink_writer.before_commit = rejections.begin
        self.sink.prepare(state.plan.load_spec_of("whole" if self.shard is None else "shard"))
        self._start_thread(SINK_THREAD, self.sink_writer.run)
        try:
            self.pool.prepare()
        except ForkServerLost as error:
            state.fail(state.stopped_error() if state.stop_requested.is_set else SetupFailed(str(error)))

    def _coordinate(self) -> None:
        state = self.state
        while not state.over and state.error is None:
            try:
                message = state.mailbox.get(timeout=self._wait_seconds())
            except queue.Empty:
                pass
            else:
                message()
            self.pool.check(time.monotonic())
            self._budgets.check(time.monotonic())
            self._check_total_timeout()
            self.monitor.sample()

    def _wait_seconds(self) -> float:
        now = time.monotonic()
        until = min(self.monitor.next_sample, self.pool.next_check, self._budgets.next_check)
        if self.state.plan.timeout is not None:
            until = min(until, self.state.clock.began + self.state.plan.timeout)
        return max(0.0, until - now)

    def _check_total_timeout(self) -> None:
        limit = self.state.plan.timeout
        if limit is not None and self.state.clock.seconds >= limit:
            self.state.fail(RunStopped(f"the run took longer than Pipeline.timeout={limit:g} s", None, "timeout"))

    def _outcome(self) -> State:
        if self.state.error is None:
            return "success"
        return "stopped" if isinstance(self.state.error, RunStopped) else "failed"

    def _end_always(self, *, success: bool) -> None:
        """A signal handler may raise during a normal end (``execution_timeout``): then the end becomes an abort."""
        try:
            self._end(success=success)
        except BaseException:
            self._end(success=False)
            raise

    def _end(self, *, success: bool) -> None:
        """End everything within a deadline; a thread that does not end by then is left behind, with a warning."""
        deadline = time.monotonic() + (END_SECONDS if success else ABORT_SECONDS)
        if not success:
            self._end_programs()  # first: those of an event loop cannot be found once its thread has ended
            self.state.stop.stop("the run is being torn down")
            for stage in self.stages:
                stage.channel.break_()
                stage.indexes.break_()
            self.in_flight.break_()
            self.sink_writer.break_()
            self.pool.interrupt()
            with contextlib.suppress(Exception):  # its run has failed already
                self.state.plan.source.interrupt()
            self._interrupt_sink()
        self.pool.end(deadline)
        for thread in self._threads:
            thread.join(max(0.05, deadline - time.monotonic()))
            if thread.is_alive():
                self.state.warn(f"thread {thread.name} did not end and was left behind")

    def _end_programs(self) -> None:
        self.pool.end_programs()
        for thread in self._threads:
            if thread.name == SOURCE_THREAD:  # inline stages run on it, too
                end_programs_of(thread)

    def _interrupt_sink(self) -> None:
        """Let a running commit end by itself; interrupt one that hangs (on a lock, on a dead network)."""
        for thread in self._threads:
            if thread.name == SINK_THREAD:
                thread.join(COMMIT_GRACE)
                if thread.is_alive():
                    self.sink.interrupt()

    # -- the other threads --------------------------------------------------------------------------------------------

    def _on_sink_open(self, committed: Mapping[str, CommittedChunk]) -> None:
        """The sink is open: the source may be read. From the sink's thread."""
        self.state.tolerance.resume_after(committed.values())
        self.source_reader.resume_after(committed, self.sink.source_state())
        offer = self.sink.takes_lines() if not self.stages else None
        if offer is not None:
            self.state.plan.source.send_lines(offer)
        self.state.mailbox.put(self._start_reading)

    def _start_reading(self) -> None:
        self.state.clock.working_since = time.monotonic()
        self.pool.start()
        self._start_thread(SOURCE_THREAD, self.source_reader.run)

    def _start_thread(self, name: str, target: Callable[[], None]) -> None:
        run = contextvars.copy_context().run
        thread = threading.Thread(target=lambda: run(target), name=name, daemon=True)
        thread.start()
        self._threads.append(thread)
