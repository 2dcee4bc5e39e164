"""Airflow inside worker processes: hooks, connections and Variables work there without being asked to.

Airflow's code, wherever it runs, looks for the line to its supervisor in one module. In a worker process a stand-in
is put there when, and only when, somebody imports that module; it sends each question to the task process, which asks
on its own line. So secrets reach a worker over a socket pair, and Airflow masks them as if the task itself had asked.
"""

from __future__ import annotations

import asyncio
import importlib.machinery
import pickle
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.bridge import _compat
from airflow_parallel_provider.bridge.task_info import TaskInfo, keep_task_info
from airflow_parallel_provider.engine.ipc import requests

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType


@dataclass(frozen=True, slots=True)
class AirflowInWorker:
    """Called once in the fork server, before any function is imported; every worker inherits what it did."""

    info: TaskInfo

    def __call__(self) -> None:
        """Make the task known and have the line in place when Airflow looks for it."""
        keep_task_info(self.info)
        if _compat.TASK_RUNNER in sys.modules:
            put_line(sys.modules[_compat.TASK_RUNNER])
        else:
            sys.meta_path.insert(0, _WhenImported())


def put_line(module: ModuleType) -> None:
    """Give Airflow's module a line that leads to the task process."""
    vars(module)[_compat.COMMS] = LineToTask()


class LineToTask:
    """Stands in a worker process where the task has its line to the supervisor."""

    def send(self, msg: Any) -> Any:
        """Ask, and wait for the answer.

        :raises AirflowRuntimeError: what Airflow's own line would have raised.
        :raises NoResponse: when the task process is ending.
        """
        if type(msg).__name__ == "ResendLoggingFD":  # a worker's output goes through the task process anyway
            return None
        kind, value = pickle.loads(requests.request(pickle.dumps(msg)))  # noqa: S301 - from the task process
        if kind == _ERROR:
            raise _compat.line_error(value)
        return value

    async def asend(self, msg: Any) -> Any:
        """Ask from an event loop."""
        return await asyncio.to_thread(self.send, msg)


class _WhenImported:
    """Watches for the import of the module that holds the line."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        """Have the module imported as ever, and the line put in at the end."""
        if name != _compat.TASK_RUNNER:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        loader: Any = None if spec is None else spec.loader
        if loader is None:
            return None
        run = loader.exec_module

        def run_and_put_line(module: ModuleType) -> None:
            run(module)
            put_line(module)

        loader.exec_module = run_and_put_line
        return spec


# -- in the task process ----------------------------------------------------------------------------------------------

_VALUE, _ERROR = range(2)


def answer(question: bytes) -> bytes:
    """Ask Airflow what a worker wants to know; on the thread of the engine's question desk.

    The line is shared with all threads of the pipeline (see :mod:`.comms`), one conversation at a time.
    """
    msg = pickle.loads(question)  # noqa: S301 - from our own worker
    if _compat.mask(msg):
        return pickle.dumps((_VALUE, None))
    line = getattr(_compat.task_runner_module(), _compat.COMMS)
    try:
        value = line.send(msg)
    except Exception as error:  # noqa: BLE001 - the asker shall see what it would have seen in the task process
        return pickle.dumps((_ERROR, _compat.line_error_facts(error)))
    return pickle.dumps((_VALUE, value))
