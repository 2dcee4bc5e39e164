"""Everything that differs between Airflow 3.1, 3.2 and 3.3. No other file of the package may ask for a version.

What can be found by looking is found by looking (an attribute that is there or not); a version number is compared only
where a behaviour changed under the same name.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import ModuleType

    from airflow.sdk import Context


WORKER_VARIABLES: Final = {"_AIRFLOW_PROCESS_CONTEXT": "client"}
"""Set in worker processes. A task inherits ``server`` here from its scheduler, and takes no notice; a worker would look
for connections in Airflow's database, which it may not open: on 3.1 it then finds not even those in its environment."""


TASK_RUNNER: Final = "airflow.sdk.execution_time.task_runner"
"""The module that holds the task's line to its supervisor, under the name :data:`COMMS`."""
COMMS: Final = "SUPERVISOR_COMMS"

_ASKING: Final = (TASK_RUNNER, "airflow.sdk.execution_time.supervisor", "airflow.sdk:BaseHook", "airflow.sdk:Variable")


def worth_preloading(wanted: frozenset[str]) -> tuple[str, ...]:
    """Of the modules that stages want those of Airflow, with what these import when they first ask it something.

    Importing Airflow takes seconds of CPU: once for all workers of a task, or once for each.
    """
    ours = sorted(each for each in wanted if each.partition(":")[0].partition(".")[0] == "airflow")
    return (*ours, *_ASKING) if ours else ()


def line_error_facts(error: Exception) -> tuple[Any, str]:
    """What can travel of an error that the line to the supervisor raised."""
    return getattr(error, "error", None), f"{type(error).__name__}: {error}"


def line_error(facts: tuple[Any, str]) -> Exception:
    """The error again, in a worker process."""
    from airflow.sdk.exceptions import AirflowRuntimeError

    response, text = facts
    return RuntimeError(text) if response is None else AirflowRuntimeError(error=response)


class StateStore(Protocol):
    """The part of the task state store we use."""

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
    """What Airflow raises in the main thread when ``execution_timeout`` is over."""
    from airflow.providers.common.compat.sdk import AirflowTaskTimeout

    found: type[BaseException] = AirflowTaskTimeout
    return found


def connection_text(connection: Any) -> str:
    """A connection in the form that ``AIRFLOW_CONN_<ID>`` takes; JSON where it can, a URI mangles nested extras."""
    as_json = getattr(connection, "as_json", None)
    return str(as_json() if callable(as_json) else connection.get_uri())


def masked(text: str) -> str:
    """The text with the secrets that Airflow knows of as ``***``."""
    from airflow.sdk._shared.secrets_masker import redact

    return str(redact(text))


def mask(msg: Any) -> bool:
    """When ``msg`` asks the supervisor to mask a secret, have it masked there and in this process, and say so."""
    if type(msg).__name__ != "MaskSecret":
        return False
    from airflow.sdk.log import mask_secret

    mask_secret(msg.value, msg.name)
    return True


def stats() -> Any:
    """What takes Airflow's own counters, gauges and timings; it moved twice."""
    from airflow.providers.common.compat.sdk import Stats

    return Stats


def is_asset(outlet: object) -> bool:
    """Whether an outlet is an asset itself: an alias has no event of its own."""
    from airflow.sdk import Asset

    return isinstance(outlet, Asset)


def option(section: str, name: str) -> str | None:
    """An option of Airflow's configuration as text; None where it is not set."""
    from airflow.configuration import conf

    found: str | None = conf.get(section, name, fallback=None)
    return found


def in_a_task() -> bool:
    """Whether there is a line to a supervisor that can be asked."""
    return getattr(task_runner_module(), COMMS, None) is not None


def find_connection(conn_id: str) -> Any:
    """Look a connection up as a task does, in every secrets backend."""
    from airflow.providers.common.compat.sdk import BaseHook

    return BaseHook.get_connection(conn_id)


def task_runner_module() -> ModuleType | None:
    """The module that holds the task's line to its supervisor; None outside a task."""
    return sys.modules.get(TASK_RUNNER)


def has_supervisor_process() -> bool:
    """Whether a supervisor in a process of its own looks after this task; not so in ``dags test``."""
    comms = getattr(task_runner_module(), COMMS, None)
    comms = getattr(comms, "line", comms)  # a pipeline that ran in this task before has shared it out, see .comms
    return comms is not None and not type(comms).__name__.startswith("InProcess")


def wanted_arguments(
    function: Callable[..., Any], args: Sequence[Any], available: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Of the ``available`` keyword arguments those that ``function`` asks for, beside the positional ``args``."""
    from airflow.providers.common.compat.sdk import KeywordParameters

    wanted: Mapping[str, Any] = KeywordParameters.determine(function, args, available).unpacking()
    return wanted


def is_upstream_value(value: object) -> bool:
    """Whether an argument stands for the output of another task, known only at run time."""
    from airflow.providers.common.compat.sdk import XComArg

    return isinstance(value, XComArg)


def is_lazy_sequence(value: object) -> bool:
    """Whether each access to ``value`` asks Airflow: the collected output of mapped tasks, or a map or zip over it."""
    from collections.abc import Sequence

    return isinstance(value, Sequence) and type(value).__module__.startswith(("airflow.sdk.", "airflow.models."))
