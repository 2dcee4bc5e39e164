"""One try of a pipeline task, from the context it is given to the value it returns."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any, Protocol

from airflow_parallel_provider.bridge import _compat
from airflow_parallel_provider.bridge.connections import declared_connections, worker_environment
from airflow_parallel_provider.bridge.identity import RunIdentity
from airflow_parallel_provider.bridge.in_worker import AirflowInWorker, answer
from airflow_parallel_provider.bridge.metrics import OBSERVE_EVERY, LiveMetrics
from airflow_parallel_provider.bridge.publisher import Publisher
from airflow_parallel_provider.bridge.settings import Settings
from airflow_parallel_provider.bridge.supervisor_lock import shared_with_threads
from airflow_parallel_provider.bridge.task_info import TaskInfo, connections_are, task_info_is
from airflow_parallel_provider.bridge.telemetry import Telemetry, fill_outlets
from airflow_parallel_provider.engine.plan.worker_hooks import WorkerHooks
from airflow_parallel_provider.errors import PlanError, RunFailed, TerminalError
from airflow_parallel_provider.monitoring.summary import REPORT_KEY, summary_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from airflow.sdk import Context

    from airflow_parallel_provider.engine.interfaces.stop import StopToken
    from airflow_parallel_provider.engine.pipeline import Pipeline
    from airflow_parallel_provider.report import RunReport

log = logging.getLogger(__name__)


class SupervisorWatch:
    """Stops a run whose supervisor has died.

    Nobody else would: the task process is not told, goes on for as long as it has work, and after some minutes without
    a heartbeat Airflow starts the next try beside it.
    """

    def __init__(self, stop: StopToken) -> None:
        self._stop = stop
        self._supervisor = os.getppid() if _compat.has_supervisor_process() else None

    def look(self) -> None:
        """Look once; main thread only."""
        if self._supervisor is not None and os.getppid() != self._supervisor:
            self._stop.stop("the supervisor of this task is gone")


class Observers:
    """All that follow one run: the live metrics, the deployment's monitoring, the watch over the supervisor."""

    def __init__(
        self,
        publisher: Publisher,
        metrics: LiveMetrics,
        telemetry: Telemetry,
        watch: SupervisorWatch,
        *,
        facts: Mapping[str, Any],
        tell: Callable[[Mapping[str, Any]], object] | None = None,
    ) -> None:
        self._facts = facts
        self._publisher = publisher
        self._metrics = metrics
        self._telemetry = telemetry
        self._watch = watch
        self._tell = tell
        self._last: Mapping[str, Any] = {}

    def begin(self) -> None:
        """The run is about to begin."""
        self._telemetry.begin()

    def observe(self, snapshot: dict[str, Any]) -> None:
        """Take what the engine tells every second."""
        self._last = snapshot
        self._watch.look()
        self._metrics.observe(snapshot)
        self._telemetry.observe(snapshot)

    def failed(self, error: BaseException) -> None:
        """Leave the report where people look; XCom first: a task that is being killed may not get further."""
        report = error.report if isinstance(error, RunFailed) else None
        if report is None:
            self.end(None, "failed")
            return
        self._publisher.push(REPORT_KEY, summary_of(report, self._facts), last=True)
        self.end(report.as_dict(), report.state)
        log.error("\n%s", report)

    def hurry(self) -> None:
        """The time of the task is over."""
        self._publisher.hurried = True

    def end(self, outcome: Mapping[str, Any] | None, state: str) -> None:
        """Tell everybody what the run has come to.

        :param outcome: the report; None where there is none, then the last snapshot has to do.
        """
        if self._tell is not None:
            self._tell(outcome or {**self._last, "state": state})
        self._metrics.end(outcome, state)
        self._telemetry.end(outcome, state)


class PipelineFactory(Protocol):
    """Makes the pipeline once the run is known; what it is given are arguments of ``Pipeline``."""

    def __call__(
        self,
        *,
        load_key: str,
        family: str,
        generation: str,
        attempt: int,
        labels: dict[str, str],
        worker_env: dict[str, str],
        worker_hooks: WorkerHooks,
    ) -> Pipeline:
        """Build it.

        :raises PlanError: when a rendered value does not fit.
        """


def run_in_task(
    context: Context | Mapping[str, Any],
    build: PipelineFactory,
    stop: StopToken,
    *,
    connections: Iterable[str] = (),
    load_key: str | None = None,
    tell: Callable[[Mapping[str, Any]], object] | None = None,
) -> dict[str, Any]:
    """Run a pipeline inside the running task, on its main thread, and return the summary for XCom.

    :param context: the context that ``execute`` was given.
    :param build: makes the pipeline.
    :param stop: set by ``on_kill``.
    :param connections: ids of connections that worker processes may use.
    :param load_key: the author's own name of the load; None: one load per task instance and generation.
    :param tell: is given the figures when the run has ended, in whatever way, before anything is raised.
    :raises AirflowFailException: for an error that a retry cannot cure.
    :raises RunFailed: for any other end without success; Airflow retries it as the task says.
    """
    identity = RunIdentity.from_context(context)
    key = load_key or identity.load_key
    declared = declared_connections(connections)
    info = TaskInfo.from_context(context, key)
    try:
        pipeline = build(
            load_key=key,
            family=load_key or identity.family,
            generation=identity.generation,
            attempt=identity.attempt,
            labels=identity.labels,
            worker_env=worker_environment(declared),
            worker_hooks=worker_hooks(info),
        )
        settings = Settings.read()
        settings.apply(pipeline)
    except PlanError as error:
        raise _no_retry(error) from error
    facts = {"load_key": key, "attempt": identity.attempt, "sink": _describe(pipeline)}
    facts |= {"dead_letters": _dead_letters(pipeline)}
    log.info("Load %s, try %d, into %s", key, identity.attempt, facts["sink"])
    publisher = Publisher(context)
    metrics = LiveMetrics(publisher, identity, facts, push_every=settings.push_interval)
    telemetry, watch = Telemetry(pipeline, identity), SupervisorWatch(stop)
    followers = Observers(publisher, metrics, telemetry, watch, facts=facts, tell=tell)
    report: RunReport | None = None
    try:
        with shared_with_threads(), task_info_is(info), connections_are(declared), publisher.at_work(stop):
            report = _followed(pipeline, stop, followers)
            followers.end(report.as_dict(), "success")
    except _compat.task_timeout():
        if report is None:  # else the work was done in time
            raise
        log.warning("Not everybody has been told of the end of the run: execution_timeout is over")
    fill_outlets(context, report.as_dict(), facts)
    log.info("\n%s", report)
    return summary_of(report, facts)


def _followed(pipeline: Pipeline, stop: StopToken, followers: Observers) -> RunReport:
    """Run the pipeline; everybody who follows it hears of it when it fails."""
    followers.begin()
    try:
        return pipeline.run(stop=stop, observe=followers.observe, observe_every=OBSERVE_EVERY)
    except BaseException as error:  # execution_timeout is no Exception; everything is already down when it gets here
        _told(followers, error)
        if is_terminal(error):
            raise _no_retry(error) from error
        raise


def _told(followers: Observers, error: BaseException) -> None:
    """Have everybody hear of it; why the run failed counts more than that its time is over meanwhile."""
    try:
        followers.failed(error)
    except _compat.task_timeout():
        followers.hurry()
        log.warning("Not everybody has been told of the end of the run: execution_timeout is over")


def worker_hooks(info: TaskInfo) -> WorkerHooks:
    """What worker processes are given of Airflow: see :mod:`.in_worker`."""
    return WorkerHooks(
        on_start=AirflowInWorker(info),
        handle_request=answer if _compat.in_a_task() else None,
        preload=_compat.worth_preloading,
        redact=_compat.masked,
    )


def _no_retry(error: BaseException) -> Exception:
    return _compat.fail_exception()(f"{type(error).__name__}: {error} (a retry cannot help)")


def is_terminal(error: BaseException | None) -> bool:
    """Whether the error, or what caused it, can never succeed by trying again."""
    while error is not None:
        if isinstance(error, (TerminalError, PlanError)):
            return True
        error = error.__cause__
    return False


def _describe(pipeline: Pipeline) -> str | None:
    sink = pipeline.sink
    return None if sink is None else sink.describe()


def _dead_letters(pipeline: Pipeline) -> dict[str, str] | None:
    """Where somebody finds them: table and connection."""
    table = getattr(pipeline.sink, "dead_letter_table", None)
    return None if table is None else {"table": table, "conn_id": str(getattr(pipeline.sink, "conn_id", ""))}
