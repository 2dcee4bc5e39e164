"""The workers of a run: started, watched, replaced and ended on the coordinating thread."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

from airflow_parallel_provider.engine.limits import usable_cpus
from airflow_parallel_provider.engine.nursery.client import NurseryClient, NurseryLost
from airflow_parallel_provider.engine.shipping import by_value_modules
from airflow_parallel_provider.engine.slots.base import Slot
from airflow_parallel_provider.engine.slots.coroutines import AsyncSlot
from airflow_parallel_provider.engine.slots.inline import InlineStageRun
from airflow_parallel_provider.engine.slots.process import ProcessSlot
from airflow_parallel_provider.engine.slots.thread import ThreadSlot
from airflow_parallel_provider.errors import PlanError, SetupFailed, WorkersExhausted

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.run import Run
    from airflow_parallel_provider.engine.stage_run import StageRun

NURSERY_RESTARTS = 3
"""How often a nursery that dies is started again; one that keeps dying (out of memory) fails the run."""

_NEVER = float("inf")


class Crew:
    """All slots of a run, and the nursery behind the process slots."""

    def __init__(self, run: Run) -> None:
        self.next_check = _NEVER
        self.peak_rss = 0
        self._run = run
        self._slots: list[Slot] = []
        self._numbers: dict[int, int] = {}
        self._given_up: dict[int, int] = {}
        self._left_behind = 0
        self._own_rss = 0
        self._codes: dict[int, bytes] = {}
        self._nursery: NurseryClient | None = None
        self._nursery_changed = threading.Condition()
        self._restarts = 0
        self._registered = contextlib.ExitStack()

    # -- beginning ----------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start the nursery, where a stage needs it.

        :raises NotPicklable: when a function cannot travel to a worker process.
        :raises PlanError: when a worker process cannot import a stage's function.
        """
        self.sample_memory()
        self._codes = self._run.plan.check_shipping()
        if self._codes:
            processes = [stage for stage in self._run.plan.stages if stage.kind == "process"]
            self._registered.enter_context(by_value_modules(processes))  # items of the DAG file's classes travel too
            self._start_nursery()
        self._warn_of_too_many()

    def _start_nursery(self) -> None:
        client = NurseryClient(self._codes, self._run.plan.worker_env)
        try:
            failures = client.start()
        except BaseException:
            client.close()
            raise
        for stage, failure in failures.items():
            client.close()
            cure = f"a worker process cannot load it: {failure.error}: {failure.message}"
            raise PlanError(f"Stage({self._run.plan.stages[stage].name}).function", failure.place or "?", cure)
        with self._nursery_changed:
            self._nursery = client
            self._nursery_changed.notify_all()

    def _warn_of_too_many(self) -> None:
        cpus = usable_cpus()
        wanted = sum(stage.worker_range[1] for stage in self._run.plan.stages if stage.kind == "process")
        if wanted > cpus:
            self._run.warn(
                f"the plan asks for {wanted} worker processes, but this task may use {cpus} CPUs (affinity and cgroup "
                "quota): they will take turns"
            )

    def start(self) -> None:
        """Start a slot for every worker."""
        for stage in self._run.stages:
            if isinstance(stage, InlineStageRun):
                continue
            count = 1 if stage.stage.kind == "async" else stage.stage.worker_range[1]
            for _ in range(count):
                self._add(stage)
            stage.peak_workers = stage.stage.worker_range[1]

    def _add(self, stage: StageRun, left: object = None) -> None:
        number = self._numbers[stage.index] = self._numbers.get(stage.index, 0) + 1
        kind = stage.stage.kind
        slot: Slot
        if kind == "process":
            slot = ProcessSlot(stage, number, self._run)
        elif kind == "async":
            slot = AsyncSlot(stage, number, self._run, left)  # type: ignore[arg-type]  # left by one of its kind
        else:
            slot = ThreadSlot(stage, number, self._run, left)  # type: ignore[arg-type]
        self._slots.append(slot)
        self.next_check = 0.0
        slot.start()

    # -- while it runs ------------------------------------------------------------------------------------------------

    def check(self, now: float) -> None:
        """Have every slot look at its deadlines, when one is due."""
        if now < self.next_check:
            return
        dues = [slot.check(now) for slot in list(self._slots)]
        self.next_check = min((due for due in dues if due is not None), default=_NEVER)

    def replace(self, slot: Slot) -> None:
        """A slot with a stuck call was given up: another one takes its place, a limited number of times."""
        stage = slot.stage
        self._slots.remove(slot)
        self._left_behind += 1
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

    def sample_memory(self) -> None:
        """Add up what is resident now."""
        import psutil

        self._own_rss = max(self._own_rss, psutil.Process().memory_info().rss)
        workers = sum(getattr(slot, "peak_rss", 0) for slot in self._slots)
        self.peak_rss = max(self.peak_rss, self._own_rss + workers)

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
                if current is not None and current is not broken:
                    return current
                if current is broken:
                    self._nursery = None
                    self._run.mail.put(self._restart)
                self._nursery_changed.wait()

    def _restart(self) -> None:
        """On the coordinating thread: the parent-death signal follows the thread that starts the nursery."""
        self._restarts += 1
        if self._restarts > NURSERY_RESTARTS:
            text = f"the worker nursery died {self._restarts} times; perhaps the kernel ended it for lack of memory"
            self._run.fail(WorkersExhausted(text))
            return
        self._run.warn("the worker nursery died and was started again")
        try:
            self._start_nursery()
        except (NurseryLost, PlanError) as error:
            self._run.fail(SetupFailed(str(error)))

    # -- the end ------------------------------------------------------------------------------------------------------

    def interrupt(self) -> None:
        """The run is being torn down: wake every slot, end every process."""
        for slot in self._slots:
            slot.interrupt()
        if self._nursery is not None:
            self._nursery.close()
        with self._nursery_changed:
            self._nursery_changed.notify_all()

    def end(self, deadline: float) -> None:
        """Wait for the slots until the deadline, tear the inline stages down, end the nursery."""
        self.sample_memory()
        for slot in self._slots:
            slot.thread.join(max(0.0, deadline - time.monotonic()))
            if slot.thread.is_alive():
                self._left_behind += 1
                self._run.warn(f"thread {slot.thread.name} did not end and was left behind")
        for stage in self._run.stages:
            if isinstance(stage, InlineStageRun):
                stage.finish()
        self.sample_memory()
        if self._nursery is not None:
            self._nursery.close()
        self._registered.close()
