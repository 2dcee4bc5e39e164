# SPDX-License-Identifier: Apache-2.0
"""Airflow connections for worker processes: looked up before anything starts, passed on in memory."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airflow_parallel_provider.bridge import _compat
from airflow_parallel_provider.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_USABLE = re.compile(r"[\w.\-]{1,250}")


def check_connections(connections: object) -> tuple[str, ...]:
    """The ids as a tuple, each once.

    :raises PlanError: when it is not a collection of connection ids.
    """
    cure = 'give a list of connection ids, e.g. connections=["warehouse"]'
    if isinstance(connections, (str, bytes)) or not hasattr(connections, "__iter__"):
        raise PlanError("connections", connections, cure)
    ids = tuple(connections)
    for each in ids:
        if not isinstance(each, str) or not _USABLE.fullmatch(each):
            raise PlanError("connections", each, cure)
    return tuple(dict.fromkeys(ids))


def declared_connections(connections: Iterable[str]) -> dict[str, str]:
    """The connections by id, each as the text that ``AIRFLOW_CONN_<ID>`` takes.

    With the look-up Airflow also begins to mask their secrets in the task log, whatever code prints them.

    :raises PlanError: when a connection is not defined.
    """
    found: dict[str, str] = {}
    for conn_id in connections:
        try:
            connection = _compat.find_connection(conn_id)
        except Exception as error:
            name = f"AIRFLOW_CONN_{conn_id.upper()}"
            cure = f"Airflow cannot provide this connection ({error}); add it in Admin > Connections, or set {name}"
            raise PlanError("connections", conn_id, cure) from error
        found[conn_id] = _compat.connection_text(connection)
    return found


def worker_environment(declared: Mapping[str, str]) -> dict[str, str]:
    """Environment variables for worker processes only, which define the connections there.

    Airflow looks into ``AIRFLOW_CONN_<ID>`` first, so a hook in a worker finds them without a request to Airflow. The
    variables are never put into the environment of the task process: every child of it would inherit them, and other
    processes of the user could read them in ``/proc``.
    """
    return {
        **_compat.WORKER_VARIABLES,
        **{f"AIRFLOW_CONN_{conn_id.upper()}": text for conn_id, text in declared.items()},
    }
