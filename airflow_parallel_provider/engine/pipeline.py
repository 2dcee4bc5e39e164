"""A pipeline as its author declares it, checked as a whole before anything runs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.engine.interfaces.records import LoadSpec
from airflow_parallel_provider.engine.interfaces.sink import Sink, as_sink
from airflow_parallel_provider.engine.interfaces.source import Source, as_source
from airflow_parallel_provider.engine.interfaces.stop import StopToken
from airflow_parallel_provider.engine.plan.stage import Stage
from airflow_parallel_provider.engine.plan.tolerance import Tolerance
from airflow_parallel_provider.engine.plan.worker_hooks import WorkerHooks
from airflow_parallel_provider.errors import PlanError
from airflow_parallel_provider.report import RunReport

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.analysis.simulate import Prediction
    from airflow_parallel_provider.engine.run.monitor import Observer

CHUNKS_IN_FLIGHT = 4
"""Chunks that may be under way at once where ``max_in_flight`` is left out: one that fills, two that are worked on,
one that commits."""


class Pipeline:
    """Source, stages and sink, with all their settings. Usable without Airflow.

    :param source: any iterable, a function (also a generator function) without arguments, or a :class:`Source`.
    :param stages: the :class:`Stage` objects in order; an empty list moves items straight to the sink.
    :param sink: a :class:`Sink` or a function that takes a list of rows; None only for :meth:`stream`.
    :param chunk_size: items per chunk: the unit of commit and of resume.
    :param ordered: rows arrive at the sink in source order. A stage with ``batch_size`` that is not the first one then
        waits until a chunk is complete before it cuts batches; keep chunks several batches long.
    :param tolerance: how many items may fail; an int counts items, a float is a fraction; 0 fails the run at the first.
    :param max_in_flight: most items that are read but not committed; at least ``chunk_size``; default: four chunks,
        and up to 200,000 items while their functions are fast and they and their results light (64 MiB, estimated).
    :param timeout: seconds the whole run may take; None: no limit.
    :param load_key: names the load; a second run with the same key skips the chunks that the sink has committed.
    :param attempt: which try of the load this is, from 1; only written down.
    :param labels: for people: where the load comes from.
    :param name: shown in the report.
    :param worker_env: environment variables set inside worker processes only.
    :param worker_hooks: what else worker processes are given; see :class:`.host.WorkerHooks`.
    :param family: what this load and its predecessors have in common, where ``load_key`` tells them apart; None: the
        load has no predecessors but those of the same ``load_key``. See ``SinkTable.on_rerun``.
    :param generation: which of its family's loads it is: the same text for all tries that belong together.
    :param memory_limit: bytes of resident memory of the task process and its workers together at which the source is
        slowed (from 85 % on); None: not watched. A limit of one worker process is :attr:`Stage.memory_limit`.
    :raises PlanError: naming the field, the value and the cure.
    """

    def __init__(
        self,
        source: Iterable[Any] | Callable[[], Iterable[Any]] | Source,
        stages: Sequence[Stage],
        sink: Sink | Callable[[list[Any]], object] | None = None,
        *,
        chunk_size: int = 1000,
        ordered: bool = False,
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
    ) -> None:
        self.source = as_source(source)
        self.stages = _checked_stages(stages)
        self.sink = None if sink is None else as_sink(sink)
        self.chunk_size = _whole("chunk_size", chunk_size)
        self.ordered = bool(ordered)
        self.tolerance = Tolerance(tolerance)
        self.automatic_in_flight = max_in_flight is None
        self.max_in_flight = self._checked_in_flight(max_in_flight)
        self.timeout = _seconds("timeout", timeout)
        self.load_key = _checked_key(load_key)
        self.attempt = _whole("attempt", attempt)
        self.labels = _texts("labels", labels)
        self.name = name
        self.worker_env = _texts("worker_env", worker_env)
        self.worker_hooks = worker_hooks or WorkerHooks()
        self.family = _checked_key(family, "family")
        self.generation = str(generation)
        self.memory_limit = None if memory_limit is None else _whole("memory_limit", memory_limit)

    def _checked_in_flight(self, value: int | None) -> int:
        if value is None:
            return CHUNKS_IN_FLIGHT * self.chunk_size
        value = _whole("max_in_flight", value)
        if value < self.chunk_size:
            cure = f"a chunk commits only when all its items are read: give at least chunk_size={self.chunk_size}"
            raise PlanError("Pipeline.max_in_flight", value, cure)
        return value

    @property
    def load_spec(self) -> LoadSpec:
        """What the sink is told about the load."""
        source = self.source
        return LoadSpec(
            self.load_key,
            self.chunk_size,
            source.identity(),
            self.attempt,
            self.labels,
            source_state=source.get_state(),
            family=self.family,
            generation=self.generation,
        )

    def check_picklable(self) -> dict[int, bytes]:
        """Pickle what the process stages need, as a run does; stage number to pickle.

        :raises NotPicklable: naming the function or the global that cannot travel to a worker process.
        """
        from airflow_parallel_provider.engine.functions.serialization import serialize_stage

        process = [stage.kind == "process" for stage in self.stages]
        before, after = [False, *process[:-1]], [*process[1:], False]
        return {
            number: serialize_stage(stage, receives_serialized=before[number], returns_serialized=after[number])
            for number, stage in enumerate(self.stages)
            if process[number]
        }

    def run(
        self,
        *,
        stop: StopToken | None = None,
        observe: Observer | None = None,
        observe_every: float = 2.0,
    ) -> RunReport:
        """Run it; block until it has ended.

        :param stop: set it to have the run aborted; it then raises :class:`RunStopped` in less than five seconds.
        :param observe: called on this thread with a snapshot (plain JSON, the keys of :meth:`RunReport.as_dict`) every
            ``observe_every`` seconds and once at the end.
        :raises RunFailed: one of its subclasses when the run ended without success; ``.report`` is the full account.
        :raises PlanError: when there is no sink.
        """
        from airflow_parallel_provider.engine.run.run import Run

        if self.sink is None:
            cure = "run() needs one; without a sink, iterate over stream()"
            raise PlanError("Pipeline.sink", None, cure)
        if stop is not None and not isinstance(stop, StopToken):
            raise PlanError("Pipeline.run(stop)", stop, "give a StopToken")
        _seconds("run(observe_every)", observe_every)
        return Run(self, self.sink, stop=stop, observe=observe, observe_every=observe_every).execute()

    def stream(self, *, stop: StopToken | None = None) -> Generator[Any, None, RunReport]:
        """Iterate over the rows; for people who only want the parallelism.

        Rows come chunk by chunk, and one chunk may wait for the consumer: a slow consumer slows the pipeline. The run
        starts with the first ``next`` and is stopped when the iteration is given up.

        :param stop: set it to have the run aborted.
        :return: as the generator's return value, the report.
        :raises PlanError: when the pipeline has a sink of its own.
        :raises RunFailed: as :meth:`run` does, after the rows that were committed before.
        """
        from airflow_parallel_provider.engine.run.stream import stream_rows

        if self.sink is not None:
            raise PlanError(
                "Pipeline.sink", self.sink, "stream() hands the rows to you: leave the sink out, or use run()"
            )
        return stream_rows(self, stop=stop or StopToken())

    @staticmethod
    def simulate(
        report: RunReport, *, workers: Mapping[str, int] | None = None, machines: int = 1, cpus: int | None = None
    ) -> Prediction:
        """Predict what a run that was measured would take with other numbers of workers.

        See :func:`airflow_parallel_provider.engine.analysis.simulate.simulate` for the method and its limits.
        """
        from airflow_parallel_provider.engine.analysis.simulate import simulate

        return simulate(report, workers=workers, machines=machines, cpus=cpus)

    def __repr__(self) -> str:
        """Source, stages, sink."""
        stages = " -> ".join(stage.name for stage in self.stages)
        sink = self.sink.describe() if self.sink else "stream"
        return f"Pipeline({self.source.identity()} -> {stages} -> {sink}, chunk_size={self.chunk_size})"


def _whole(field: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise PlanError(f"Pipeline.{field}", value, "give a whole number, 1 or more")
    return value


def _seconds(field: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise PlanError(f"Pipeline.{field}", value, "give seconds, more than 0, or leave it out")
    return float(value)


def _texts(field: str, value: Any) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(each, str) for pair in value.items() for each in pair):
        raise PlanError(f"Pipeline.{field}", value, "give a dict of texts, or leave it out")
    return dict(value)


def _checked_key(value: Any, name: str = "load_key") -> str | None:
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
        if stage.name in taken:
            numbered = (f"{stage.name}_{number}" for number in itertools.count(2))
            made[at] = _renamed(stage, next(name for name in numbered if name not in taken | names))
        taken.add(made[at].name)
    return tuple(made)


def _renamed(stage: Stage, name: str) -> Stage:
    """Two stages of one name could not be told apart in a report."""
    from dataclasses import replace

    return replace(stage, name=name)
