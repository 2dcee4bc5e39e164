"""The workers of a run: started, watched, replaced and ended on the coordinating thread."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from typing import TYPE_CHECKING

from airflow_parallel_provider.engine.functions.import_scan import modules_wanted
from airflow_parallel_provider.engine.functions.serialization import by_value_modules
from airflow_parallel_provider.engine.ipc.requests import QuestionDesk
from airflow_parallel_provider.engine.plan.stage import AUTO, Stage
from airflow_parallel_provider.engine.processes.client import Extras, NurseryClient, NurseryLost
from airflow_parallel_provider.engine.resources.cpus import usable_cpus
from airflow_parallel_provider.engine.run.memory import LOOK_SECONDS as MEMORY_LOOK_SECONDS
from airflow_parallel_provider.engine.run.memory import MemoryWatch
from airflow_parallel_provider.engine.run.shutdown import part_from
from airflow_parallel_provider.engine.stages.autoscaler import LOOK_SECONDS, MOST_DECISIONS, Decision, Scaler
from airflow_parallel_provider.engine.stages.inline_stage import InlineStageRun
from airflow_parallel_provider.engine.workers.base import Slot
from airflow_parallel_provider.engine.workers.coroutine import AsyncSlot
from airflow_parallel_provider.engine.workers.process import ProcessSlot
from airflow_parallel_provider.engine.workers.thread import ThreadSlot
from airflow_parallel_provider.errors import PlanError, SetupFailed, WorkersExhausted

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.run.run import Run
    from airflow_parallel_provider.engine.stages.stage_run import StageRun

FIRST_THREADS = 8
"""Threads that a stage which leaves the number to us starts with."""

NURSERY_RESTARTS = 3
"""How often a nursery that dies is started again; one that keeps dying (out of memory) fails the run."""

_NEVER = float("inf")


class Crew:
    """All slots of a run, and the nursery behind the process slots."""

    def __init__(self, run: Run) -> None:
        self.next_check = _NEVER
        self.memory = MemoryWatch(run)
        self.decisions: list[Decision] = []
        self._run = run
        self._slots: list[Slot] = []
        self._numbers: dict[int, int] = {}
        self._given_up: dict[int, int] = {}
        self._scalers: dict[int, Scaler] = {}
        self._next_look = _NEVER
        self._next_memory_look = _NEVER
        self._codes: dict[int, bytes] = {}
        self._nursery: NurseryClient | None = None
        self._dead_nursery: NurseryClient | None = None  # the same one, when it has died and a new one is asked for
        self._nursery_changed = threading.Condition()
        self._restarts = 0
        self._registered = contextlib.ExitStack()
        self._desk: QuestionDesk | None = None

    # -- beginning ----------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start the nursery, where a stage needs it.

        :raises NotPicklable: when a function cannot travel to a worker process.
        :raises PlanError: when a worker process cannot import a stage's function.
        """
        self.look_at_memory()
        self._codes = self._run.plan.check_shipping()
        if self._codes:
            # Items of the DAG file's classes travel too.
            self._registered.enter_context(by_value_modules(self._process_stages))
            self._start_nursery()
        self._warn_of_too_many()

    def _start_nursery(self) -> None:
        client = NurseryClient(self._codes, self._run.plan.worker_env, lambda: self._run.asked.is_set, self._extras())
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
            raise PlanError(f"Stage({self._run.plan.stages[stage].name}).function", failure.place or "?", cure)
        with self._nursery_changed:
            self._nursery = client
            self._nursery_changed.notify_all()

    def _extras(self) -> Extras:
        """What the surroundings of the run give to its workers."""
        host = self._run.plan.worker_host
        if host.answer is not None and self._desk is None:
            self._desk = QuestionDesk(host.answer)
        wanted = host.preload(modules_wanted(self._process_stages)) if host.preload is not None else ()
        return Extras(host.begin, tuple(wanted), None if self._desk is None else self._desk.fd, host.clean)

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
                self._scalers[stage.index] = Scaler(stage, low, high)
                self._next_look = now + LOOK_SECONDS
            stage.set_workers(count)
            for _ in range(count):
                self._add(stage)
        if self.memory.limited:
            self._next_memory_look = now

    def _first_workers(self, stage: Stage, low: int, high: int) -> int:
        """A range starts at its least. "auto" starts where most stages end up, so that short runs need not grow."""
        if stage.workers != AUTO:
            return low
        if stage.kind != "process":
            return min(high, FIRST_THREADS)
        shares = sum(1 for each in self._run.plan.stages if each.kind == "process" and each.workers == AUTO)
        return max(1, min(high, usable_cpus() // shares))

    def _add(self, stage: StageRun, left: object = None, relieves: Slot | None = None) -> None:
        number = self._numbers[stage.index] = self._numbers.get(stage.index, 0) + 1
        kind = stage.stage.kind
        slot: Slot
        if kind == "process":
            slot = ProcessSlot(stage, number, self._run)
        elif kind == "async":
            slot = AsyncSlot(stage, number, self._run, left)  # type: ignore[arg-type]  # left by one of its kind
        else:
            slot = ThreadSlot(stage, number, self._run, left)  # type: ignore[arg-type]
        slot.relieves = relieves
        self._slots.append(slot)
        self.next_check = 0.0
        slot.start()

    # -- while it runs ------------------------------------------------------------------------------------------------

    def check(self, now: float) -> None:
        """Have every slot look at its deadlines, when one is due."""
        if now < self.next_check:
            return
        self.next_check = _NEVER  # a slot that is added meanwhile sets it back
        dues = [slot.check(now) for slot in list(self._slots)]
        if now >= self._next_look:
            self._next_look = now + LOOK_SECONDS
            self._scale(now)
        if now >= self._next_memory_look:
            self._next_memory_look = now + MEMORY_LOOK_SECONDS
            self.look_at_memory()
        due = min((due for due in dues if due is not None), default=_NEVER)
        self.next_check = min(self.next_check, due, self._next_look, self._next_memory_look)

    def _scale(self, now: float) -> None:
        for scaler in self._scalers.values():
            stage = scaler.stage
            room = self._cpus - self._processes if stage.stage.kind == "process" else scaler.high
            decided = scaler.decide(now, room)
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
            since = self._run.clocks.working_since or now
            self.decisions.append(Decision(now - since, stage.stage.name, before, count, reason))
        stage.set_workers(count)
        if count < before:
            stage.channel.dismiss(before - count)
        for _ in range(count - before):
            self._add(stage)

    def relieve(self, slot: Slot) -> None:
        """Start a successor for a slot whose worker has served its time; it ends the old one once it is ready."""
        self._add(slot.stage, relieves=slot)

    def look_at_memory(self) -> None:
        """Take a sample of the memory of all processes, act on it."""
        self._slots = [slot for slot in self._slots if slot.thread.is_alive()]
        self.memory.look(self._slots)

    def replace(self, slot: Slot) -> None:
        """A slot with a stuck call was given up: another one takes its place, a limited number of times."""
        stage = slot.stage
        self._slots.remove(slot)
        count = self._given_up[stage.index] = self._given_up.get(stage.index, 0) + 1
        name, limit = stage.stage.name, self._replacements(stage)
        self._run.warn(f"stage {name}: calls passed their timeout and their threads were left behind")
        if count > limit:
            text = f"stage {name}: {count} threads are stuck in calls that do not return; use kind='process'"
            self._run.fail(WorkersExhausted(text))
            return
        self._add(stage, slot.left)  # type: ignore[attr-defined]  # only such slots are given up

    @staticmethod
    def _replacements(stage: StageRun) -> int:
        return 2 * stage.stage.worker_range[1] + 8

    # -- the nursery --------------------------------------------------------------------------------------------------

    def nursery(self, broken: NurseryClient | None = None) -> NurseryClient:
        """The running nursery; when ``broken`` is the current one, have the coordinating thread start another.

        :raises NurseryLost: when there is none and none will come.
        """
        with self._nursery_changed:
            while True:
                if self._run.stop.is_set:
                    raise NurseryLost("the run is being torn down")
                current = self._nursery
                if current is not None and current not in (broken, self._dead_nursery):
                    return current
                if current is not None and current is not self._dead_nursery:
                    # It stays the one to be closed: the run may be over before another one is started.
                    self._dead_nursery = current
                    self._run.mail.put(functools.partial(self._restart, current))
                self._nursery_changed.wait()

    def _restart(self, dead: NurseryClient) -> None:
        """On the coordinating thread: the parent-death signal follows the thread that starts the nursery."""
        dead.close()
        if self._run.asked.is_set:
            return  # whoever ended the whole process group asked us to stop, too
        self._restarts += 1
        if self._restarts > NURSERY_RESTARTS:
            text = f"the worker nursery died {self._restarts} times; perhaps the kernel ended it for lack of memory"
            self._run.fail(WorkersExhausted(text))
            return
        self._run.warn("the worker nursery died and was started again")
        try:
            self._start_nursery()
        except SetupFailed as error:
            self._run.fail(error)
        except (NurseryLost, PlanError) as error:
            if not self._run.asked.is_set:
                self._run.fail(SetupFailed(str(error)))

    # -- the end ------------------------------------------------------------------------------------------------------

    def interrupt(self) -> None:
        """The run is being torn down: wake every slot, end every process."""
        for slot in self._slots:
            slot.interrupt()
        for stage in self._run.stages:
            if isinstance(stage, InlineStageRun):
                stage.interrupt()
        if self._nursery is not None:
            self._nursery.close()
        with self._nursery_changed:
            self._nursery_changed.notify_all()

    def end(self, deadline: float) -> None:
        """Wait for the slots until the deadline, tear the inline stages down, end the nursery."""
        try:
            self._end_slots(deadline)
        finally:
            if self._nursery is not None:
                self._nursery.close()
            if self._desk is not None:
                self._desk.close()
            self._registered.close()

    def _end_slots(self, deadline: float) -> None:
        slots = list(self._slots)
        self.look_at_memory()
        part_from(self._run, self._slots, deadline)
        self.memory.settle(slots)
        for stage in self._run.stages:
            if isinstance(stage, InlineStageRun):
                stage.finish()
            stage.set_workers(0)
