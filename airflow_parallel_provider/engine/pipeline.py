# SPDX-License-Identifier: Apache-2.0
"""The pipeline of the public interface: a plan that can run."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.checks import check_positive
from airflow_parallel_provider.engine.interfaces.shard import Shard
from airflow_parallel_provider.engine.interfaces.stop import StopToken
from airflow_parallel_provider.engine.plan.pipeline_plan import PipelinePlan
from airflow_parallel_provider.errors import PlanError
from airflow_parallel_provider.report import RunReport

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.analysis.simulate import Prediction
    from airflow_parallel_provider.engine.run.monitor import Observer
    from airflow_parallel_provider.engine.shards.shipping import Surroundings


class Pipeline(PipelinePlan):
    """Source, stages and sink, with all their settings. Usable without Airflow.

    :param source: any iterable, a function (also a generator function) without arguments, or a :class:`Source`.
    :param stages: the :class:`Stage` objects in order; an empty list moves items straight to the sink.
    :param sink: a :class:`Sink` or a function that takes a list of rows; None only for :meth:`stream`.
    :param chunk_size: items per chunk: the unit of commit and of resume.
    :param ordered: rows arrive at the sink in source order. A stage with ``batch_size`` that is not the first one then
        waits until a chunk is complete before it cuts batches; keep chunks several batches long. None: where the sink
        needs that (:attr:`Sink.order_matters`), as a merge does in which the later of two rows with one key stays.
    :param tolerance: how much may fail; an int counts dead letters, a float is a fraction of the items; 0 fails the run
        at the first.
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
    :param mapped: how many task instances a task that Airflow has mapped has now; None: unknown, or not mapped.
    :param balance: a shard (see :meth:`run`) that has done its own chunks takes chunks of others. False: where a call
        must not be made a second time by another machine at the same moment, or costs more than the wait.
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
        shard: tuple[int, int] | None = None,
    ) -> RunReport:
        """Run the pipeline and wait until it has ended.

        :param stop: aborts the run when it is set; the run then raises :class:`RunStopped` in less than five seconds.
        :param observe: called on this thread with a snapshot (plain JSON, the keys of :meth:`RunReport.as_dict`) every
            ``observe_every`` seconds and once at the end.
        :param shard: ``(i, n)``: only the chunks of shard ``i`` of ``n``, of a load that :meth:`begin` has begun. Any
            number of shards may run at the same time, anywhere, and again: they skip what is in. ``n`` may be another
            one in another try. :meth:`finish` completes the load.
        :raises RunFailed: one of its subclasses when the run ended without success; ``.report`` is the full report.
        :raises PlanError: when there is no sink.
        """
        from airflow_parallel_provider.engine.processes.launch import collector_paused, launched_ahead

        if self.sink is None:
            cure = "run() needs one; without a sink, iterate over stream()"
            raise PlanError("Pipeline.sink", None, cure)
        if stop is not None and not isinstance(stop, StopToken):
            raise PlanError("Pipeline.run(stop)", stop, "give a StopToken")
        check_positive("Pipeline.run(observe_every)", observe_every)
        part = None if shard is None else self._checked_shard(shard)
        with launched_ahead(needed=any(stage.kind == "process" for stage in self.stages)) as fork_server:
            with collector_paused():  # while its process starts: importing the engine takes as long
                from airflow_parallel_provider.engine.run.run import Run

            run = Run(
                self,
                self.sink,
                stop=stop,
                observe=observe,
                observe_every=observe_every,
                shard=part,
                fork_server=fork_server,
            )
            return run.execute()

    def begin(self, *, stop: StopToken | None = None) -> None:
        """Begin a load that several runs will write together, each a shard of its chunks.

        ::

            pipeline.begin()
            pipeline.run(shard=(0, 3))  # each anywhere, in any order, also at the same time
            pipeline.run(shard=(1, 3))
            pipeline.run(shard=(2, 3))
            report = pipeline.finish()

        Stores in the ledger what the items depend on, so that all shards read the same ones, and creates the tables. A
        second call with the same ``load_key`` (and ``generation``) changes nothing once a chunk is in.

        :param stop: aborts when it is set.
        :raises PlanError: for a source or sink that cannot be shared (an iterator, a queue, pages of HTTP; a sink
            without a ledger), for ``ordered=True``, and without ``load_key``.
        :raises SinkFailed: if the load was begun differently, or the sink cannot be opened.
        """
        from airflow_parallel_provider.engine.shards.sharded import begin_load

        begin_load(self, stop or StopToken())

    def run_sharded(
        self,
        shards: int,
        shards_on: Callable[[], Any],
        *,
        tries: int = 4,
        stop: StopToken | None = None,
        observe: Observer | None = None,
        observe_every: float = 2.0,
        surroundings: Surroundings | None = None,
    ) -> RunReport:
        """Begin a load, have its shards done by an executor, finish it.

        ::

            pipeline.run_sharded(8, lambda: ProcessPoolExecutor(4, mp_context=get_context("spawn")))
            pipeline.run_sharded(64, lambda: Client("tls://scheduler:8786").get_executor(pure=False, retries=0))
            pipeline.run_sharded(64, ray_executor)

        The pipeline travels as bytes of our own, with its functions; a worker needs this package (the same version),
        the modules that the functions import, and the sink's connection. What an executor runs twice, it resumes.

        Run on real ones, with workers killed: ``ProcessPoolExecutor``, Dask's ``LocalCluster``, Ray on one machine. Not
        tried: clusters of several machines, Parsl, loky, mpi4py.

        :param shards: how many; three or four for each worker.
        :param shards_on: makes the executor: anything with ``submit(function, *arguments) -> future``. One that breaks
            is made anew. It is shut down at the end, without waiting.
        :param tries: how many times a shard is submitted, if it fails or is lost. Between two tries there is a pause
            of up to 30 seconds.
        :param stop: ends the run in less than five seconds. What the executor has not begun is cancelled; shards at
            work notice it at their next commit, on this machine at once. ``Pipeline.timeout`` does the same.
        :param observe: called on this thread with the figures of the whole load, as :meth:`run` does.
        :param observe_every: seconds between two calls.
        :param surroundings: entered around each shard, where it runs: gets the pipeline, returns a context manager.
        :return: the report of :meth:`finish`, with stages, CPU time and memory of all shards added up, and ``shards``.
        :raises RunFailed: as :meth:`run`. :class:`ShardFailed`: a shard has failed too often; the others were let end.
        :raises PlanError: see :meth:`begin`; for what is no executor, and for one whose calls are threads or forks.
        :raises NotPicklable: if source, stages or sink cannot travel.

        Known limitation: a list as the source travels with each shard; give a function, files or a table. Live figures
        come from the sink's ledger or notes; other sinks' come when shards end.
        """
        from airflow_parallel_provider.engine.shards.coordinator import Coordinator

        return Coordinator(
            self,
            shards,
            shards_on,
            tries=tries,
            stop=stop or StopToken(),
            observe=observe,
            observe_every=observe_every,
            surroundings=surroundings,
        ).run()

    def finish(self, *, stop: StopToken | None = None, shards: Sequence[Mapping[str, Any]] = ()) -> RunReport:
        """Complete a load whose shards have all ended; return the report of the whole.

        All chunks of the source must be in. The ``tolerance`` is held against the failed items of all shards. With
        ``write_disposition="replace"`` the rows take the place of the old ones now, at once. May be called again.

        :param stop: aborts when it is set.
        :param shards: reports of the shards as dicts, for the figures that no ledger has: stages, CPU time, memory.
        :return: items, rows, chunks and aggregates of the whole load. Its ``seconds`` go from the first :meth:`begin`
            to the last commit of a shard, pauses between two tries included, and its rate is by that time. Its CPU time
            is that of this call and of ``shards``.
        :raises SinkFailed: if chunks are missing (names them), or the sink fails.
        :raises ToleranceExceeded: if too many items of the whole have failed; the load stays open.
        """
        from airflow_parallel_provider.engine.shards.sharded import finish_load

        return finish_load(self, stop or StopToken(), shards)

    def _checked_shard(self, shard: object) -> Shard:
        from airflow_parallel_provider.engine.shards.sharded import check_sharded

        check_sharded(self)
        return Shard.checked(shard)

    def stream(self, *, stop: StopToken | None = None) -> Generator[Any, None, RunReport]:
        """Iterate over the rows, without a sink.

        Rows come chunk by chunk, and one chunk may wait for the consumer: a slow consumer slows the pipeline. The run
        starts with the first ``next`` and stops when the iteration ends early.

        :param stop: aborts the run when it is set.
        :return: as the generator's return value, the report.
        :raises PlanError: when the pipeline has a sink of its own.
        :raises RunFailed: as :meth:`run` does, after the rows that were committed before.
        """
        from airflow_parallel_provider.engine.processes.launch import collector_paused

        with collector_paused():
            from airflow_parallel_provider.engine.run.stream import stream_rows

        if self.sink is not None:
            raise PlanError(
                "Pipeline.sink", self.sink, "stream() yields the rows itself: leave the sink out, or use run()"
            )
        return stream_rows(self, stop=stop or StopToken())

    @staticmethod
    def simulate(
        report: RunReport,
        *,
        workers: Mapping[str, int] | None = None,
        machines: int = 1,
        cpus: int | None = None,
        shards: int | None = None,
        shard_start: float = 0.0,
        rereads: bool = False,
    ) -> Prediction:
        """Predict how long a reported run would take with other numbers of workers, or as one load of several shards.

        See :func:`airflow_parallel_provider.engine.analysis.simulate.simulate` for the method and its limits.
        """
        from airflow_parallel_provider.engine.analysis.simulate import simulate

        return simulate(
            report,
            workers=workers,
            machines=machines,
            cpus=cpus,
            shards=shards,
            shard_start=shard_start,
            rereads=rereads,
        )
