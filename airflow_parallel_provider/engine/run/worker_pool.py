"""The workers of a run: started, watched, replaced and ended on the coordinating thread."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from typing import TYPE_CHECKING

from airflow_parallel_provider.engine.functions.import_scan import imported_modules
from airflow_parallel_provider.engine.functions.serialization import by_value_modules
from airflow_parallel_provider.engine.ipc.requests import RequestServer
from airflow_parallel_provider.engine.plan.stage import AUTO, Stage
from airflow_parallel_provider.engine.processes.client import ForkServerClient, ForkServerLost, ForkServerOptions
from airflow_parallel_provider.engine.resources.cpus import usable_cpus
from airflow_parallel_provider.engine.run.memory import SAMPLE_SECONDS as MEMORY_LOOK_SECONDS
from airflow_parallel_provider.engine.run.memory import MemoryMonitor
from airflow_parallel_provider.engine.run.shutdown import join_workers
from airflow_parallel_provider.engine.stages.autoscaler import DECIDE_SECONDS, MOST_DECISIONS, Autoscaler, Decision
from airflow_parallel_provider.engine.stages.inline_stage import InlineStageRun
from airflow_parallel_provider.engine.workers.base import Worker
from airflow_parallel_provider.engine.workers.coroutine import CoroutineWorker
from airflow_parallel_provider.engine.workers.process import ProcessWorker
from airflow_parallel_provider.engine.workers.thread import ThreadWorker
from airflow_parallel_provider.errors import PlanError, SetupFailed, WorkersExhausted

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.run.run import Run
    from airflow_parallel_provider.engine.stages.stage_run import StageRun

FIRST_THREADS = 8
"""Threads that a stage which leaves the number to us starts with."""

FORK_SERVER_RESTARTS = 3
"""How often a fork server that dies is started again; one that keeps dying (out of memory) fails the run."""

_NEVER = float("inf")


class WorkerPool:
    """All workers of a run, and the fork server behind the process workers."""

    def __init__(self, run: Run) -> None:
        self.next_check = _NEVER
        self.memory = MemoryMonitor(run)
        self.decisions: list[Decision] = []
        self._run = run
        self._workers: list[Worker] = []
        self._numbers: dict[int, int] = {}
        self._given_up: dict[int, int] = {}
        self._scalers: dict[int, Autoscaler] = {}
        self._next_scaling = _NEVER
        self._next_memory_sample = _NEVER
        self._codes: dict[int, bytes] = {}
        self._fork_server: ForkServerClient | None = None
        self._dead_fork_server: ForkServerClient | None = (
            None  # the same one, when it has died and a new one is asked for
        )
        self._fork_server_changed = threading.Condition()
        self._restarts = 0
        self._registered = contextlib.ExitStack()
        self._request_server: RequestServer | None = None

    # -- beginning ----------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Start the fork server, where a stage needs it.

        :raises NotPicklable: when a function cannot travel to a worker process.
        :raises PlanError: when a worker process cannot import a stage's function.
        """
        self.sample_memory()
        self._codes = self._run.plan.check_picklable()
        if self._codes:
            # Items of the DAG file's classes travel too.
            self._registered.enter_context(by_value_modules(self._process_stages))
            self._start_fork_server()
        self._warn_of_too_many()

    def _start_fork_server(self) -> None:
        client = ForkServerClient(
            self._codes, self._run.plan.worker_env, lambda: self._run.stop_requested.is_set, self._fork_server_options()
        )
        try:
            failures = client.start()
        except BaseException:
            client.close()
            raise
        for stage, failure in failures.items():
            client.close()
            if stage < 0:
                raise SetupFailed(f"a worker process cannot begin: {failure.error}: {failure.message}")
            cure = f"a worker process cannot load it: {failure.error}: {failure.message}"
            raise PlanError(f"Stage({self._run.plan.stages[stage].name}).function", failure.location or "?", cure)
        with self._fork_server_changed:
            self._fork_server = client
            self._fork_server_changed.notify_all()

    def _fork_server_options(self) -> ForkServerOptions:
        """What the surroundings of the run give to its workers."""
        host = self._run.plan.worker_hooks
        if host.handle_request is not None and self._request_server is None:
            self._request_server = RequestServer(host.handle_request)
        wanted = host.preload(imported_modules(self._process_stages)) if host.preload is not None else ()
        return ForkServerOptions(
            host.on_start, tuple(wanted), None if self._request_server is None else self._request_server.fd, host.redact
        )

    @property
    def _process_stages(self) -> list[Stage]:
        return [stage for stage in self._run.plan.stages if stage.kind == "process"]

    def _warn_of_too_many(self) -> None:
        cpus = usable_cpus()
        for stage in self._run.plan.stages:
            most = stage.workers[1] if isinstance(stage.workers, tuple) else 0
            if stage.kind == "process" and most > stage.worker_range[1]:
                self._run.warn(
                    f"stage {stage.name}: workers={stage.workers} was capped at {stage.worker_range[1]}, because this "
                    f"task may use {cpus} CPUs (affinity and cgroup quota)"
                )
        wanted = sum(stage.worker_range[1] for stage in self._run.plan.stages if stage.kind == "process")
        if wanted > cpus:
            self._run.warn(
                f"the plan asks for {wanted} worker processes, but this task may use {cpus} CPUs (affinity and cgroup "
                "quota): they will take turns"
            )

    def start(self) -> None:
        """Start the first workers of every stage."""
        now = time.monotonic()
        for stage in self._run.stages:
            if isinstance(stage, InlineStageRun):
                stage.set_workers(1)
                continue
            low, high = stage.stage.worker_range
            count = self._first_workers(stage.stage, low, high)
            if stage.stage.kind == "async":  # one loop; its workers are coroutines
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
        """A range starts at its least. "auto" starts where most stages end up, so that short runs need not grow."""
        if stage.workers != AUTO:
            return low
        if stage.kind != "process":
            return min(high, FIRST_THREADS)
        shares = sum(1 for each in self._run.plan.stages if each.kind == "process" and each.workers == AUTO)
        return max(1, min(high, usable_cpus() // shares))

    def _add(self, stage: StageRun, takes_over: object = None, replaces: Worker | None = None) -> None:
        number = self._numbers[stage.index] = self._numbers.get(stage.index, 0) + 1
        kind = stage.stage.kind
        worker: Worker
        if kind == "process":
            worker = ProcessWorker(stage, number, self._run)
        elif kind == "async":
            worker = CoroutineWorker(stage, number, self._run, takes_over)  # type: ignore[arg-type]  # of one of its kind
        else:
            worker = ThreadWorker(stage, number, self._run, takes_over)  # type: ignore[arg-type]
        worker.replaces = replaces
        self._workers.append(worker)
        self.next_check = 0.0
        worker.start()

    # -- while it runs ------------------------------------------------------------------------------------------------

    def check(self, now: float) -> None:
        """Have every worker look at its deadlines, when one is due."""
        if now < self.next_check:
            return
        self.next_check = _NEVER  # a worker that is added meanwhile sets it back
        dues = [worker.check(now) for worker in list(self._workers)]
        if now >= self._next_scaling:
            self._next_scaling = now + DECIDE_SECONDS
            self._scale(now)
        if now >= self._next_memory_sample:
            self._next_memory_sample = now + MEMORY_LOOK_SECONDS
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
        """CPUs of this task. Not asked at each of ten looks per second: the answer is in a dozen files."""
        return usable_cpus()

    @property
    def _processes(self) -> int:
        """How many worker processes there are to be: another stage may just have got some more."""
        return sum(stage.workers for stage in self._run.stages if stage.stage.kind == "process")

    def _resize(self, stage: StageRun, count: int, reason: str, now: float) -> None:
        before = stage.workers
        if len(self.decisions) < MOST_DECISIONS:
            since = self._run.clock.working_since or now
            self.decisions.append(Decision(now - since, stage.stage.name, before, count, reason))
        stage.set_workers(count)
        if count < before:
            stage.channel.retire(before - count)
        for _ in range(count - before):
            self._add(stage)

    def recycle(self, worker: Worker) -> None:
        """Start a successor for a worker whose worker has served its time; it ends the old one once it is ready."""
        self._add(worker.stage, replaces=worker)

    def sample_memory(self) -> None:
        """Take a sample of the memory of all processes, act on it."""
        self._workers = [worker for worker in self._workers if worker.thread.is_alive()]
        self.memory.sample(self._workers)

    def replace(self, worker: Worker) -> None:
        """A worker with a stuck call was given up: another one takes its place, a limited number of times."""
        stage = worker.stage
        self._workers.remove(worker)
        count = self._given_up[stage.index] = self._given_up.get(stage.index, 0) + 1
        name, limit = stage.stage.name, self._replacements(stage)
        self._run.warn(f"stage {name}: calls passed their timeout and their threads were left behind")
        if count > limit:
            text = f"stage {name}: {count} threads are stuck in calls that do not return; use kind='process'"
            self._run.fail(WorkersExhausted(text))
            return
        self._add(stage, worker.leftover)

    @staticmethod
    def _replacements(stage: StageRun) -> int:
        return 2 * stage.stage.worker_range[1] + 8

    # -- the fork server --------------------------------------------------------------------------------------------------

    def fork_server(self, broken: ForkServerClient | None = None) -> ForkServerClient:
        """The running fork server; when ``broken`` is the current one, have the coordinating thread start another.

        :raises ForkServerLost: when there is none and none will come.
        """
        with self._fork_server_changed:
            while True:
                if self._run.stop.is_set:
                    raise ForkServerLost("the run is being torn down")
                current = self._fork_server
                if current is not None and current not in (broken, self._dead_fork_server):
                    return current
                if current is not None and current is not self._dead_fork_server:
                    # It stays the one to be closed: the run may be over before another one is started.
                    self._dead_fork_server = current
                    self._run.mailbox.put(functools.partial(self._restart, current))
                self._fork_server_changed.wait()

    def _restart(self, dead: ForkServerClient) -> None:
        """On the coordinating thread: the parent-death signal follows the thread that starts the fork server."""
        dead.close()
        if self._run.stop_requested.is_set:
            return  # whoever ended the whole process group asked us to stop, too
        self._restarts += 1
        if self._restarts > FORK_SERVER_RESTARTS:
            text = f"the worker fork server died {self._restarts} times; perhaps the kernel ended it for lack of memory"
            self._run.fail(WorkersExhausted(text))
            return
        self._run.warn("the worker fork server died and was started again")
        try:
            self._start_fork_server()
        except SetupFailed as error:
            self._run.fail(error)
        except (ForkServerLost, PlanError) as error:
            if not self._run.stop_requested.is_set:
                self._run.fail(SetupFailed(str(error)))

    # -- the end ------------------------------------------------------------------------------------------------------

    def interrupt(self) -> None:
        """The run is being torn down: wake every worker, end every process."""
        for worker in self._workers:
            worker.interrupt()
        for stage in self._run.stages:
            if isinstance(stage, InlineStageRun):
                stage.interrupt()
        if self._fork_server is not None:
            self._fork_server.close()
        with self._fork_server_changed:
            self._fork_server_changed.notify_all()

    def end(self, deadline: float) -> None:
        """Wait for the workers until the deadline, tear the inline stages down, end the fork server."""
        try:
            self._join(deadline)
        finally:
            if self._fork_server is not None:
                self._fork_server.close()
            if self._request_server is not None:
                self._request_server.close()
            self._registered.close()

    def _join(self, deadline: float) -> None:
        workers = list(self._workers)
        self.sample_memory()
        join_workers(self._run, self._workers, deadline)
        self.memory.finish(workers)
        for stage in self._run.stages:
            if isinstance(stage, InlineStageRun):
                stage.teardown()
            stage.set_workers(0)
