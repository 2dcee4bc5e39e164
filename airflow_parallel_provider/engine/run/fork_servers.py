# SPDX-License-Identifier: Apache-2.0
"""The fork server of a run: started where a stage needs it, replaced when it dies, closed at the end."""

from __future__ import annotations

import contextlib
import functools
import threading

from airflow_parallel_provider.engine.functions.import_scan import imported_modules
from airflow_parallel_provider.engine.functions.serialization import by_value_modules, serialize_stages
from airflow_parallel_provider.engine.ipc.requests import RequestServer
from airflow_parallel_provider.engine.plan.worker_env import environments
from airflow_parallel_provider.engine.processes.client import ForkServerClient, ForkServerLost, ForkServerOptions
from airflow_parallel_provider.engine.processes.launch import LaunchedServer
from airflow_parallel_provider.engine.resources.limits import shortage
from airflow_parallel_provider.engine.run.state import RunState
from airflow_parallel_provider.errors import PlanError, SetupFailed, WorkersExhausted

FORK_SERVER_RESTARTS = 3
"""How often a fork server that dies is started again; one that keeps dying (out of memory) fails the run."""


class ForkServers:
    """Gives the worker threads a fork server that runs.

    Only the coordinating thread starts one: the kernel's parent-death signal follows the thread that did. A worker that
    finds it dead asks with :meth:`running` and waits for the next one.

    :param launched: the process of the first one, if it has been started already.
    """

    def __init__(self, state: RunState, launched: LaunchedServer | None = None) -> None:
        self._state = state
        self._launched = launched
        self._stages = [stage for stage in state.plan.stages if stage.kind == "process"]
        self._codes: dict[int, bytes] = {}
        self._worker_env: dict[int, list[dict[str, str]]] = {}
        self._client: ForkServerClient | None = None
        self._dead: ForkServerClient | None = None  # the client, once it has died and another one is asked for
        self._changed = threading.Condition()
        self._restarts = 0
        self._registered = contextlib.ExitStack()
        self._request_server: RequestServer | None = None

    def prepare(self) -> None:
        """Start the first fork server, where a stage needs one.

        :raises NotPicklable: when a function cannot travel to a worker process.
        :raises PlanError: when a worker process cannot import a stage's function.
        """
        self._codes = serialize_stages(self._state.plan.stages)
        if self._codes:
            self._worker_env = self._environments()
            # Items of classes of the DAG file travel, too.
            self._registered.enter_context(by_value_modules(self._stages))
            self._start()

    def _start(self) -> None:
        plan = self._state.plan
        client = ForkServerClient(
            self._codes, plan.worker_env, lambda: self._state.stop_requested.is_set, self._options()
        )
        try:
            launched, self._launched = self._launched, None
            failures = client.start(launched)
        except BaseException:
            client.close()
            raise
        for stage, failure in failures.items():
            client.close()
            if stage < 0:
                raise SetupFailed(f"a worker process cannot start: {failure.error}: {failure.message}")
            cure = f"a worker process cannot load it: {failure.error}: {failure.message}"
            raise PlanError(f"Stage({plan.stages[stage].name}).function", failure.location or "?", cure)
        with self._changed:
            self._client = client
            self._changed.notify_all()

    def _options(self) -> ForkServerOptions:
        """What the worker hooks of the plan give to the worker processes."""
        hooks = self._state.plan.worker_hooks
        if hooks.handle_request is not None and self._request_server is None:
            self._request_server = RequestServer(hooks.handle_request)
        # What a stage with variables of its own imports must see them.
        stages = [stage for stage in self._stages if stage.worker_env is None]
        preload = hooks.preload(imported_modules(stages)) if hooks.preload is not None else ()
        request_fd = None if self._request_server is None else self._request_server.fd
        return ForkServerOptions(hooks.on_start, tuple(preload), self._worker_env, request_fd, hooks.redact)

    def _environments(self) -> dict[int, list[dict[str, str]]]:
        plan = self._state.plan.stages
        return {
            number: environments(f"Stage({stage.name}).worker_env", stage.worker_env, stage.worker_range[1])
            for number, stage in enumerate(plan)
            if stage.worker_env is not None
        }

    def running(self, broken: ForkServerClient | None = None) -> ForkServerClient:
        """The running fork server; when ``broken`` is the current one, have the coordinating thread start another.

        :raises ForkServerLost: when the run is being torn down: none will come.
        """
        with self._changed:
            while True:
                if self._state.stop.is_set:
                    raise ForkServerLost("the run is being torn down")
                current = self._client
                if current is not None and current not in (broken, self._dead):
                    return current
                if current is not None and current is not self._dead:
                    # It stays the one that close() closes: the run may be over before another one is started.
                    self._dead = current
                    self._state.mailbox.put(functools.partial(self._restart, current))
                self._changed.wait()

    def _restart(self, dead: ForkServerClient) -> None:
        dead.close()
        if self._state.stop_requested.is_set:
            return  # the signal that ended the whole process group has asked the run to stop, too
        self._restarts += 1
        if self._restarts > FORK_SERVER_RESTARTS:
            text = f"the fork server died {self._restarts} times; perhaps the kernel ended it for lack of memory"
            self._state.fail(WorkersExhausted(text))
            return
        self._state.warn("the fork server died and was started again")
        try:
            self._start()
        except SetupFailed as error:
            self._state.fail(error)
        except (ForkServerLost, PlanError, OSError) as error:
            if not self._state.stop_requested.is_set:
                self._state.fail(SetupFailed(shortage(error) or str(error)))

    def interrupt(self) -> None:
        """The run is being torn down: end the fork server and its workers, wake the threads that wait for another."""
        if self._client is not None:
            self._client.close()
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """End the fork server and what belongs to it."""
        if self._client is not None:
            self._client.close()
        if self._request_server is not None:
            self._request_server.close()
        self._registered.close()
