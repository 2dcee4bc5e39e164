# SPDX-License-Identifier: Apache-2.0
"""Injected faults: which item, at which stage, how often, and what happens to it."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Generator, Iterable
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

from airflow_parallel_provider.checks import check_whole
from airflow_parallel_provider.engine.interfaces.sink import ListSink
from airflow_parallel_provider.engine.interfaces.stop import StopToken
from airflow_parallel_provider.engine.pipeline import Pipeline
from airflow_parallel_provider.engine.plan.functions import has_process_method
from airflow_parallel_provider.engine.plan.stage import Stage
from airflow_parallel_provider.errors import PlanError
from airflow_parallel_provider.report import RunReport
from airflow_parallel_provider.testing import fault_site
from airflow_parallel_provider.testing.fault_ends import BareSink, TaggingSource
from airflow_parallel_provider.testing.fault_site import FaultKind, FaultSite, InjectedFault, Strike
from airflow_parallel_provider.testing.fault_wrap import bare, under_fault
from airflow_parallel_provider.testing.rebuild import rebuilt


@dataclass(frozen=True)
class Fault:
    """The base class of :class:`Fail`, :class:`Kill` and :class:`Stall`.

    :raises PlanError: unless exactly one of ``at`` and ``rate`` is given, and in range.
    """

    kind: ClassVar[FaultKind]

    stage: str
    """Name of the stage, as in the report."""
    at: int | Iterable[int] | None = None
    """Position, or positions, of the items in the source, from 0."""
    _: KW_ONLY
    rate: float | None = None
    """Share of the items that meet it, 0.0 to 1.0, chosen by the plan's seed."""
    times: int | None = 1
    """How many calls with an item meet it, so that a retry may succeed; None: each call, so the item always fails."""
    limit: int | None = None
    """How often it strikes at most, over all items; None: no limit."""

    def __post_init__(self) -> None:
        name = type(self).__name__
        if (self.at is None) == (self.rate is None):
            raise PlanError(f"{name}.at", self.at, "give either at=, the position of an item, or rate=, a fraction")
        if self.at is not None:
            places = frozenset((self.at,) if isinstance(self.at, int) else self.at)
            if not places or any(not isinstance(each, int) or each < 0 for each in places):
                raise PlanError(f"{name}.at", self.at, "give positions of items in the source, whole numbers from 0")
            object.__setattr__(self, "at", places)
        if self.rate is not None and not 0 < self.rate <= 1:
            raise PlanError(f"{name}.rate", self.rate, "give a fraction of the items, more than 0.0, at most 1.0")
        for field in ("times", "limit"):
            check_whole(f"{name}.{field}", getattr(self, field), optional=True)

    def check(self, stage: Stage) -> None:
        """Check that the fault can strike at this stage.

        :raises PlanError: when it cannot.
        """


@dataclass(frozen=True)
class Fail(Fault):
    """The stage's function raises."""

    kind: ClassVar[FaultKind] = "error"

    error: type[BaseException] | BaseException = InjectedFault
    """Type of the error (called with one text), or the error itself."""


@dataclass(frozen=True)
class Kill(Fault):
    """The worker process of the item is killed by SIGKILL, as the kernel does when memory runs out."""

    kind: ClassVar[FaultKind] = "kill"

    def check(self, stage: Stage) -> None:
        """Only a process can be killed."""
        if stage.kind != "process":
            cure = f"only a worker process can be killed; stage {stage.name} is kind={stage.kind!r}: use Fail or Stall"
            raise PlanError("Kill.stage", self.stage, cure)


@dataclass(frozen=True)
class Stall(Fault):
    """The call does not return; the stage's ``timeout`` must end it."""

    kind: ClassVar[FaultKind] = "stall"

    def check(self, stage: Stage) -> None:
        """Without a timeout the pipeline would wait forever."""
        if stage.timeout is None:
            cure = f"stage {stage.name} has no timeout=, so nothing would ever end the call; give it one"
            raise PlanError("Stall.stage", self.stage, cure)


class Fired(NamedTuple):
    """A fault that struck."""

    kind: FaultKind
    stage: str
    position: int
    """Of the item in the source."""
    times: int
    """How often it struck at this item."""


class FaultPlan:
    """Wraps a pipeline so that chosen items meet chosen faults.

    ::

        plan = FaultPlan(Fail("fetch", at=7, times=2), Kill("score", at=11), Stall("score", at=13))
        report = plan.wrap(pipeline).run()
        plan.assert_fired()

    The plan records the faults that struck, also across runs, so a worker that was killed in the first try is not
    killed again in the second; :meth:`reset` deletes the record. An item keeps its position through all stages. Where a
    batch function returns another number of results than it received items, a later fault of any of these items strikes
    each result.

    Known limitation: a fault strikes before the function is called, never during the call.

    :param faults: :class:`Fail`, :class:`Kill` and :class:`Stall`.
    :param seed: chooses the items of faults with a ``rate``.
    """

    def __init__(self, *faults: Fault, seed: int = 0) -> None:
        for number, fault in enumerate(faults):
            if not isinstance(fault, Fault) or type(fault) is Fault:
                raise PlanError(f"FaultPlan.faults[{number}]", fault, "give Fail(...), Kill(...) or Stall(...)")
        self.faults = faults
        self.seed = seed
        self._directory = tempfile.mkdtemp(prefix="parallel-faults-")
        self._remove = weakref.finalize(self, _forget, self._directory)

    def wrap(self, pipeline: Pipeline) -> Pipeline:
        """A copy of the pipeline under these faults; ``pipeline`` itself does not change.

        :raises PlanError: when a fault names an unknown stage, or cannot strike at it.
        """
        names = [stage.name for stage in pipeline.stages]
        for fault in self.faults:
            if fault.stage not in names:
                raise PlanError(f"{type(fault).__name__}.stage", fault.stage, f"choose one of {', '.join(names)}")
            fault.check(pipeline.stages[names.index(fault.stage)])
        stages = [self._wrapped(stage) for stage in pipeline.stages]
        made = PipelineUnderFaults.__new__(PipelineUnderFaults)
        made.__dict__.update(rebuilt(pipeline, stages=stages).__dict__)
        # The source references this plan, so its directory exists as long as the pipeline does.
        made.source = TaggingSource(pipeline.source, self._begin)
        made.sink_wrapper = BareSink(ListSink(), self._end)
        made.sink = None if pipeline.sink is None else made.sink_wrapper.around(pipeline.sink)
        return made

    def _wrapped(self, stage: Stage) -> Stage:
        strikes = tuple(_strike(number, fault) for number, fault in enumerate(self.faults) if fault.stage == stage.name)
        site = FaultSite(stage.name, stage.kind, stage.timeout, self.seed, self._directory, os.getpid(), strikes)
        has_process = has_process_method(stage.function)
        function = under_fault(site, stage.function, has_process=has_process, batched=stage.batched)
        return replace(stage, function=function)

    def _begin(self) -> None:
        fault_site.released[self._directory] = threading.Event()

    def _end(self) -> None:
        fault_site.released.setdefault(self._directory, threading.Event()).set()

    # -- what happened ------------------------------------------------------------------------------------------------

    def fired(self) -> list[Fired]:
        """Every fault that struck, by stage and position."""
        fired = [
            Fired(self.faults[fault].kind, self.faults[fault].stage, position, count)
            for (fault, position), count in self._counts().items()
        ]
        return sorted(fired, key=lambda each: (each.stage, each.position, each.kind))

    def _counts(self) -> dict[tuple[int, int], int]:
        """How often each fault struck at each position."""
        counts: dict[tuple[int, int], int] = {}
        for path in Path(self._directory).iterdir():
            fault, position, _ = path.name.split(".")
            if fault != "limit":
                key = int(fault), int(position)
                counts[key] = counts.get(key, 0) + 1
        return counts

    def count(self, kind: FaultKind | None = None, stage: str | None = None) -> int:
        """How often faults struck, of one kind or at one stage if that is given."""
        chosen = (each for each in self.fired() if kind in (None, each.kind) and stage in (None, each.stage))
        return sum(each.times for each in chosen)

    def assert_fired(self) -> None:
        """Assert that every fault struck at least once, and one with ``at`` struck each of its items.

        A test whose faults never strike tests nothing.

        :raises AssertionError: naming the faults that did not strike.
        """
        struck: dict[int, set[int]] = {}
        for number, position in self._counts():
            struck.setdefault(number, set()).add(position)
        missed = [
            str(fault) for number, fault in enumerate(self.faults) if not _has_struck(fault, struck.get(number, set()))
        ]
        if missed:
            raise AssertionError("\n".join(["faults that did not strike:", *missed]))

    def reset(self) -> None:
        """Delete the record of faults that struck."""
        for path in Path(self._directory).iterdir():
            path.unlink()

    def close(self) -> None:
        """Delete the record and end stalled threads. Otherwise both happen when the plan is garbage-collected."""
        self._end()
        self._remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class PipelineUnderFaults(Pipeline):
    """A pipeline whose items have tags inside; its rows have none."""

    sink_wrapper: BareSink

    def stream(self, *, stop: StopToken | None = None) -> Generator[Any, None, RunReport]:
        """:meth:`Pipeline.stream`, without tags."""
        return _bare_rows(super().stream(stop=stop), self.sink_wrapper.end)


def _bare_rows(rows: Generator[Any, None, RunReport], end: Callable[[], None]) -> Generator[Any, None, RunReport]:
    try:
        while True:
            try:
                row = next(rows)
            except StopIteration as ended:
                report: RunReport = ended.value
                return report
            yield bare(row)
    finally:
        end()
        rows.close()


def _strike(number: int, fault: Fault) -> Strike:
    error = fault.error if isinstance(fault, Fail) else InjectedFault
    return Strike(number, fault.kind, _places(fault), int((fault.rate or 0.0) * 2**32), fault.times, fault.limit, error)


def _has_struck(fault: Fault, positions: set[int]) -> bool:
    return bool(positions) and positions >= _places(fault)


def _places(fault: Fault) -> frozenset[int]:
    return frozenset() if fault.at is None else frozenset(fault.at)  # type: ignore[arg-type]  # see __post_init__


def _forget(directory: str) -> None:
    fault_site.released.pop(directory, threading.Event()).set()
    shutil.rmtree(directory, ignore_errors=True)
