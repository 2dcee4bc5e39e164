# SPDX-License-Identifier: Apache-2.0
"""The workers of a run: started, watched, replaced and ended on the coordinating thread."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence

from airflow_parallel_provider.engine.plan.stage import AUTO, Stage
from airflow_parallel_provider.engine.processes.client import ForkServerClient
from airflow_parallel_provider.engine.processes.launch import LaunchedServer
from airflow_parallel_provider.engine.resources.cpus import usable_cpus
from airflow_parallel_provider.engine.run.fork_servers import ForkServers
from airflow_parallel_provider.engine.run.memory import SAMPLE_SECONDS as MEMORY_SAMPLE_SECONDS
from airflow_parallel_provider.engine.run.memory import MemoryMonitor
from airflow_parallel_provider.engine.run.shutdown import join_workers
from airflow_parallel_provider.engine.run.state import RunState
from airflow_parallel_provider.engine.stages.autoscaler import DECIDE_SECONDS, MOST_DECISIONS, Autoscaler, Decision
from airflow_parallel_provider.engine.stages.inline_stage import InlineStageRun
from airflow_parallel_provider.engine.stages.stage_run import StageRun
from airflow_parallel_provider.engine.workers.base import Worker
from airflow_parallel_provider.engine.workers.process import ProcessWorker
from airflow_parallel_provider.engine.workers.thread import ThreadWorker
from airflow_parallel_provider.errors import WorkersExhausted

FIRST_THREADS = 8
"""Threads that a stage with ``workers="auto"`` starts with."""

_NEVER = float("inf")


class WorkerPool:
    """All workers of a run. Implements :class:`.workers.base.WorkerSupervisor` for them.

    :param launched: the process of the first fork server, if it has been started already.
    """

    def __init__(
        self,
        state: RunState,
        stages: Sequence[StageRun],
        memory: MemoryMonitor,
        launched: LaunchedServer | None = None,
    ) -> None:
        self.context = state
        self.memory = memory
        self.fork_servers = ForkServers(state, launched)
        self.next_check = _NEVER
        self.decisions: list[Decision] = []
        self._stages = stages
        self._workers: list[Worker] = []
        self._abandoned: list[Worker] = []
        self._numbers: dict[int, int] = {}
        self._given_up: dict[int, int] = {}
        self._scalers: dict[int, Autoscaler] = {}
        self._next_scaling = _NEVER
        self._next_memory_sample = _NEVER

    # -- the start ----------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Start the fork server, where a stage needs it.

        :raises NotPicklable: when a function cannot travel to a worker process.
        :raises PlanError: when a worker process cannot import a stage's function.
        """
        self.sample_memory()
        self.fork_servers.prepare()
        self._warn_of_too_many()

    def _warn_of_too_many(self) -> None:
        cpus = usable_cpus()
        for stage in self.context.plan.stages:
            most = stage.workers[1] if isinstance(stage.workers, tuple) else 0
            if stage.kind == "process" and most > stage.worker_range[1]:
                self.context.warn(
                    f"stage {stage.name}: workers={stage.workers} was capped at {stage.worker_range[1]}, because this "
                    f"task may use {cpus} CPUs (affinity and cgroup quota)"
                )
        wanted = sum(stage.worker_range[1] for stage in self.context.plan.stages if stage.kind == "process")
        if wanted > cpus:
            self.context.warn(
                f"the plan asks for {wanted} worker processes, but this task may use {cpus} CPUs (affinity and cgroup "
                "quota): they will take turns"
            )

    def start(self) -> None:
        """Start the first workers of every stage."""
        now = time.monotonic()
        for stage in self._stages:
            if isinstance(stage, InlineStageRun):
                stage.set_workers(1)
                continue
            low, high = stage.stage.worker_range
            count = self._first_workers(stage.stage, low, high)
            if stage.stage.kind == "async":  # one event loop; its workers are coroutines
                stage.set_workers(high)
                self._add(stage)
                continue
            if low < high:
                self._scalers[stage.index] = Autoscaler(stage, low, high)
                self._next_scaling = now + DECIDE_SECONDS
            stage.set_workers(count)
            for _ in range(count):
                self._add(stage)
        if self.memory.limited:
            self._next_memory_sample = now

    def _first_workers(self, stage: Stage, low: int, high: int) -> int:
        """A range starts at its minimum. "auto" starts where most stages end up, so that short runs need not grow."""
        if stage.workers != AUTO:
            return low
        if stage.kind != "process":
            return min(high, FIRST_THREADS)
        shares = sum(1 for each in self.context.plan.stages if each.kind == "process" and each.workers == AUTO)
        return max(1, min(high, usable_cpus() // shares))

    def _add(
        self,
        stage: StageRun,
        takes_over: object = None,
        *,
        replaces: Worker | None = None,
        successor_of: Worker | None = None,
    ) -> None:
        number = self._numbers[stage.index] = self._numbers.get(stage.index, 0) + 1
        kind = stage.stage.kind
        worker: Worker
        if kind == "process":
            worker = ProcessWorker(stage, number, self, takes_over)  # type: ignore[arg-type]  # of one of its kind
        elif kind == "async":
            from airflow_parallel_provider.engine.workers.coroutine import CoroutineWorker  # asyncio takes 20 ms

            worker = CoroutineWorker(stage, number, self, takes_over)  # type: ignore[arg-type]  # of one of its kind
        else:
            worker = ThreadWorker(stage, number, self, takes_over)  # type: ignore[arg-type]
        worker.replaces = replaces
        if successor_of is not None:
            worker.inherit(successor_of)
        worker.start()
        self._workers.append(worker)
        self.next_check = 0.0

    # -- while it runs ------------------------------------------------------------------------------------------------

    def check(self, now: float) -> None:
        """Let every worker check its deadlines, when one is due."""
        if now < self.next_check:
            return
        self.next_check = _NEVER  # a worker that is added during the loop sets it to 0
        dues = [worker.check(now) for worker in list(self._workers)]
        if now >= self._next_scaling:
            self._next_scaling = now + DECIDE_SECONDS
            self._scale(now)
        if now >= self._next_memory_sample:
            self._next_memory_sample = now + MEMORY_SAMPLE_SECONDS
            self.sample_memory()
        due = min((due for due in dues if due is not None), default=_NEVER)
        self.next_check = min(self.next_check, due, self._next_scaling, self._next_memory_sample)

    def _scale(self, now: float) -> None:
        for autoscaler in self._scalers.values():
            stage = autoscaler.stage
            room = self._cpus - self._processes if stage.stage.kind == "process" else autoscaler.high
            decided = autoscaler.decide(now, room)
            if decided is not None:
                self._resize(stage, *decided, now)

    @functools.cached_property
    def _cpus(self) -> int:
        """CPUs of this task. Cached: it takes a dozen files to find out, and scaling needs it ten times per second."""
        return usable_cpus()

    @property
    def _processes(self) -> int:
        """How many worker processes there should be; another stage may just have been given more."""
        return sum(stage.workers for stage in self._stages if stage.stage.kind == "process")

    def _resize(self, stage: StageRun, count: int, reason: str, now: float) -> None:
        before = stage.workers
        if len(self.decisions) < MOST_DECISIONS:
            since = self.context.clock.working_since or now
            self.decisions.append(Decision(now - since, stage.stage.name, before, count, reason))
        stage.set_workers(count)
        if count < before:
            stage.channel.retire(before - count)
        missing = max(0, count - before)
        for _ in range(missing - stage.channel.take_retirements(missing)):
            self._add(stage)

    def fork_server(self, broken: ForkServerClient | None = None) -> ForkServerClient:
        """The running fork server; see :meth:`ForkServers.running`. From the thread of a worker."""
        return self.fork_servers.running(broken)

    def recycle(self, worker: Worker) -> None:
        """Start a successor, because the worker has made its share of calls; once ready it ends the old one.

        From any thread.
        """
        self.context.mailbox.put(lambda: self._add(worker.stage, replaces=worker, successor_of=worker))

    def sample_memory(self) -> None:
        """Sample the memory of all processes; see :meth:`MemoryMonitor.sample`."""
        self._workers = [worker for worker in self._workers if worker.thread.is_alive()]
        self.memory.sample(self._workers)

    def replace(self, worker: Worker) -> None:
        """Start another worker in place of one with a stuck call, a limited number of times per stage."""
        stage = worker.stage
        self._workers.remove(worker)
        self._abandoned.append(worker)
        worker.end_programs()  # its thread may wait for one, and is free again then
        count = self._given_up[stage.index] = self._given_up.get(stage.index, 0) + 1
        name, limit = stage.stage.name, self._replacements(stage)
        self.context.warn(f"stage {name}: calls exceeded their timeout; their threads were left behind")
        if count > limit:
            text = f"stage {name}: {count} threads are stuck in calls that do not return; use kind='process'"
            self.context.fail(WorkersExhausted(text))
            return
        self._add(stage, worker.leftover, successor_of=worker)

    @staticmethod
    def _replacements(stage: StageRun) -> int:
        return 2 * stage.stage.worker_range[1] + 8

    def end_programs(self) -> None:
        """Kill the programs that functions have started in the task process, of threads that are still alive."""
        for worker in [*self._workers, *self._abandoned]:
            worker.end_programs()

    # -- the end ------------------------------------------------------------------------------------------------------

    def interrupt(self) -> None:
        """The run is being torn down: wake every worker, end every worker process."""
        for worker in self._workers:
            worker.interrupt()
        for stage in self._stages:
            if isinstance(stage, InlineStageRun):
                stage.interrupt()
        self.fork_servers.interrupt()

    def end(self, deadline: float) -> None:
        """Wait for the workers until the deadline, tear down the inline stages, end the fork server."""
        try:
            self._join(deadline)
        finally:
            self.fork_servers.close()

    def _join(self, deadline: float) -> None:
        workers = list(self._workers)
        self.sample_memory()
        join_workers(self.context, self._workers, deadline, self.interrupt)
        self.end_programs()
        self.memory.finish(workers)
        for stage in self._stages:
            if isinstance(stage, InlineStageRun):
                stage.teardown()
            stage.set_workers(0)
