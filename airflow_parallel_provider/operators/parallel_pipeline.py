"""The operator that runs a whole pipeline inside one task."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator

from airflow_parallel_provider.bridge.connections import check_connections
from airflow_parallel_provider.bridge.links import DeadLettersLink, SinkTableLink
from airflow_parallel_provider.engine.interfaces.sink import as_sink
from airflow_parallel_provider.engine.interfaces.source import Source
from airflow_parallel_provider.engine.interfaces.stop import StopToken
from airflow_parallel_provider.engine.pipeline import Pipeline
from airflow_parallel_provider.operators import _arguments as arguments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import jinja2
    from airflow.sdk import Context

    from airflow_parallel_provider.engine.interfaces.sink import Sink
    from airflow_parallel_provider.engine.plan.stage import Stage

_ASKED_TO_END = "Airflow asked the task to end (marked, cleared, timed out, or its worker shuts down)"


class ParallelPipelineOperator(BaseOperator):
    """Read items, take them through stages of threads, processes and coroutines, commit the rows: all in one task.

    The plan is checked when the DAG file is parsed; an error there names the argument, the value and what to write
    instead. A retry goes on where the try before ended: chunks that a sink with a ledger holds already are skipped. A
    Clear starts over. The task's return value is a small summary; live figures are in the XCom ``pipeline_metrics``,
    and the report of a try that failed in ``pipeline_report``.

    :param source: where items come from: a function (also a generator function) without arguments, a list, another
        iterable that can be gone through twice, a ``Source``, the output of an upstream task
        (``source=list_days.output``) or a template that renders to a list. A dict gives its (key, value) pairs.
        A retry must find the same items in the same order. (templated)
    :param stages: the ``Stage`` objects in order. Numbers in them may be templates: ``workers``, ``batch_size``, ...
    :param sink: a ``Sink``, e.g. ``SinkTable("scores", conn_id="warehouse")``, or a function that takes a list of rows.
        Texts such as the table and the connection id are rendered. (templated)
    :param chunk_size: items per chunk: the unit of commit and of resume. (templated)
    :param ordered: rows arrive at the sink in source order.
    :param tolerance: how many items may fail; an int counts items, a float is a fraction. (templated)
    :param max_in_flight: most items that are read but not committed; default: four chunks, more of fast, light ones.
        (templated)
    :param timeout: seconds the pipeline may take; None: no limit of its own (``execution_timeout`` works as always).
        (templated)
    :param connections: ids of Airflow connections that are looked up once, before anything starts, so that one that is
        missing fails the task at once; hooks in worker processes then find them without asking Airflow, and
        :func:`get_connection_info` gives them without any import of Airflow. Connections that are not declared, and
        Variables, work in all kinds of stages too: each look-up asks Airflow, some 20 ms.
    :param load_key: a name of your own for the load, instead of one per task instance and Clear, at most 200
        characters. Whoever runs a load of this name again, also after a Clear, goes on with it; when it is complete
        there is nothing left to do. (templated)
    :raises PlanError: when the DAG is parsed, for anything that can be seen then.
    :raises AirflowFailException: at run time, for errors that a retry cannot cure.
    :raises RunFailed: at run time, for any other end without success; Airflow retries it as the task says.

    What it does not do: share work between machines; use dynamic task mapping (``.partial().expand()``) for that, each
    mapped pipeline is a load of its own.

    Known limitation: a Clear starts over, but takes nothing out of a table that an earlier load has appended to. Where
    a Clear must not bring rows twice, write ``SinkTable(on_rerun="replace")``, merge on a primary key, or name the load
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
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"source": "json"}
    # Sources, functions and sinks may hold what cannot be copied; nothing here changes them.
    shallow_copy_attrs: Sequence[str] = ("source", "stages", "sink")
    operator_extra_links = (SinkTableLink(), DeadLettersLink())
    ui_color: str = "#dcebe4"

    _stop: StopToken | None = None
    _asked_to_end: bool = False
    _figures: Mapping[str, Any] | None = None

    def __init__(
        self,
        *,
        source: Any,
        stages: Sequence[Stage],
        sink: Sink | Callable[[list[Any]], object],
        chunk_size: int | str = 1000,
        ordered: bool = False,
        tolerance: float | str = 0,
        max_in_flight: int | str | None = None,
        timeout: float | str | None = None,
        connections: Iterable[str] = (),
        load_key: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
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
        self._check_plan()

    def _check_plan(self) -> None:
        """Build what can be built now; what is known only at run time is stood in for by something harmless."""
        pipeline = self._build(
            source=self.source if arguments.is_known(self.source) else (),
            stages=self.stages,
            load_key=self.load_key if arguments.is_known(self.load_key) else None,
            **arguments.declared_numbers(self),
        )
        self.stages = pipeline.stages
        pipeline.check_picklable()

    def _build(self, *, source: Any, stages: Sequence[Stage], **run: Any) -> Pipeline:
        return Pipeline(source, stages, self.sink, ordered=self.ordered, name=self.task_id, **run)

    def render_template_fields(self, context: Context, jinja_env: jinja2.Environment | None = None) -> None:
        """Render the template fields; source and sink as copies: mapped tasks share what the DAG file made.

        A sink is rendered by its own ``rendered`` method or, without one, in the fields that its ``template_fields``
        names, as Airflow does with any object.
        """
        env = jinja_env or self.get_template_env()
        self.sink = copy.copy(self.sink)
        if isinstance(self.source, Source):
            self.source = copy.copy(self.source)
        super().render_template_fields(context, env)
        rendered = getattr(self.sink, "rendered", None)
        if callable(rendered):
            self.sink = rendered(lambda template: self.render_template(template, context, env))

    def execute(self, context: Context) -> dict[str, Any]:
        """Run the pipeline and return its summary."""
        from airflow_parallel_provider.bridge.task_run import run_in_task

        stop = self._stop = StopToken()
        if self._asked_to_end:
            stop.stop(_ASKED_TO_END)

        def build(**run: Any) -> Pipeline:
            return self._build(
                source=self._run_source(context),
                stages=arguments.rendered_stages(self, context),
                **arguments.rendered_numbers(self),
                **run,
            )

        return run_in_task(
            context, build, stop, connections=self.connections, load_key=self.load_key, tell=self._remember
        )

    def _remember(self, figures: Mapping[str, Any]) -> None:
        self._figures = figures

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:  # noqa: ARG002 - as OpenLineage calls it
        """The tables that were read and written, with their columns and how many rows came; for OpenLineage.

        It asks for this when the task has failed, too.
        """
        from airflow_parallel_provider.bridge.lineage import lineage_of

        return lineage_of(self.source, self.sink, self._figures)

    def _run_source(self, context: Context | Mapping[str, Any]) -> Any:  # noqa: ARG002 - the decorator's needs it
        return arguments.rendered_source(self.source)

    def on_kill(self) -> None:
        """Ask the run to end; it is :meth:`execute`, which goes on meanwhile, that notices, cleans up and raises."""
        self._asked_to_end = True
        if self._stop is not None:
            self._stop.stop(_ASKED_TO_END)
