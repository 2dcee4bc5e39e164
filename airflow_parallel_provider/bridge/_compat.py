# SPDX-License-Identifier: Apache-2.0
"""Everything that differs between Airflow 3.1, 3.2 and 3.3. No other file of the package may ask for a version.

Where an attribute tells the version, the code checks for the attribute. It compares a version number only where a
behavior changed under the same name.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import ModuleType

    from airflow.sdk import Context


log = logging.getLogger(__name__)

WORKER_VARIABLES: Final = {"_AIRFLOW_PROCESS_CONTEXT": "client"}
"""Set in worker processes. A task inherits ``server`` from its scheduler and ignores it. A worker would look for
connections in Airflow's database, which it may not open; on 3.1 it then does not even find those in its environment."""


TASK_RUNNER: Final = "airflow.sdk.execution_time.task_runner"
"""The module that holds the task's comms with its supervisor, under the name :data:`COMMS`."""
COMMS: Final = "SUPERVISOR_COMMS"

_REQUEST_MODULES: Final = (
    TASK_RUNNER,
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk:BaseHook",
    "airflow.sdk:Variable",
)
"""What Airflow's modules import with their first request."""


def worth_preloading(imported: frozenset[str]) -> tuple[str, ...]:
    """The Airflow modules among those that stages import, with what these import at their first request.

    Importing Airflow takes seconds of CPU: preloaded, once for all workers of a task instead of once for each.
    """
    ours = sorted(each for each in imported if each.partition(":")[0].partition(".")[0] == "airflow")
    return (*ours, *_REQUEST_MODULES) if ours else ()


def read_connections_of_environment() -> None:
    """Let a worker process without a supervisor find connections in its environment.

    Airflow 3.1 makes each of them a model of its database, which needs all others, but imports them only in processes
    that may open the database. It then hides the error behind "isn't defined". Importing them takes two seconds.
    """
    import airflow

    if airflow.__version__.startswith("3.1."):
        from airflow import models

        load: Callable[[], None] = models.import_all_models
        load()


def comms_error_facts(error: Exception) -> tuple[Any, str]:
    """The parts of an error of the supervisor comms that can be sent to a worker process."""
    return getattr(error, "error", None), f"{type(error).__name__}: {error}"


def comms_error(facts: tuple[Any, str]) -> Exception:
    """The error again, in a worker process."""
    from airflow.sdk.exceptions import AirflowRuntimeError

    response, text = facts
    return RuntimeError(text) if response is None else AirflowRuntimeError(error=response)


class StateStore(Protocol):
    """The part of the task state store that this package uses."""

    def set(self, key: str, value: Any) -> None:
        """Write or overwrite one value."""


def task_state_store(context: Context | Mapping[str, Any]) -> StateStore | None:
    """Airflow's store that survives a retry (3.3 and later); None where there is none."""
    store = context.get("task_state_store")
    return store if callable(getattr(store, "set", None)) else None


def fail_exception() -> type[Exception]:
    """The exception that fails a task without a retry; it moved from ``airflow.exceptions`` to the SDK in 3.2."""
    from airflow.providers.common.compat.sdk import AirflowFailException

    found: type[Exception] = AirflowFailException
    return found


def task_timeout() -> type[BaseException]:
    """What Airflow raises in the main thread after ``execution_timeout``."""
    from airflow.providers.common.compat.sdk import AirflowTaskTimeout

    found: type[BaseException] = AirflowTaskTimeout
    return found


def connection_text(connection: Any) -> str:
    """A connection as a value of ``AIRFLOW_CONN_<ID>``; JSON where possible, since a URI mangles nested extras."""
    as_json = getattr(connection, "as_json", None)
    return str(as_json() if callable(as_json) else connection.get_uri())


def masked(text: str) -> str:
    """The text with ``***`` in place of the secrets that Airflow knows."""
    from airflow.sdk._shared.secrets_masker import redact

    return str(redact(text))


def mask(msg: Any) -> bool:
    """Mask a secret here and in the supervisor, if ``msg`` is a request to mask one; return whether it is."""
    if type(msg).__name__ != "MaskSecret":
        return False
    from airflow.sdk.log import mask_secret

    mask_secret(msg.value, msg.name)
    return True


def stats() -> Any:
    """Airflow's interface for counters, gauges and timings; it moved twice."""
    from airflow.providers.common.compat.sdk import Stats

    return Stats


def is_asset(outlet: object) -> bool:
    """Whether an outlet is an asset itself; an alias has no event of its own."""
    from airflow.sdk import Asset

    return isinstance(outlet, Asset)


def option(section: str, name: str) -> str | None:
    """An option of Airflow's configuration as text; None where it is not set."""
    from airflow.configuration import conf

    found: str | None = conf.get(section, name, fallback=None)
    return found


def in_a_task() -> bool:
    """Whether this process can send requests to a supervisor."""
    return getattr(task_runner_module(), COMMS, None) is not None


def find_connection(conn_id: str) -> Any:
    """Look a connection up as a task does, in every secrets backend."""
    from airflow.providers.common.compat.sdk import BaseHook

    return BaseHook.get_connection(conn_id)


def task_runner_module() -> ModuleType | None:
    """The module that holds the task's comms with its supervisor; None outside a task."""
    return sys.modules.get(TASK_RUNNER)


def leave_supervisor() -> None:
    """In a process that a task has forked: forget the comms, which are the task's own.

    Airflow then looks for connections and Variables as it does outside a task.
    """
    module = task_runner_module()
    if module is not None:
        vars(module).pop(COMMS, None)


def has_supervisor_process() -> bool:
    """Whether a supervisor in its own process watches this task; in ``dags test`` there is none."""
    comms = getattr(task_runner_module(), COMMS, None)
    comms = getattr(comms, "comms", comms)  # an earlier pipeline of this task has shared them, see .shared_comms
    return comms is not None and not type(comms).__name__.startswith("InProcess")


def wanted_arguments(
    function: Callable[..., Any], args: Sequence[Any], available: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Those of the ``available`` keyword arguments that ``function`` takes, in addition to the positional ``args``."""
    from airflow.providers.common.compat.sdk import KeywordParameters

    wanted: Mapping[str, Any] = KeywordParameters.determine(function, args, available).unpacking()
    return wanted


def mapped_task_instances(ti: Any) -> int | None:
    """How many task instances a mapped task has in its run, without those of an earlier mapping; None: not known."""
    count = getattr(ti, "get_ti_count", None)
    if not callable(count):
        return None
    from airflow.sdk import TaskInstanceState

    states = ["null", *(state.value for state in TaskInstanceState if state.value != "removed")]
    try:
        found: int | None = count(dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], states=states)
    except Exception:
        log.warning("Airflow did not say how many task instances of %s are mapped", ti.task_id, exc_info=True)
        return None
    return found or None


def is_upstream_value(value: object) -> bool:
    """Whether an argument is the output of another task, known only at run time."""
    from airflow.providers.common.compat.sdk import XComArg

    return isinstance(value, XComArg)


def depend_on(task: Any, value: object) -> None:
    """Let a task run after the task whose output a value is, or holds, as Airflow does for template fields."""
    from airflow.sdk.definitions.xcom_arg import XComArg

    XComArg.apply_upstream_relationship(task, value)


def is_lazy_sequence(value: object) -> bool:
    """Whether each access to ``value`` is a request to Airflow: the output of mapped tasks, or a map or zip over it."""
    from collections.abc import Sequence

    return isinstance(value, Sequence) and type(value).__module__.startswith(("airflow.sdk.", "airflow.models."))
