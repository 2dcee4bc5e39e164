"""The operator that takes dead letters through the stages again."""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from airflow.sdk import BaseOperator

from airflow_parallel_provider.bridge import _compat
from airflow_parallel_provider.bridge.connections import check_connections
from airflow_parallel_provider.engine.interfaces.stop import StopToken
from airflow_parallel_provider.engine.pipeline import Pipeline
from airflow_parallel_provider.operators import _arguments as arguments
from airflow_parallel_provider.sinks.replay import Replay, check_replayable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import jinja2
    from airflow.sdk import Context

    from airflow_parallel_provider.engine.plan.stage import Stage
    from airflow_parallel_provider.sinks.table import SinkTable

log = logging.getLogger(__name__)

_ASKED_TO_END = "Airflow asked the task to end (marked, cleared, timed out, or its worker shuts down)"


class ReplayDeadLettersOperator(BaseOperator):
    """Take the unresolved dead letters of a table through the (mended) stages again, each exactly once.

    Each item enters at the stage that gave it up, as the value that stage was given. Its rows and the mark that the
    letter is resolved are one transaction: a replay that is killed at any moment is gone on with by its retry, or by
    the next run, and two replays at a time cannot both have a letter. What fails again is a new dead letter of the same
    load, with its own cause; the old one is resolved.

    The task returns ``waiting``, ``replayed``, ``failed_again``, ``not_replayable``, ``rows``, ``rows_rejected`` and,
    by stage, the summaries of the runs.

    :param sink: the ``SinkTable`` of the load. (templated)
    :param stages: the stages of the pipeline, all of them, with the names they had then. Numbers may be templates.
    :param load_key: only letters of this load; None: of all loads into the table. (templated)
    :param chunk_size: letters per transaction. (templated)
    :param tolerance: how many letters may fail again; an int counts, a float is a fraction. With 0 the first one fails
        the task and its chunk changes nothing; with 1.0 whatever can get through does. (templated)
    :param allow_pickle: also replay items that only have a pickle (``SinkTable(dead_letter_pickle=True)``). Whoever may
        write to the table can then run code in this task.
    :param timeout: seconds the replay of one stage may take; None: no limit of its own. (templated)
    :param connections: ids of Airflow connections that hooks in process workers may use.
    :raises PlanError: when the DAG is parsed, for anything that can be seen then.
    :raises AirflowFailException: at run time, for errors that a retry cannot cure, such as letters of a stage that is
        not among ``stages``.
    :raises RunFailed: at run time, for any other end without success.

    What it does not do: replay an item that was not kept as it was (too long, or of a class that JSON cannot give back
    and without a pickle). Those are counted in the log and stay as they are.

    Known limitation: with ``load_column`` the rows carry the id of the replay's load, not of the first one.
    """

    template_fields: Sequence[str] = ("sink", "load_key", "chunk_size", "tolerance", "timeout")
    shallow_copy_attrs: Sequence[str] = ("stages", "sink")
    ui_color: str = "#f0e0d0"

    _stop: StopToken | None = None
    _asked_to_end: bool = False
    _ended: tuple[Mapping[str, Any], ...] = ()

    def __init__(
        self,
        *,
        sink: SinkTable,
        stages: Sequence[Stage],
        load_key: str | None = None,
        chunk_size: int | str = 100,
        tolerance: float | str = 0,
        allow_pickle: bool = False,
        timeout: float | str | None = None,
        connections: Iterable[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_replayable(sink)
        self.sink = sink
        self.stages = stages
        self.load_key = load_key
        self.chunk_size = chunk_size
        self.tolerance = tolerance
        self.allow_pickle = bool(allow_pickle)
        self.timeout = timeout
        self.connections = check_connections(connections)
        self._check_plan()

    def _check_plan(self) -> None:
        pipeline = Pipeline((), self.stages, self.sink, **arguments.declared_numbers(self))
        self.stages = pipeline.stages  # with the names they have in a pipeline
        pipeline.check_picklable()

    def render_template_fields(self, context: Context, jinja_env: jinja2.Environment | None = None) -> None:
        """Render the template fields; the sink as a copy, since mapped tasks share the one that the DAG file made."""
        self.sink = copy.copy(self.sink)
        super().render_template_fields(context, jinja_env)

    def execute(self, context: Context) -> dict[str, Any]:
        """Replay what waits, stage by stage, and return what became of it."""
        self._stop = StopToken()
        if self._asked_to_end:
            self._stop.stop(_ASKED_TO_END)
        self._ended = ()
        waiting = self._waiting()
        runs = {}
        # The last stage first: what fails again further down must not be taken up once more in this replay.
        for number, stage in reversed(list(enumerate(self.stages))):
            if waiting.get(stage.name, (0, 0))[1]:
                runs[stage.name] = self._replay(context, number, stage.name)
        result = _result(waiting, runs)
        log.info("Replay: %s", {name: each for name, each in result.items() if name != "stages"})
        return result

    def _waiting(self) -> dict[str, tuple[int, int]]:
        from airflow_parallel_provider.hooks.sink_table import SinkTableHook

        with SinkTableHook.of(self.sink) as hook:
            waiting = hook.dead_letters_waiting(self.load_key)
        unknown = sorted(waiting.keys() - {stage.name for stage in self.stages})
        if unknown:
            raise _compat.fail_exception()(
                f"dead letters of {self.sink.display_name} were given up by {', '.join(map(repr, unknown))}, but the stages "
                f"are {', '.join(stage.name for stage in self.stages)}: name them as they were named then"
            )
        kept = sum(whole for _, whole in waiting.values())
        if kept < sum(count for count, _ in waiting.values()):
            log.warning(
                "%d dead letters did not keep their item as it was (too long, or of a class that is not kept): they "
                "stay unresolved",
                sum(count for count, _ in waiting.values()) - kept,
            )
        return waiting

    def _replay(self, context: Context, number: int, stage: str) -> dict[str, Any]:
        from airflow_parallel_provider.bridge.task_run import run_in_task

        # A key of its own for each try: which letters are left says what is left to do, not the ledger.
        key = f"replay-{uuid4().hex}/{stage}"[:200]
        replay = Replay(self.sink, stage, own=key, load_key=self.load_key, allow_pickle=self.allow_pickle)

        def build(**run: Any) -> Pipeline:
            return Pipeline(
                replay.source(),
                arguments.rendered_stages(self, context)[number:],
                replay.sink(),
                **arguments.rendered_numbers(self),
                name=f"{self.task_id} ({stage})",
                **run,
            )

        assert self._stop is not None, "made by execute"
        return run_in_task(context, build, self._stop, connections=self.connections, load_key=key, tell=self._remember)

    def _remember(self, figures: Mapping[str, Any]) -> None:
        self._ended = (*self._ended, figures)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:  # noqa: ARG002 - as OpenLineage calls it
        """The table of dead letters and the table itself, with how many rows came; for OpenLineage."""
        from airflow_parallel_provider.bridge.lineage import added_up, lineage_of

        letters = _Letters(str(self.sink.dead_letter_table), self.sink.conn_id, self.sink.schema)
        return lineage_of(letters, self.sink, added_up(self._ended))

    def on_kill(self) -> None:
        """Ask the run to end; :meth:`execute` notices, cleans up and raises."""
        self._asked_to_end = True
        if self._stop is not None:
            self._stop.stop(_ASKED_TO_END)


@dataclass(frozen=True, slots=True)
class _Letters:
    """The table of dead letters as the source that it is, for lineage."""

    table: str
    conn_id: str
    schema: str | None


def _result(waiting: dict[str, tuple[int, int]], runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    count = sum(each for each, _ in waiting.values())
    replayed = sum(run["items_read"] for run in runs.values())
    return {
        "waiting": count,
        "replayed": replayed,
        "failed_again": sum(run["items_dead_lettered"] for run in runs.values()),
        "not_replayable": max(0, count - replayed),
        "rows": sum(run["rows_committed"] for run in runs.values()),
        "rows_rejected": sum(run["rows_rejected"] for run in runs.values()),
        "stages": runs,
    }
