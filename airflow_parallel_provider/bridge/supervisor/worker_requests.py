# SPDX-License-Identifier: Apache-2.0
"""Airflow inside worker processes: hooks, connections and Variables work there without being declared.

Airflow's code always looks for the comms with the supervisor in one module. In a worker process this module installs a
replacement when, and only when, that module is imported. The replacement sends each request to the task process, which
sends it on over its own comms. So secrets reach a worker over a socket pair, and Airflow masks them as if the task
itself had requested them.
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
    """Called once in the fork server, before it imports any function; every worker inherits the result."""

    info: TaskInfo

    def __call__(self) -> None:
        """Keep the task's facts, and install the comms now or when Airflow's module is imported."""
        keep_task_info(self.info)
        if _compat.TASK_RUNNER in sys.modules:
            install_comms(sys.modules[_compat.TASK_RUNNER])
        else:
            sys.meta_path.insert(0, _InstallOnImport())


def install_comms(module: ModuleType) -> None:
    """Give Airflow's module comms that lead to the task process."""
    vars(module)[_compat.COMMS] = WorkerComms()


class WorkerComms:
    """In a worker process: takes the place of the comms with the supervisor."""

    def send(self, msg: Any) -> Any:
        """Send a request to the task process and wait for the response.

        :raises AirflowRuntimeError: what Airflow's own comms would have raised.
        :raises NoResponse: when the task process is ending.
        """
        if type(msg).__name__ == "ResendLoggingFD":  # a worker's output goes through the task process anyway
            return None
        kind, value = pickle.loads(requests.request(pickle.dumps(msg)))  # noqa: S301 - from the task process
        if kind == _ERROR:
            raise _compat.comms_error(value)
        return value

    async def asend(self, msg: Any) -> Any:
        """The same from an event loop."""
        return await asyncio.to_thread(self.send, msg)


class _InstallOnImport:
    """A finder that watches for the import of the module that holds the comms."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        """Let the module be imported as usual, and install the comms at the end."""
        if name != _compat.TASK_RUNNER:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        loader: Any = None if spec is None else spec.loader
        if loader is None:
            return None
        run = loader.exec_module

        def run_and_install(module: ModuleType) -> None:
            run(module)
            install_comms(module)

        loader.exec_module = run_and_install
        return spec


# -- in the task process ----------------------------------------------------------------------------------------------

_VALUE, _ERROR = range(2)


def handle_request(request: bytes) -> bytes:
    """Send a worker's request to Airflow and return the response; on the thread of the engine's request server.

    The comms are shared with all threads of the pipeline, one request at a time, see :mod:`.shared_comms`.
    """
    msg = pickle.loads(request)  # noqa: S301 - from our own worker
    if _compat.mask(msg):
        return pickle.dumps((_VALUE, None))
    comms = getattr(_compat.task_runner_module(), _compat.COMMS)
    try:
        value = comms.send(msg)
    except Exception as error:  # noqa: BLE001 - the worker raises what the task process would have raised
        return pickle.dumps((_ERROR, _compat.comms_error_facts(error)))
    return pickle.dumps((_VALUE, value))
