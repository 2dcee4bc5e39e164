"""A small client of Airflow's public REST API, with only the calls that the demo and the system tests need."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

FINISHED = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
"""States that a task instance or a run does not leave by itself."""


_BUSY, _PAUSES = "Database error", (0.25, 0.5, 1.0, 2.0, 4.0)
"""Text of the API server's response when SQLite was locked for too long, and seconds before each further request."""


class AirflowTimeoutError(TimeoutError):
    """Airflow did not reach the expected state in time; the text names the actual state."""


def poll(what: str, check: Callable[[], Any], timeout: float, every: float = 0.1) -> Any:
    """Call ``check`` until it returns something true, and return that.

    :param what: names the awaited condition in the error.
    :param timeout: seconds.
    :param every: seconds between two calls.
    :raises AirflowTimeoutError: after ``timeout``.
    """
    deadline = time.monotonic() + timeout
    while True:
        if found := check():
            return found
        if time.monotonic() > deadline:
            raise AirflowTimeoutError(f"{what}: not within {timeout:g} s")
        time.sleep(every)


class AirflowClient:
    """Talks to the REST API of one Airflow.

    :param base_url: where the API server listens, without ``/api/v2``.
    :param timeout: seconds one request may take.
    """

    def __init__(self, base_url: str, timeout: float = 60.0) -> None:
        self.base_url = base_url.rstrip("/")
        # trust_env off: requests to 127.0.0.1 must not go through a proxy of the environment.
        self._http = httpx.Client(base_url=self.base_url, timeout=timeout, trust_env=False)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def log_in(self) -> None:
        """Fetch a token; the simple auth manager needs no password when all users are admins."""
        response = self._http.get("/auth/token")
        response.raise_for_status()
        self._http.headers["Authorization"] = f"Bearer {response.json()['access_token']}"

    def request(self, method: str, path: str, **arguments: Any) -> Any:
        """Send one request below ``/api/v2`` and return the decoded JSON.

        It is sent again when the database was busy: such a request has changed nothing.

        :raises httpx.HTTPStatusError: for 4xx and 5xx; the text contains Airflow's own explanation.
        """
        response = self._http.request(method, f"/api/v2{path}", **arguments)
        for pause in _PAUSES:
            if response.status_code != httpx.codes.INTERNAL_SERVER_ERROR or _BUSY not in response.text:
                break
            time.sleep(pause)
            response = self._http.request(method, f"/api/v2{path}", **arguments)
        if response.is_error:
            message = f"{method} {path}: {response.status_code} {response.text[:500]}"
            raise httpx.HTTPStatusError(message, request=response.request, response=response)
        return response.json() if response.content else None

    def health(self) -> dict[str, Any]:
        """State of metadata database, scheduler and DAG processor."""
        health: dict[str, Any] = self.request("GET", "/monitor/health")
        return health

    # DAGs and runs

    def import_errors(self) -> dict[str, str]:
        """Traceback of each DAG file that could not be parsed."""
        response = self.request("GET", "/importErrors")
        return {each["filename"]: each["stack_trace"] for each in response["import_errors"]}

    def wait_for_dag(self, dag_id: str, timeout: float = 60.0) -> None:
        """Wait until the DAG processor has found the DAG.

        :raises AirflowTimeoutError: after ``timeout``; the text contains the import errors.
        """
        try:
            poll(f"DAG {dag_id}", lambda: self._find(f"/dags/{quote(dag_id)}"), timeout)
        except AirflowTimeoutError as error:
            found = "\n".join(f"{name}:\n{text}" for name, text in self.import_errors().items())
            raise AirflowTimeoutError(f"{error}; import errors: {found or 'none'}") from None

    def trigger(self, dag_id: str, *, conf: Mapping[str, Any] | None = None, run_id: str | None = None) -> str:
        """Wait for the DAG, start a run of it and return the run id."""
        self.wait_for_dag(dag_id)
        body: dict[str, Any] = {"logical_date": None, "conf": dict(conf or {})}
        if run_id is not None:
            body["dag_run_id"] = run_id
        response = self.request("POST", f"/dags/{quote(dag_id)}/dagRuns", json=body)
        return str(response["dag_run_id"])

    def run_state(self, dag_id: str, run_id: str) -> str:
        """State of a DAG run."""
        return str(self.request("GET", _run(dag_id, run_id))["state"])

    def wait_for_run(
        self, dag_id: str, run_id: str, timeout: float = 120.0, on_poll: Callable[[], object] | None = None
    ) -> str:
        """Wait until the run has ended and return its state.

        :param on_poll: called about twice a second meanwhile, e.g. to draw progress.
        """

        def over() -> str | None:
            if on_poll is not None:
                on_poll()
            state = self.run_state(dag_id, run_id)
            return state if state in FINISHED else None

        return str(poll(f"end of run {dag_id}/{run_id}", over, timeout, every=0.5 if on_poll else 0.2))

    def clear(self, dag_id: str, run_id: str, task_ids: Collection[str]) -> None:
        """Clear these tasks of a run, as the Clear button of the UI does."""
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": list(task_ids),
            "only_failed": False,
            "reset_dag_runs": True,
        }
        self.request("POST", f"/dags/{quote(dag_id)}/clearTaskInstances", json=body)

    # Task instances

    def task(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, Any]:
        """A task instance, as the REST API shows it."""
        path = f"{_task(dag_id, run_id, task_id)}/{map_index}" if map_index >= 0 else _task(dag_id, run_id, task_id)
        instance: dict[str, Any] = self.request("GET", path)
        return instance

    def mapped(self, dag_id: str, run_id: str, task_id: str) -> list[dict[str, Any]]:
        """The task instances of a mapped task, in order; none before it is expanded."""
        found = self.request("GET", f"{_run(dag_id, run_id)}/taskInstances", params={"task_id": task_id, "limit": 100})
        mapped = [each for each in found["task_instances"] if each["task_id"] == task_id and each["map_index"] >= 0]
        return sorted(mapped, key=lambda each: int(each["map_index"]))

    def wait_for_task(
        self, dag_id: str, run_id: str, task_id: str, states: Collection[str], *, timeout: float = 60.0, tries: int = 0
    ) -> dict[str, Any]:
        """Wait until the task instance is in one of ``states`` and return it.

        :param tries: also wait until its try number is at least this.
        """
        seen: dict[str, Any] = {}

        def reached() -> bool:
            seen.update(self.task(dag_id, run_id, task_id))
            return seen["state"] in states and seen["try_number"] >= tries

        try:
            poll(f"{task_id} to be one of {sorted(states)}", reached, timeout)
        except AirflowTimeoutError as error:
            raise AirflowTimeoutError(f"{error}; it is {seen['state']!r} in try {seen['try_number']}") from None
        return seen

    def set_task_state(self, dag_id: str, run_id: str, task_id: str, state: str) -> None:
        """Set the state of a task instance, as "Mark state as ..." of the UI does."""
        self.request("PATCH", _task(dag_id, run_id, task_id), json={"new_state": state})

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """Value of an XCom as the UI shows it; None when there is none."""
        path = f"{_task(dag_id, run_id, task_id)}/xcomEntries/{quote(key)}"
        found = self._find(path, params={"map_index": map_index, "stringify": "false", "deserialize": "false"})
        return None if found is None else found["value"]

    def task_state(self, dag_id: str, run_id: str, task_id: str, key: str) -> Any:
        """Value in the task state store (Airflow 3.3 and later); None when there is none."""
        found = self._find(f"{_task(dag_id, run_id, task_id)}/state-store/{quote(key)}")
        return None if found is None else found["value"]

    def log_lines(self, dag_id: str, run_id: str, task_id: str, try_number: int = 1) -> list[str]:
        """Messages in the log of one try."""
        path = f"{_task(dag_id, run_id, task_id)}/logs/{try_number}"
        response = self.request("GET", path, params={"full_content": "true"}, headers={"Accept": "application/json"})
        return list(_messages(response["content"]))

    def add_connection(self, conn_id: str, **fields: Any) -> None:
        """Create a connection in Airflow's own database."""
        self.request("POST", "/connections", json={"connection_id": conn_id, **fields})

    def add_variable(self, key: str, value: str) -> None:
        """Create a Variable."""
        self.request("POST", "/variables", json={"key": key, "value": value})

    def _find(self, path: str, **arguments: Any) -> Any:
        try:
            return self.request("GET", path, **arguments)
        except httpx.HTTPStatusError as error:
            if error.response.status_code == httpx.codes.NOT_FOUND:
                return None
            raise


def _run(dag_id: str, run_id: str) -> str:
    return f"/dags/{quote(dag_id)}/dagRuns/{quote(run_id, safe='')}"


def _task(dag_id: str, run_id: str, task_id: str) -> str:
    return f"{_run(dag_id, run_id)}/taskInstances/{quote(task_id)}"


def _messages(content: Any) -> Iterator[str]:
    for entry in content:
        yield str(entry.get("event", entry)) if isinstance(entry, dict) else str(entry)
