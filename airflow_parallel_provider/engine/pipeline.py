"""The pipeline of the public interface: a plan that can run."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.checks import check_positive
from airflow_parallel_provider.engine.interfaces.stop import StopToken
from airflow_parallel_provider.engine.plan.pipeline_plan import PipelinePlan
from airflow_parallel_provider.errors import PlanError
from airflow_parallel_provider.report import RunReport

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.analysis.simulate import Prediction
    from airflow_parallel_provider.engine.run.monitor import Observer


class Pipeline(PipelinePlan):
    """Source, stages and sink, with all their settings. Usable without Airflow.

    :param source: any iterable, a function (also a generator function) without arguments, or a :class:`Source`.
    :param stages: the :class:`Stage` objects in order; an empty list moves items straight to the sink.
    :param sink: a :class:`Sink` or a function that takes a list of rows; None only for :meth:`stream`.
    :param chunk_size: items per chunk: the unit of commit and of resume.
    :param ordered: rows arrive at the sink in source order. A stage with ``batch_size`` that is not the first one then
        waits until a chunk is complete before it cuts batches; keep chunks several batches long.
    :param tolerance: how many items may fail; an int counts items, a float is a fraction; 0 fails the run at the first.
    :param max_in_flight: most items that are read but not committed; at least ``chunk_size``; default: four chunks,
        and up to 200,000 items while functions are fast and items and results light (64 MiB, estimated).
    :param timeout: seconds the whole run may take; None: no limit.
    :param load_key: names the load; a second run with the same key skips the chunks that the sink has committed.
    :param attempt: which try of the load this is, from 1; only stored.
    :param labels: information for people about the origin of the load; only stored.
    :param name: shown in the report.
    :param worker_env: environment variables set inside worker processes only.
    :param worker_hooks: what the surroundings of the run add to worker processes; see :class:`.WorkerHooks`.
    :param family: shared by this load and its predecessors with another ``load_key``; None: only loads of the same
        ``load_key`` are its predecessors. See ``SinkTable.on_rerun``.
    :param generation: which load of its family it is: the same text for all tries that belong together.
    :param memory_limit: bytes of resident memory of the task process and its workers together; from 85 % on the source
        is slowed. None: no limit. For one worker process see :attr:`Stage.memory_limit`.
    :raises PlanError: naming the field, the value and the cure.
    """

    def check_picklable(self) -> dict[int, bytes]:
        """Pickle what the process stages need, as a run does; stage number to pickle.

        :raises NotPicklable: naming the function or the global that cannot travel to a worker process.
        """
        from airflow_parallel_provider.engine.functions.serialization import serialize_stages

        return serialize_stages(self.stages)

    def run(
        self,
        *,
        stop: StopToken | None = None,
        observe: Observer | None = None,
        observe_every: float = 2.0,
    ) -> RunReport:
        """Run the pipeline and wait until it has ended.

        :param stop: aborts the run when it is set; the run then raises :class:`RunStopped` in less than five seconds.
        :param observe: called on this thread with a snapshot (plain JSON, the keys of :meth:`RunReport.as_dict`) every
            ``observe_every`` seconds and once at the end.
        :raises RunFailed: one of its subclasses when the run ended without success; ``.report`` is the full report.
        :raises PlanError: when there is no sink.
        """
        from airflow_parallel_provider.engine.run.run import Run

        if self.sink is None:
            cure = "run() needs one; without a sink, iterate over stream()"
            raise PlanError("Pipeline.sink", None, cure)
        if stop is not None and not isinstance(stop, StopToken):
            raise PlanError("Pipeline.run(stop)", stop, "give a StopToken")
        check_positive("Pipeline.run(observe_every)", observe_every)
        return Run(self, self.sink, stop=stop, observe=observe, observe_every=observe_every).execute()

    def stream(self, *, stop: StopToken | None = None) -> Generator[Any, None, RunReport]:
        """Iterate over the rows, without a sink.

        Rows come chunk by chunk, and one chunk may wait for the consumer: a slow consumer slows the pipeline. The run
        starts with the first ``next`` and stops when the iteration ends early.

        :param stop: aborts the run when it is set.
        :return: as the generator's return value, the report.
        :raises PlanError: when the pipeline has a sink of its own.
        :raises RunFailed: as :meth:`run` does, after the rows that were committed before.
        """
        from airflow_parallel_provider.engine.run.stream import stream_rows

        if self.sink is not None:
            raise PlanError(
                "Pipeline.sink", self.sink, "stream() yields the rows itself: leave the sink out, or use run()"
            )
        return stream_rows(self, stop=stop or StopToken())

    @staticmethod
    def simulate(
        report: RunReport, *, workers: Mapping[str, int] | None = None, machines: int = 1, cpus: int | None = None
    ) -> Prediction:
        """Predict how long a reported run would take with other numbers of workers.

        See :func:`airflow_parallel_provider.engine.analysis.simulate.simulate` for the method and its limits.
        """
        from airflow_parallel_provider.engine.analysis.simulate import simulate

        return simulate(report, workers=workers, machines=machines, cpus=cpus)
