# SPDX-License-Identifier: Apache-2.0
"""What an author declares of a pipeline, checked as a whole before anything runs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from airflow_parallel_provider.checks import check_positive, check_whole
from airflow_parallel_provider.engine.interfaces.records import LoadSpec
from airflow_parallel_provider.engine.interfaces.sink import Sink, as_sink
from airflow_parallel_provider.engine.interfaces.source import IterableSource, Source, as_source
from airflow_parallel_provider.engine.plan.stage import Stage
from airflow_parallel_provider.engine.plan.tolerance import Tolerance
from airflow_parallel_provider.engine.plan.worker_hooks import WorkerHooks
from airflow_parallel_provider.errors import PlanError

CHUNKS_IN_FLIGHT = 4
"""Chunks that may be in flight at once where ``max_in_flight`` is left out: one that fills, two that are processed, one
that commits."""


class PipelinePlan:
    """Source, stages and sink of a pipeline, with all its settings: what a run executes.

    The arguments are described at :class:`.pipeline.Pipeline`, which is what authors write.

    :raises PlanError: naming the field, the value and the cure.
    """

    def __init__(
        self,
        source: Iterable[Any] | Callable[[], Iterable[Any]] | Source,
        stages: Sequence[Stage],
        sink: Sink | Callable[[list[Any]], object] | None = None,
        *,
        chunk_size: int = 1000,
        ordered: bool | None = None,
        tolerance: float = 0,
        max_in_flight: int | None = None,
        timeout: float | None = None,
        load_key: str | None = None,
        attempt: int = 1,
        labels: Mapping[str, str] | None = None,
        name: str = "",
        worker_env: Mapping[str, str] | None = None,
        worker_hooks: WorkerHooks | None = None,
        memory_limit: int | None = None,
        family: str | None = None,
        generation: str = "",
        mapped: int | None = None,
        balance: bool = True,
    ) -> None:
        check_whole("Pipeline.chunk_size", chunk_size)
        check_whole("Pipeline.max_in_flight", max_in_flight, optional=True)
        check_positive("Pipeline.timeout", timeout, optional=True)
        check_whole("Pipeline.attempt", attempt)
        check_whole("Pipeline.memory_limit", memory_limit, unit="bytes", optional=True)
        check_whole("Pipeline.mapped", mapped, optional=True)
        if max_in_flight is not None and max_in_flight < chunk_size:
            cure = f"a chunk commits only when all its items are read: give at least chunk_size={chunk_size}"
            raise PlanError("Pipeline.max_in_flight", max_in_flight, cure)
        self.source = as_source(source)
        self.stages = _checked_stages(stages)
        self.sink = None if sink is None else as_sink(sink)
        self.source.check_sink(self.sink or Sink())
        self.chunk_size = chunk_size
        self.ordered = _order_of(self.sink) if ordered is None else bool(ordered)
        self.tolerance = Tolerance(tolerance)
        _check_kept(self.source, self.sink, self.tolerance)
        self.automatic_in_flight = max_in_flight is None
        self.max_in_flight = CHUNKS_IN_FLIGHT * chunk_size if max_in_flight is None else max_in_flight
        self.timeout = None if timeout is None else float(timeout)
        self.load_key = _checked_key("load_key", load_key)
        self.attempt = attempt
        self.labels = _texts("labels", labels)
        self.name = name
        self.worker_env = _texts("worker_env", worker_env)
        self.worker_hooks = worker_hooks or WorkerHooks()
        self.family = _checked_key("family", family)
        self.generation = str(generation)
        self.memory_limit = memory_limit
        self.mapped = mapped
        self.balance = bool(balance)
        self.coordinator: str | None = None
        """See :attr:`LoadSpec.coordinator`; set by the run that sends shards elsewhere."""

    @property
    def load_spec(self) -> LoadSpec:
        """What the sink needs to know about the load."""
        return self.load_spec_of("whole")

    def load_spec_of(self, part: Literal["whole", "plan", "shard", "finish"]) -> LoadSpec:
        """The same for one part of a load that several runs write together. Its end does not need the source."""
        source = IterableSource(()) if part == "finish" else self.source
        return LoadSpec(
            self.load_key,
            self.chunk_size,
            source.identity(),
            self.attempt,
            self.labels,
            source_state=source.get_state(),
            narrow=source.narrow,
            family=self.family,
            generation=self.generation,
            ordered=self.ordered,
            mapped=self.mapped,
            part=part,
            coordinator=self.coordinator,
        )

    def __repr__(self) -> str:
        """Source, stages, sink."""
        stages = " -> ".join(stage.name for stage in self.stages)
        sink = self.sink.describe() if self.sink else "stream"
        return f"Pipeline({self.source.identity()} -> {stages} -> {sink}, chunk_size={self.chunk_size})"


def _order_of(sink: Sink | None) -> bool:
    """Whether chunks go into a sink in source order where the author has not said so."""
    return sink is not None and sink.order_matters


def _texts(field: str, value: Any) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(each, str) for pair in value.items() for each in pair):
        raise PlanError(f"Pipeline.{field}", value, "give a dict of texts, or leave it out")
    return dict(value)


def _check_kept(source: Source, sink: Sink | None, tolerance: Tolerance) -> None:
    """Refuse to lose what fails: an incremental source never reads it again, in no later load."""
    if source.narrow is None or sink is None or not tolerance.value:
        return
    for field in sink.forgets:
        cure = f"with tolerance={tolerance.value} an item may fail, and no later load reads it again: leave this out"
        raise PlanError(field, None, f"{cure}, so that it is kept in a table, or write tolerance=0")


def _checked_key(name: str, value: Any) -> str | None:
    if value is not None and (not isinstance(value, str) or not 1 <= len(value) <= 200):
        raise PlanError(f"Pipeline.{name}", value, "give a text of 1 to 200 characters, or leave it out")
    return value


def _checked_stages(stages: Any) -> tuple[Stage, ...]:
    if isinstance(stages, Stage) or not isinstance(stages, Iterable):
        raise PlanError("Pipeline.stages", stages, "give a list of Stage objects")
    made: list[Stage] = []
    taken: set[str] = set()
    for stage in stages:
        if not isinstance(stage, Stage):
            cure = "wrap the function: Stage(function)" if callable(stage) else "give Stage objects"
            raise PlanError(f"Pipeline.stages[{len(made)}]", stage, cure)
        made.append(stage)
    names = {stage.name for stage in made}
    for at, stage in enumerate(made):
        if stage.name in taken:  # two stages of one name could not be told apart in a report
            numbered = (f"{stage.name}_{number}" for number in itertools.count(2))
            made[at] = replace(stage, name=next(name for name in numbered if name not in taken | names))
        taken.add(made[at].name)
    return tuple(made)
