# SPDX-License-Identifier: Apache-2.0
"""Facts about the running task for its stages: the same in threads, worker processes and coroutines.

Imports no Airflow: a worker process that only needs the run id must not spend seconds on that import.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow.sdk import Context


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """The running try of a task, read only. Times are in UTC.

    ::

        def fetch(url):
            info = get_task_info()
            return {"url": url, "run": info.run_id, "day": info.logical_date, "depth": info.params["depth"]}
    """

    dag_id: str = ""
    task_id: str = ""
    run_id: str = ""
    map_index: int = -1
    """-1 for a task that is not mapped."""
    try_number: int = 1
    """Airflow's try number, from 1."""
    logical_date: datetime | None = None
    """None for a run that has none (triggered by hand or by an asset)."""
    data_interval_start: datetime | None = None
    data_interval_end: datetime | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    """The run's params, as plain values."""
    load_key: str = ""
    """Key of the load that this try works on."""

    @classmethod
    def from_context(cls, context: Context | Mapping[str, Any], load_key: str = "") -> Self:
        """Read it from the context that ``execute`` is given."""
        ti: Any = context["ti"]
        return cls(
            dag_id=ti.dag_id,
            task_id=ti.task_id,
            run_id=ti.run_id,
            map_index=-1 if ti.map_index is None else int(ti.map_index),
            try_number=int(ti.try_number),
            logical_date=_utc(context.get("logical_date")),
            data_interval_start=_utc(context.get("data_interval_start")),
            data_interval_end=_utc(context.get("data_interval_end")),
            params=json.loads(json.dumps(dict(context.get("params") or {}), default=str)),
            load_key=load_key,
        )

    def __post_init__(self) -> None:
        object.__setattr__(self, "params", MappingProxyType(dict(self.params)))

    def __reduce__(self) -> tuple[Any, ...]:
        # A read-only view cannot be pickled.
        values = [getattr(self, name) for name in self.__dataclass_fields__]
        return type(self), tuple(dict(value) if isinstance(value, MappingProxyType) else value for value in values)


_current: TaskInfo | None = None


def get_task_info() -> TaskInfo:
    """The task whose pipeline is running. Works in any thread of the task and in every worker process.

    :raises LookupError: outside a pipeline that runs in a task; a test uses :func:`task_info_is`.
    """
    if _current is None:
        raise LookupError("no pipeline of a task runs here; in a test use `with task_info_is(TaskInfo(...)):`")
    return _current


@contextlib.contextmanager
def task_info_is(info: TaskInfo) -> Iterator[None]:
    """Make :func:`get_task_info` return ``info`` inside the block, on every thread; for tests of stage functions."""
    global _current
    before, _current = _current, info
    try:
        yield
    finally:
        _current = before


def keep_task_info(info: TaskInfo) -> None:
    """Make :func:`get_task_info` return ``info`` from now on; for worker processes, which serve one task only."""
    global _current
    _current = info


@dataclass(frozen=True, slots=True)
class ConnectionInfo:
    """One Airflow connection. Its text shows no secret."""

    conn_id: str
    conn_type: str = ""
    host: str = ""
    login: str = ""
    password: str = field(default="", repr=False)
    schema: str = ""
    port: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)


_declared: dict[str, str] = {}
"""Connections declared for the running pipeline, as JSON by id; in the task process only."""


def get_connection_info(conn_id: str) -> ConnectionInfo:
    """A connection that the operator declares in ``connections=[...]``, without importing Airflow.

    For code that uses no Airflow hook; hooks find declared connections as usual.

    :raises LookupError: when it is not declared.
    """
    text = _declared.get(conn_id) or os.environ.get(f"AIRFLOW_CONN_{conn_id.upper()}")
    if not text or not text.lstrip().startswith("{"):
        raise LookupError(f"connection {conn_id!r} is not declared; write connections=[{conn_id!r}] in the operator")
    values = {name: value for name, value in json.loads(text).items() if value is not None}
    extra = values.get("extra", {})
    names = ("conn_type", "host", "login", "password", "schema")
    port = values.get("port")
    return ConnectionInfo(
        conn_id,
        **{name: str(values.get(name, "")) for name in names},
        port=None if port is None else int(port),
        extra=json.loads(extra) if isinstance(extra, str) and extra else extra or {},
    )


@contextlib.contextmanager
def connections_are(declared: Mapping[str, str]) -> Iterator[None]:
    """Make :func:`get_connection_info` find these connections in this process inside the block."""
    before = dict(_declared)
    _declared.update(declared)
    try:
        yield
    finally:
        _declared.clear()
        _declared.update(before)


def _utc(moment: Any) -> datetime | None:
    """A standard ``datetime``: for one of pendulum every worker would have to import pendulum."""
    return None if moment is None else datetime.fromtimestamp(moment.timestamp(), UTC)
