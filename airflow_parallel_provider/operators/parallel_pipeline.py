# SPDX-License-Identifier: Apache-2.0
"""The operator that runs a whole pipeline inside one task."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from airflow.sdk import BaseOperator

from airflow_parallel_provider.bridge._compat import depend_on
from airflow_parallel_provider.bridge.connections import check_connections
from airflow_parallel_provider.bridge.identity import LoadPart
from airflow_parallel_provider.bridge.links import DeadLettersLink, SinkTableLink
from airflow_parallel_provider.engine.interfaces.sink import as_sink
from airflow_parallel_provider.engine.interfaces.source import Source
from airflow_parallel_provider.engine.interfaces.stop import StopToken
from airflow_parallel_provider.engine.pipeline import Pipeline
from airflow_parallel_provider.engine.shards.sharded import check_sharded
from airflow_parallel_provider.operators import _arguments as arguments
from airflow_parallel_provider.operators.sharded import (
    ShardedPipeline,
    check_where,
    rendered_shards,
    sent_to,
    sharded_pipeline,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import jinja2
    from airflow.sdk import Context

    from airflow_parallel_provider.engine.interfaces.sink import Sink
    from airflow_parallel_provider.engine.plan.stage import Stage

KILLED = "Airflow asked the task to end (marked, cleared, timed out, or its worker shuts down)"
"""Reason of a stop request by ``on_kill``."""


class ParallelPipelineOperator(BaseOperator):
    """Read items, run them through stages of threads, processes and coroutines, commit the rows: all in one task.

    The plan is checked when the DAG file is parsed; an error there names the argument, the value and the cure. A retry
    continues where the try before ended: it skips the chunks that the sink's ledger already holds. A Clear starts over.
    The task returns a small summary. Live metrics are in the XCom ``pipeline_metrics``, and the report of a failed try
    is in ``pipeline_report``.

    :param source: where items come from: a function (also a generator function) without arguments, a list, another
        iterable that can be iterated twice, a ``Source``, the output of an upstream task
        (``source=list_days.output``) or a template that renders to a list. A dict gives its (key, value) pairs.
        A retry must find the same items in the same order. (templated)
    :param stages: the ``Stage`` objects in order. Numbers in them may be templates: ``workers``, ``batch_size``, ...
    :param sink: a ``Sink``, e.g. ``SinkTable("scores", conn_id="warehouse")``, or a function that takes a list of rows.
        Texts such as the table and the connection id are rendered. (templated)
    :param chunk_size: items per chunk: the unit of commit and of resume. (templated)
    :param ordered: rows arrive at the sink in source order. None: where the sink needs that, as a merge does in which
        the later of two rows with one key stays.
    :param tolerance: how much may fail; an int counts dead letters, a float is a fraction of the items. (templated)
    :param max_in_flight: most items that are read but not committed; default: four chunks, more if items are fast and
        small. (templated)
    :param timeout: seconds the pipeline may take; None: no limit besides ``execution_timeout``. (templated)
    :param connections: ids of Airflow connections that are looked up once, before anything starts, so that a missing
        one fails the task at once. Hooks in worker processes then find them without a request to Airflow, and
        :func:`get_connection_info` returns them without importing Airflow. Connections that are not declared, and
        Variables, also work in all kinds of stages; each look-up is a request to Airflow of some 20 ms.
    :param part: set by :meth:`sharded`, as are ``shards`` and ``shard``.
    :param balance: with :meth:`sharded`: a shard that has done its own chunks takes chunks of others. False: where a
        call must not be made a second time by another machine at the same moment, or costs more than the wait.
    :param shards_on: makes the executor that does the shards: anything with ``submit(function, *arguments) -> future``.
        The task only coordinates them. See :meth:`sharded`.
    :param shard_tries: with ``shards_on``: how many times a shard is submitted if it fails or is lost.
    :param load_key: your own name for the load, instead of one per task instance and Clear, at most 200 characters.
        Another run with this name, also after a Clear, continues the load; it has nothing to do once the load is
        complete. (templated)
    :raises PlanError: when the DAG is parsed, for every error that is visible then.
    :raises AirflowFailException: at run time, for errors that a retry cannot cure.
    :raises RunFailed: at run time, for any other end without success; Airflow retries the task as it is configured.

    What it does not do: share work between machines. :meth:`sharded` does: one load, several task instances. With
    dynamic task mapping (``.partial().expand()``) each mapped pipeline is a separate load.

    Known limitation: a Clear starts over, but removes nothing from a table that an earlier load has appended to. Where
    a Clear must not add rows twice, use ``SinkTable(on_rerun="replace")``, merge on a primary key, or name the load
    with ``load_key``.
    """

    template_fields: Sequence[str] = (
        "source",
        "sink",
        "chunk_size",
        "tolerance",
        "max_in_flight",
        "timeout",
        "load_key",
        "shards",
        "shard",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"source": "json"}
    # Sources, functions and sinks may hold objects that cannot be copied; nothing here changes them.
    shallow_copy_attrs: Sequence[str] = ("source", "stages", "sink")
    operator_extra_links = (SinkTableLink(), DeadLettersLink())
    ui_color: str = "#dcebe4"

    _stop: StopToken | None = None
    _killed: bool = False
    _outcome: Mapping[str, Any] | None = None

    def __init__(
        self,
        *,
        source: Any,
        stages: Sequence[Stage],
        sink: Sink | Callable[[list[Any]], object],
        chunk_size: int | str = 1000,
        ordered: bool | None = None,
        tolerance: float | str = 0,
        max_in_flight: int | str | None = None,
        timeout: float | str | None = None,
        connections: Iterable[str] = (),
        load_key: str | None = None,
        part: Literal["plan", "shard", "finish"] | None = None,
        shards: int | str | None = None,
        shard: Any = None,
        balance: bool = True,
        shards_on: Callable[[], Any] | None = None,
        shard_tries: int = 4,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.part = part
        self.shards = shards
        self.shard = shard
        self.balance = balance
        self.shards_on = shards_on
        self.shard_tries = shard_tries
        self.source = arguments.declared_source(source)
        self.stages = stages
        self.sink = as_sink(sink)
        self.chunk_size = chunk_size
        self.ordered = ordered
        self.tolerance = tolerance
        self.max_in_flight = max_in_flight
        self.timeout = timeout
        self.connections = check_connections(connections)
        self.load_key = load_key
        for field in getattr(source, "template_fields", ()):
            depend_on(self, getattr(source, field))  # Airflow looks at the operator's own fields only
        self._check_plan()

    def _check_plan(self) -> None:
        """Build the pipeline once, with harmless placeholders for the values that are known only at run time."""
        pipeline = self._build(
            source=self.source if arguments.is_known(self.source) else (),
            stages=self.stages,
            load_key=self.load_key if arguments.is_known(self.load_key) else None,
            **arguments.declared_numbers(self),
        )
        self.stages = pipeline.stages
        pipeline.check_picklable()
        if self.part is not None or self.shards_on is not None:
            pipeline.load_key = pipeline.load_key or self.task_id
            check_sharded(pipeline)
        check_where(self, pipeline)

    def _build(self, *, source: Any, stages: Sequence[Stage], **run: Any) -> Pipeline:
        return Pipeline(source, stages, self.sink, ordered=self.ordered, name=self.task_id, balance=self.balance, **run)

    def render_template_fields(self, context: Context, jinja_env: jinja2.Environment | None = None) -> None:
        """Render the template fields; source and sink as copies, since mapped tasks share those of the DAG file.

        A sink is rendered by its own ``rendered`` method. Without one, the fields in its ``template_fields`` are
        rendered, as Airflow does with any object.
        """
        env = jinja_env or self.get_template_env()
        self.sink = copy.copy(self.sink)
        if isinstance(self.source, Source):
            self.source = copy.copy(self.source)
        super().render_template_fields(context, env)
        rendered = getattr(self.sink, "rendered", None)
        if callable(rendered):
            self.sink = rendered(lambda template: self.render_template(template, context, env))

    @classmethod
    def sharded(cls, *, task_id: str, shards: int | str, **arguments: Any) -> ShardedPipeline | Self:
        """Spread one load over the workers of Airflow: a task group in place of a task.

        ::

            ParallelPipelineOperator.sharded(task_id="load", shards=8, source=..., stages=..., sink=..., retries=3)

        The group has three tasks. ``plan`` begins the load, ``shard`` is mapped over ``shards`` task instances, each of
        which has every n-th chunk of the source, and ``finish`` checks that all chunks are in and completes the load,
        with the report of the whole. See docs/machines.md.

        With ``shards_on`` the shards run on an executor instead, as of Dask, Ray or a process pool, and there is one
        task, which sends them and waits::

            ParallelPipelineOperator.sharded(
                task_id="load", shards=64, source=..., stages=..., sink=..., connections=["warehouse"],
                shards_on=lambda: Client("tls://scheduler:8786").get_executor(pure=False, retries=0),
            )

        The connections of source and sink must be declared with ``connections``, or be defined on the workers, as must
        those that stages use. Declared ones travel with the shards. On a kill the task ends in five seconds; shards at
        work elsewhere notice it at their next commit.

        :param task_id: name of the group.
        :param shards: how many task instances; three or four for each slot that is free for them. A template is
            rendered when the load begins.
        :param arguments: of the operator, and those of any task (``retries``, ``queue``), for all three tasks.
            ``trigger_rule`` and ``depends_on_past`` are those of ``plan``, ``outlets`` and ``inlets`` of ``finish``.
        :return: the group, or with ``shards_on`` the task; its ``output`` is the summary of the whole load.
        :raises PlanError: for a source or sink that shards cannot share, and for every other error that is visible when
            the DAG is parsed.
        """
        made: ShardedPipeline | Self = sharded_pipeline(cls, task_id, shards, arguments)
        return made

    def execute(self, context: Context) -> Any:
        """Run the pipeline, or a part of it, and return its summary."""
        from airflow_parallel_provider.bridge.task_run import begin_in_task, run_in_task

        stop = self._stop = StopToken()
        if self._killed:
            stop.stop(KILLED)

        def build(**run: Any) -> Pipeline:
            return self._build(
                source=self._run_source(context),
                stages=arguments.rendered_stages(self, context),
                **arguments.rendered_numbers(self),
                **run,
            )

        if self.part == "plan":
            count = rendered_shards(self.shards)
            return begin_in_task(context, build, stop, count, connections=self.connections, load_key=self.load_key)
        part = None
        if self.part is not None:
            entry = self.shard if self.part == "shard" else next(iter(self.shard))
            part = LoadPart.of(entry, finish=self.part == "finish")
        return run_in_task(
            context,
            build,
            stop,
            connections=self.connections,
            load_key=self.load_key,
            on_outcome=self._keep_outcome,
            part=part,
            sent_to=sent_to(self),
            shards=len(self.shard) if self.part == "finish" else 0,
        )

    def _keep_outcome(self, outcome: Mapping[str, Any]) -> None:
        self._outcome = outcome

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:  # noqa: ARG002 - as OpenLineage calls it
        """The tables that were read and written, with their columns and row counts; for OpenLineage.

        OpenLineage also calls this when the task has failed.
        """
        from airflow_parallel_provider.bridge.publishing.lineage import lineage_of

        return lineage_of(self.source, self.sink, self._outcome)

    def _run_source(self, context: Context | Mapping[str, Any]) -> Any:  # noqa: ARG002 - the decorator's needs it
        return arguments.rendered_source(self.source)

    def on_kill(self) -> None:
        """Request the run to stop; :meth:`execute`, which is still running, notices that, cleans up and raises."""
        self._killed = True
        if self._stop is not None:
            self._stop.stop(KILLED)
