# SPDX-License-Identifier: Apache-2.0
"""One try of a pipeline task, from the context of ``execute`` to its return value."""

from __future__ import annotations

import functools
import logging
import os
import socket
from typing import TYPE_CHECKING, Any, Protocol

from airflow_parallel_provider.bridge import _compat
from airflow_parallel_provider.bridge.connections import declared_connections, worker_environment
from airflow_parallel_provider.bridge.identity import LoadPart, RunIdentity
from airflow_parallel_provider.bridge.publishing.live_metrics import OBSERVE_EVERY, LiveMetrics
from airflow_parallel_provider.bridge.publishing.publisher import Publisher
from airflow_parallel_provider.bridge.publishing.telemetry import Telemetry, fill_outlets
from airflow_parallel_provider.bridge.sent_shards import AirflowInShard, SentTo, reports_of_shards
from airflow_parallel_provider.bridge.settings import Settings
from airflow_parallel_provider.bridge.supervisor.shared_comms import shared_with_threads
from airflow_parallel_provider.bridge.supervisor.worker_requests import AirflowInWorker, handle_request
from airflow_parallel_provider.bridge.task_info import TaskInfo, connections_are, task_info_is
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

_MANY_SHARDS, _PUSH_MANY = 200, 30.0
"""From so many shards on, each sends a snapshot only every so many seconds."""


class SupervisorWatch:
    """Stops a run whose supervisor has died.

    The task process gets no signal of that. Without this class it would continue as long as it has work, and after some
    minutes without a heartbeat Airflow would start the next try while it still runs.
    """

    def __init__(self, stop: StopToken) -> None:
        self._stop = stop
        self._supervisor = os.getppid() if _compat.has_supervisor_process() else None

    def check(self) -> None:
        """Stop the run if the supervisor has died; main thread only."""
        if self._supervisor is not None and os.getppid() != self._supervisor:
            self._stop.stop("the supervisor of this task has died")


class Observers:
    """Everything that follows one run: live metrics, the deployment's monitoring, the check of the supervisor.

    :param on_outcome: called once with the outcome of the run, before anything is raised.
    """

    def __init__(
        self,
        publisher: Publisher,
        metrics: LiveMetrics,
        telemetry: Telemetry,
        watch: SupervisorWatch,
        *,
        facts: Mapping[str, Any],
        on_outcome: Callable[[Mapping[str, Any]], object] | None = None,
    ) -> None:
        self._facts = facts
        self._publisher = publisher
        self._metrics = metrics
        self._telemetry = telemetry
        self._watch = watch
        self._on_outcome = on_outcome
        self._last: Mapping[str, Any] = {}

    def begin(self) -> None:
        """Called before the run begins."""
        self._telemetry.begin()

    def observe(self, snapshot: dict[str, Any]) -> None:
        """Take the engine's snapshot of every second."""
        self._last = snapshot
        self._watch.check()
        self._metrics.observe(snapshot)
        self._telemetry.observe(snapshot)

    def failed(self, error: BaseException) -> None:
        """Publish the report of a failed run; XCom first, since a task that is being killed may not get further."""
        report = error.report if isinstance(error, RunFailed) else None
        if report is None:
            self.end(None, "failed")
            return
        self._publisher.push(REPORT_KEY, summary_of(report, self._facts), last=True)
        self.end(report.as_dict(), report.state)
        log.error("\n%s", report)

    def hurry(self) -> None:
        """Wait only briefly for the last writes: ``execution_timeout`` has passed."""
        self._publisher.hurried = True

    def end(self, outcome: Mapping[str, Any] | None, state: str) -> None:
        """Pass the outcome of the run on.

        :param outcome: the report as a dict; None where there is none, then the last snapshot takes its place.
        """
        if self._on_outcome is not None:
            self._on_outcome(outcome or {**self._last, "state": state})
        self._metrics.end(outcome, state)
        self._telemetry.end(outcome, state)


class PipelineFactory(Protocol):
    """Builds the pipeline of a run; its parameters are arguments of ``Pipeline``."""

    def __call__(
        self,
        *,
        load_key: str,
        family: str,
        generation: str,
        attempt: int,
        labels: dict[str, str],
        mapped: int | None,
        worker_env: dict[str, str],
        worker_hooks: WorkerHooks,
    ) -> Pipeline:
        """Build it.

        :raises PlanError: for an invalid rendered value.
        """


def run_in_task(
    context: Context | Mapping[str, Any],
    build: PipelineFactory,
    stop: StopToken,
    *,
    connections: Iterable[str] = (),
    load_key: str | None = None,
    on_outcome: Callable[[Mapping[str, Any]], object] | None = None,
    part: LoadPart | None = None,
    sent_to: SentTo | None = None,
    shards: int = 0,
) -> dict[str, Any]:
    """Run a pipeline inside the running task, on its main thread, and return the summary for XCom.

    :param context: the context of ``execute``.
    :param build: builds the pipeline.
    :param stop: set by ``on_kill``.
    :param connections: ids of connections that worker processes may use.
    :param load_key: the author's own name of the load; None: one load per task instance and generation.
    :param on_outcome: called with the outcome when the run has ended, in whatever way, before anything is raised.
    :param part: a shard of a load that :func:`begin_in_task` has begun, or its end; None: the whole load.
    :param sent_to: the executor that does the load's shards, if this task only coordinates them.
    :param shards: of the end of a load: how many shards it has.
    :raises AirflowFailException: for an error that a retry cannot cure.
    :raises RunFailed: for any other end without success; Airflow retries the task as it is configured.
    """
    identity = RunIdentity.from_context(context)
    declared = declared_connections(connections)
    load = part or identity.whole_load(load_key)
    key = load.load_key
    info = TaskInfo.from_context(context, key)
    mapped = None if part is not None or identity.map_index < 0 else _compat.mapped_task_instances(context["ti"])
    pipeline, settings = _built(build, identity, load, mapped=mapped, declared=declared, info=info)
    facts = {"load_key": key, "attempt": identity.attempt, "sink": _describe(pipeline)}
    facts |= {"dead_letters": _dead_letters(pipeline)}
    log.info("Load %s, try %d, into %s", key, identity.attempt, facts["sink"])
    publisher = Publisher(context)
    shown = {**facts, "host": socket.gethostname(), "part": None if part is None else part.name}
    metrics = LiveMetrics(publisher, identity, shown, push_every=_push_every(settings, part))
    telemetry, watch = Telemetry(pipeline, identity), SupervisorWatch(stop)
    observers = Observers(publisher, metrics, telemetry, watch, facts=facts, on_outcome=on_outcome)
    report: RunReport | None = None
    try:
        with shared_with_threads(), task_info_is(info), connections_are(declared), publisher.at_work(stop):
            observe = observers.observe
            if sent_to is not None:
                run = functools.partial(sent_to.run, pipeline, stop, observe, AirflowInShard(info, declared))
            elif part is not None and part.shard is None:
                reports = reports_of_shards(context, identity.task_id, shards)
                run = functools.partial(pipeline.finish, stop=stop, shards=reports)
            else:
                shard = None if part is None else part.shard
                run = functools.partial(
                    pipeline.run, stop=stop, observe=observe, observe_every=OBSERVE_EVERY, shard=shard
                )
            report = _run_observed(run, observers)
            observers.end(report.as_dict(), "success")
    except _compat.task_timeout():
        if report is None:  # otherwise the work was done in time
            raise
        log.warning("The end of the run may not be published everywhere: execution_timeout has passed")
    fill_outlets(context, report.as_dict(), facts)
    log.info("\n%s", report)
    return summary_of(report, facts)


def begin_in_task(
    context: Context | Mapping[str, Any],
    build: PipelineFactory,
    stop: StopToken,
    shards: int,
    *,
    connections: Iterable[str] = (),
    load_key: str | None = None,
) -> list[dict[str, Any]]:
    """Begin a load that several task instances will write together; return an entry for each of its shards.

    The parameters and errors are those of :func:`run_in_task`.

    :param shards: how many there will be.
    """
    identity = RunIdentity.from_context(context)
    declared = declared_connections(connections)
    load = identity.whole_load(load_key)
    info = TaskInfo.from_context(context, load.load_key)
    mapped = None if identity.map_index < 0 else _compat.mapped_task_instances(context["ti"])
    pipeline, _ = _built(build, identity, load, mapped=mapped, declared=declared, info=info)
    log.info("Load %s, try %d, into %s: %d shards", load.load_key, identity.attempt, _describe(pipeline), shards)
    try:
        with shared_with_threads(), task_info_is(info), connections_are(declared):
            pipeline.begin(stop=stop)
    except Exception as error:
        if is_terminal(error):
            raise _no_retry(error) from error
        raise
    return load.shards(shards)


def _push_every(settings: Settings, part: LoadPart | None) -> float:
    """Seconds between two snapshots: very many shards together would keep the API server busy."""
    many = part is not None and part.shard is not None and part.shard[1] >= _MANY_SHARDS
    return max(settings.push_interval, _PUSH_MANY) if many else settings.push_interval


def _built(
    build: PipelineFactory,
    identity: RunIdentity,
    load: LoadPart,
    *,
    mapped: int | None,
    declared: Mapping[str, Any],
    info: TaskInfo,
) -> tuple[Pipeline, Settings]:
    try:
        pipeline = build(
            load_key=load.load_key,
            family=load.family,
            generation=load.generation,
            attempt=identity.attempt,
            labels=identity.labels,
            mapped=mapped,
            worker_env=worker_environment(declared),
            worker_hooks=worker_hooks(info),
        )
        settings = Settings.read()
        settings.apply(pipeline)
    except PlanError as error:
        raise _no_retry(error) from error
    return pipeline, settings


def _run_observed(run: Callable[[], RunReport], observers: Observers) -> RunReport:
    """Run the pipeline; pass a failure on to the observers, and raise it so that Airflow retries only what can help."""
    observers.begin()
    try:
        return run()
    except BaseException as error:  # execution_timeout is no Exception; the run is already torn down at this point
        _pass_failure(observers, error)
        if is_terminal(error):
            raise _no_retry(error) from error
        raise


def _pass_failure(observers: Observers, error: BaseException) -> None:
    """Pass a failure on. A timeout meanwhile must not replace the error: it says why the run failed."""
    try:
        observers.failed(error)
    except _compat.task_timeout():
        observers.hurry()
        log.warning("The end of the run may not be published everywhere: execution_timeout has passed")


def worker_hooks(info: TaskInfo) -> WorkerHooks:
    """The parts of Airflow that work in worker processes, see :mod:`.supervisor.worker_requests`."""
    return WorkerHooks(
        on_start=AirflowInWorker(info),
        handle_request=handle_request if _compat.in_a_task() else None,
        preload=_compat.worth_preloading,
        redact=_compat.masked,
    )


def _no_retry(error: BaseException) -> Exception:
    return _compat.fail_exception()(f"{type(error).__name__}: {error} (a retry cannot help)")


def is_terminal(error: BaseException | None) -> bool:
    """Whether the error, or one of its causes, is one that a retry can never cure."""
    while error is not None:
        if issubclass(type(error), (TerminalError, PlanError)):
            return True
        error = error.__cause__
    return False


def _describe(pipeline: Pipeline) -> str | None:
    sink = pipeline.sink
    return None if sink is None else sink.describe()


def _dead_letters(pipeline: Pipeline) -> dict[str, str] | None:
    """Table and connection of the dead letters."""
    table = getattr(pipeline.sink, "dead_letter_table", None)
    return None if table is None else {"table": table, "conn_id": str(getattr(pipeline.sink, "conn_id", ""))}
