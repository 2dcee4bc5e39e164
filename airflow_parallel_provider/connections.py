# SPDX-License-Identifier: Apache-2.0
"""Airflow connections: looking one up, and copying one for threads that must not call Airflow."""

from __future__ import annotations

import copy
from typing import Any

from airflow_parallel_provider.errors import PlanError


def get_connection(conn_id: str, field: str) -> Any:
    """Look an Airflow connection up, as a task does. Main thread only.

    :param field: the argument that named it, for error texts.
    :raises PlanError: when there is no connection of that id.
    """
    from airflow.providers.common.compat.sdk import AirflowNotFoundException
    from airflow.sdk import BaseHook

    try:
        return BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        raise PlanError(
            field,
            conn_id,
            f"there is no such connection in Airflow: add it (airflow connections add {conn_id} ...) "
            f"or set AIRFLOW_CONN_{conn_id.upper()}",
        ) from None


def resolved_copy(connection: Any) -> Any:
    """A copy of a connection whose ``extra`` is parsed already: Airflow's own parsing reports its secrets each time."""
    from airflow.sdk import Connection as AirflowConnection

    extra = copy.deepcopy(connection.extra_dejson)

    def extra_dejson(_self: Any) -> dict[str, Any]:
        return copy.deepcopy(extra)

    kind: Any = type("ResolvedConnection", (AirflowConnection,), {"extra_dejson": property(extra_dejson)})
    parts = ("conn_id", "conn_type", "description", "host", "schema", "login", "password", "port", "extra")
    return kind(**{part: getattr(connection, part) for part in parts})
