# SPDX-License-Identifier: Apache-2.0
"""Shards that run outside of Airflow: what a task gives them, and what it learns of those that other tasks have run."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.bridge import _compat
from airflow_parallel_provider.bridge.connections import worker_environment
from airflow_parallel_provider.bridge.publishing.live_metrics import OBSERVE_EVERY
from airflow_parallel_provider.bridge.task_info import TaskInfo, connections_are, keep_task_info, task_info_is
from airflow_parallel_provider.engine.plan.worker_hooks import WorkerHooks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from airflow.sdk import Context

    from airflow_parallel_provider.engine.interfaces.stop import StopToken
    from airflow_parallel_provider.engine.pipeline import Pipeline
    from airflow_parallel_provider.report import RunReport

log = logging.getLogger(__name__)

_MOST_REPORTS = 200
"""Reports of more shards are not fetched: each is some kilobytes, through the API server."""

_lock = threading.Lock()
_given: dict[str, tuple[int, str | None]] = {}
"""Variables that shards of this process have set: how many of them, and what was there before."""


@dataclass(frozen=True, slots=True)
class SentTo:
    """Where a task sends its shards, as the author has written it."""

    shards: int
    executor: Callable[[], Any]
    tries: int

    def run(
        self, pipeline: Pipeline, stop: StopToken, observe: Callable[[dict[str, Any]], object], around: AirflowInShard
    ) -> RunReport:
        """Have the shards of a pipeline done there."""
        return pipeline.run_sharded(
            self.shards,
            self.executor,
            tries=self.tries,
            stop=stop,
            observe=observe,
            observe_every=OBSERVE_EVERY,
            surroundings=around,
        )


@dataclass(frozen=True)
class AirflowInShard:
    """Surroundings of a shard where it runs: the facts of the task, and the connections that it declares.

    Hooks find the connections in ``AIRFLOW_CONN_<ID>``, in the environment of the process while a shard runs in it.
    """

    info: TaskInfo
    declared: Mapping[str, str] = field(repr=False)
    home: int = field(default_factory=os.getpid)
    """Process id of the task."""

    def __call__(self, pipeline: Pipeline) -> AbstractContextManager[object]:
        """The same for a pipeline, with what its worker processes need."""
        return self._around(pipeline)

    @contextlib.contextmanager
    def _around(self, pipeline: Pipeline) -> Iterator[None]:
        if os.getpid() != self.home:
            _compat.leave_supervisor()
        variables = worker_environment(self.declared)
        pipeline.worker_env = variables
        pipeline.worker_hooks = WorkerHooks(
            on_start=functools.partial(_worker_starts, self.info, bool(self.declared)),
            preload=_compat.worth_preloading,
            redact=_compat.masked,
        )
        with _environment(variables), task_info_is(self.info), connections_are(self.declared):
            yield


def _worker_starts(info: TaskInfo, has_connections: bool) -> None:
    keep_task_info(info)
    if has_connections:
        _compat.read_connections_of_environment()


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables; put back what was there when the last shard of this process that has set them has ended."""
    with _lock:
        for name, value in variables.items():
            users, before = _given.get(name, (0, os.environ.get(name)))
            _given[name] = (users + 1, before)
            os.environ[name] = value
    try:
        yield
    finally:
        with _lock:
            for name in variables:
                users, before = _given.pop(name)
                if users > 1:
                    _given[name] = (users - 1, before)
                elif before is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = before


def reports_of_shards(context: Context | Mapping[str, Any], finish: str, shards: int) -> list[Mapping[str, Any]]:
    """What the shards of a group have returned, for the end of their load; nothing if they are very many.

    :param finish: id of the task that ends the load.
    """
    if shards > _MOST_REPORTS:
        return []
    ti: Any = context["ti"]
    try:
        found = ti.xcom_pull(task_ids=[f"{finish.removesuffix('finish')}shard"])
    except Exception:  # the load does not depend on it
        log.warning("The reports of the shards could not be read: CPU time and stages are left out", exc_info=True)
        return []
    return [each for each in found or () if isinstance(each, Mapping)]
