# SPDX-License-Identifier: Apache-2.0
"""The operator that replays dead letters."""

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
from airflow_parallel_provider.operators.parallel_pipeline import KILLED
from airflow_parallel_provider.sinks.replay import Replay, check_replayable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import jinja2
    from airflow.sdk import Context

    from airflow_parallel_provider.engine.plan.stage import Stage
    from airflow_parallel_provider.sinks.table import SinkTable

log = logging.getLogger(__name__)


class ReplayDeadLettersOperator(BaseOperator):
    """Run the unresolved dead letters of a table through the (repaired) stages again, each exactly once.

    Each item enters at the stage where it failed, as the value that this stage was given. Its rows and the mark that
    the dead letter is resolved are one transaction. So the retry of a killed replay, or the next run, continues it, and
    two replays at the same time never process the same dead letter. An item that fails again becomes a new dead letter
    of the same load, with its own cause; the old one is resolved.

    The task returns ``waiting``, ``replayed``, ``failed_again``, ``not_replayable``, ``rows``, ``rows_rejected`` and,
    by stage, the summaries of the runs.

    :param sink: the ``SinkTable`` of the load. (templated)
    :param stages: all stages of the pipeline, with the names they had in the load. Numbers may be templates.
    :param load_key: replay only dead letters of this load; None: of all loads into the table. (templated)
    :param chunk_size: dead letters per transaction. (templated)
    :param tolerance: how much may fail again; an int counts dead letters, a float is a fraction. With 0 the first
        failure fails the task and its chunk changes nothing; with 1.0 every item that succeeds is committed.
        (templated)
    :param overwrite: of a sink that merges without ``newest``: a replayed row replaces the row with its key. False: it
        is refused like a row that the table refuses, because the row that is there may come from a later item or load.
        It counts for ``tolerance`` and goes to the table of rejected rows; its dead letter stays unresolved.
    :param allow_pickle: also replay items that only have a pickle (``SinkTable(dead_letter_pickle=True)``). Any user
        who may write to the table can then run code in this task.
    :param timeout: seconds the replay of one stage may take; None: no limit besides ``execution_timeout``. (templated)
    :param connections: ids of Airflow connections that hooks in worker processes may use.
    :raises PlanError: when the DAG is parsed, for every error that is visible then.
    :raises AirflowFailException: at run time, for errors that a retry cannot cure, such as dead letters of a stage that
        is not in ``stages``.
    :raises RunFailed: at run time, for any other end without success.

    What it does not do: replay an item that was not stored whole (too long, or of a class that JSON cannot restore, and
    without a pickle). Such dead letters are counted in the log and stay unresolved.

    Known limitations: with ``overwrite`` items are replayed in source order within a load and a stage only; between
    loads and stages the last one replayed stays. With ``load_column`` the rows carry the id of the replay's load, not
    of the first load.
    """

    template_fields: Sequence[str] = ("sink", "load_key", "chunk_size", "tolerance", "timeout")
    shallow_copy_attrs: Sequence[str] = ("stages", "sink")
    ui_color: str = "#f0e0d0"

    _stop: StopToken | None = None
    _killed: bool = False
    _outcomes: tuple[Mapping[str, Any], ...] = ()

    def __init__(
        self,
        *,
        sink: SinkTable,
        stages: Sequence[Stage],
        load_key: str | None = None,
        chunk_size: int | str = 100,
        tolerance: float | str = 0,
        overwrite: bool = False,
        allow_pickle: bool = False,
        timeout: float | str | None = None,
        connections: Iterable[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_replayable(sink, overwrite=overwrite)
        self.sink = sink
        self.stages = stages
        self.load_key = load_key
        self.chunk_size = chunk_size
        self.tolerance = tolerance
        self.overwrite = bool(overwrite)
        self.allow_pickle = bool(allow_pickle)
        self.timeout = timeout
        self.connections = check_connections(connections)
        self._check_plan()

    def _check_plan(self) -> None:
        pipeline = Pipeline((), self.stages, self.sink, **arguments.declared_numbers(self))
        self.stages = pipeline.stages  # with the names they have in a pipeline
        pipeline.check_picklable()

    def render_template_fields(self, context: Context, jinja_env: jinja2.Environment | None = None) -> None:
        """Render the template fields; the sink as a copy, since mapped tasks share the one of the DAG file."""
        self.sink = copy.copy(self.sink)
        super().render_template_fields(context, jinja_env)

    def execute(self, context: Context) -> dict[str, Any]:
        """Replay the unresolved dead letters, stage by stage, and return the counts."""
        self._stop = StopToken()
        if self._killed:
            self._stop.stop(KILLED)
        self._outcomes = ()
        waiting = self._waiting()
        runs = {}
        # The last stage first: an item that fails again in a later stage must not be replayed twice in this run.
        for number, stage in reversed(list(enumerate(self.stages))):
            if waiting.get(stage.name, (0, 0))[1]:
                runs[stage.name] = self._replay(context, number, stage.name)
        result = _result(waiting, runs)
        log.info("Replay: %s", _in_words(result))
        return result

    def _waiting(self) -> dict[str, tuple[int, int]]:
        from airflow_parallel_provider.hooks.sink_table import SinkTableHook

        with SinkTableHook.of(self.sink) as hook:
            waiting = hook.dead_letters_waiting(self.load_key)
        unknown = sorted(waiting.keys() - {stage.name for stage in self.stages})
        if unknown:
            names = ", ".join(stage.name for stage in self.stages)
            raise _compat.fail_exception()(
                f"dead letters of {self.sink.display_name} come from {', '.join(map(repr, unknown))}, but the stages "
                f"are {names}: give the stages the names they had in the load"
            )
        replayable = sum(whole for _, whole in waiting.values())
        if replayable < sum(count for count, _ in waiting.values()):
            log.warning(
                "%d dead letters stay unresolved: their items were not stored whole (too long, or of a class that JSON "
                "cannot restore)",
                sum(count for count, _ in waiting.values()) - replayable,
            )
        return waiting

    def _replay(self, context: Context, number: int, stage: str) -> dict[str, Any]:
        from airflow_parallel_provider.bridge.task_run import run_in_task

        # A separate key for each try: the unresolved dead letters say what is left to do, not the ledger.
        key = f"replay-{uuid4().hex}/{stage}"[:200]
        replay = Replay(
            self.sink,
            stage,
            own=key,
            load_key=self.load_key,
            allow_pickle=self.allow_pickle,
            overwrite=self.overwrite,
        )

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
        return run_in_task(
            context, build, self._stop, connections=self.connections, load_key=key, on_outcome=self._add_outcome
        )

    def _add_outcome(self, outcome: Mapping[str, Any]) -> None:
        self._outcomes = (*self._outcomes, outcome)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:  # noqa: ARG002 - as OpenLineage calls it
        """The table of dead letters as input, the sink's table as output, with the row counts; for OpenLineage."""
        from airflow_parallel_provider.bridge.publishing.lineage import lineage_of, sum_of_runs

        table = _DeadLetterTable(str(self.sink.dead_letter_table), self.sink.conn_id, self.sink.schema)
        return lineage_of(table, self.sink, sum_of_runs(self._outcomes))

    def on_kill(self) -> None:
        """Request the run to stop; :meth:`execute` notices that, cleans up and raises."""
        self._killed = True
        if self._stop is not None:
            self._stop.stop(KILLED)


@dataclass(frozen=True, slots=True)
class _DeadLetterTable:
    """The table of dead letters, as the source of a replay, for lineage."""

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


def _in_words(result: dict[str, Any]) -> str:
    """``3 dead letters: 2 replayed, 1 failed again; 2 rows``."""
    parts = [f"{result['replayed']:,} replayed"]
    more = [name for name in ("failed_again", "not_replayable") if result[name]]
    parts += [f"{result[name]:,} {name.replace('_', ' ')}" for name in more]
    rejected = f", {result['rows_rejected']:,} rejected" if result["rows_rejected"] else ""
    return f"{result['waiting']:,} dead letters: {', '.join(parts)}; {result['rows']:,} rows{rejected}"
