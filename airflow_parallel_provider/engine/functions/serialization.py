# SPDX-License-Identifier: Apache-2.0
"""Pickles a stage's function for worker processes: importable functions by name, those of a DAG file by value.

Airflow imports a DAG file under a made-up module name that no other process can import, so both ``pickle`` and plain
``cloudpickle`` (which go by name) fail for its functions in a fresh process.
"""

from __future__ import annotations

import contextlib
import dis
import importlib.util
import itertools
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from types import CodeType, ModuleType
from typing import Any

from airflow_parallel_provider.engine.functions.worker_code import StageFunction
from airflow_parallel_provider.engine.plan.stage import Stage
from airflow_parallel_provider.errors import NotPicklable

_registry_lock = threading.Lock()
_users: dict[str, int] = {}


def serialize_stage(stage: Stage, *, receives_serialized: bool = False, returns_serialized: bool = False) -> bytes:
    """Pickle what a worker process needs of a stage; the flags are those of :class:`StageFunction`.

    :raises NotPicklable: naming the global that cannot be pickled, where one is found.
    """
    import cloudpickle

    function = StageFunction.of(stage, receives_serialized=receives_serialized, returns_serialized=returns_serialized)
    with by_value_modules([stage]):
        try:
            data: bytes = cloudpickle.dumps(function, protocol=5)
        except Exception as error:
            raise _explain(stage, error) from error
    return data


def serialize_stages(stages: Sequence[Stage]) -> dict[int, bytes]:
    """Pickle what worker processes need of a pipeline's process stages, by stage number.

    :raises NotPicklable: naming the function or the global that cannot travel to a worker process.
    """
    process = [stage.kind == "process" for stage in stages]
    # What ``cost`` looks at must be readable in the task process.
    passed = [
        sends.kind == reads.kind == "process" and reads.cost is None for sends, reads in itertools.pairwise(stages)
    ]
    before, after = [False, *passed], [*passed, False]
    return {
        number: serialize_stage(stage, receives_serialized=before[number], returns_serialized=after[number])
        for number, stage in enumerate(stages)
        if process[number]
    }


@contextlib.contextmanager
def by_value_modules(stages: Iterable[Stage], others: Iterable[object] = ()) -> Iterator[None]:
    """Have cloudpickle pickle by value what belongs to modules that no worker process can import.

    Its registry is global, and runs may overlap: a module is unregistered when the last run that uses it ends.

    :param others: further objects that travel: a source, a sink. Their classes and attributes are looked at.
    """
    import cloudpickle

    parts = [part for each in stages for part in (each.function, each.setup, each.teardown, each.cost, each.worker_env)]
    modules = _unimportable([*parts, *(part for other in others for part in (other, *_attributes(other)))])
    with _registry_lock:
        for module in modules:
            _users[module.__name__] = _users.get(module.__name__, 0) + 1
            cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        with _registry_lock:
            for module in modules:
                _users[module.__name__] -= 1
                if not _users[module.__name__]:
                    cloudpickle.unregister_pickle_by_value(module)


def _attributes(value: object) -> list[object]:
    return list(vars(value).values()) if hasattr(value, "__dict__") else []


def _unimportable(parts: Iterable[object]) -> list[ModuleType]:
    # Copied in one step: other threads (a sink that opens) may import meanwhile.
    names = {name for name in tuple(sys.modules) if name.startswith("unusual_prefix_")}
    for part in parts:
        name = getattr(part, "__module__", None) or getattr(type(part), "__module__", None)
        if isinstance(name, str) and name in sys.modules and not _importable(name):
            names.add(name)
    return [sys.modules[name] for name in sorted(names) if name != "__main__"]


def _importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError, AttributeError):
        return False


def _explain(stage: Stage, error: Exception) -> NotPicklable:
    field = f"Stage({stage.name}).function"
    for part in (stage.function, stage.setup, stage.teardown):
        for label, value in _all_references(part):
            problem = _problem(value)
            if problem:
                cure = (
                    f"{label} ({type(value).__name__}) cannot be sent to a worker process: {problem}. "
                    'Create it in `setup`, once per worker, or use kind="thread"'
                )
                return NotPicklable(field, stage.function, cure)
    cure = f'it cannot be sent to a worker process: {error}. Use a function of a module, or kind="thread"'
    return NotPicklable(field, stage.function, cure)


def _problem(value: Any) -> str:
    import cloudpickle

    try:
        cloudpickle.dumps(value, protocol=5)
    except Exception as error:  # noqa: BLE001 - any failure to pickle is the answer
        return str(error) or type(error).__name__
    return ""


def _all_references(part: Any) -> Iterator[tuple[str, Any]]:
    """What a function refers to; for a stage class what all its methods do, for an instance its attributes as well."""
    if not hasattr(part, "process"):
        yield from _references(part)
        return
    kind = part if isinstance(part, type) else type(part)
    for method in vars(kind).values():
        yield from _references(method)
    if kind is not part:
        for name, value in vars(part).items():
            yield f"its attribute {name!r}", value


def _references(function: Any, seen: set[int] | None = None) -> Iterator[tuple[str, Any]]:
    """Globals, closure cells and defaults of a function, and those of the functions of its module that it uses."""
    seen = set() if seen is None else seen
    code = getattr(function, "__code__", None)
    if code is None or id(function) in seen:
        return
    seen.add(id(function))
    scope = getattr(function, "__globals__", {})
    found = [(f"its global {name!r}", scope[name]) for name in sorted(global_names(code)) if name in scope]
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=False):
        with contextlib.suppress(ValueError):  # an empty cell
            found.append((f"its variable {name!r}", cell.cell_contents))
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    found += [("a default argument", value) for value in defaults]
    for label, value in found:
        if hasattr(value, "__code__"):
            if getattr(value, "__module__", None) == function.__module__:
                yield from _references(value, seen)
        elif not isinstance(value, ModuleType):
            yield label, value


def global_names(code: CodeType) -> set[str]:
    """Names of the globals and built-ins that a function's code uses, inner functions included."""
    names = {each.argval for each in dis.get_instructions(code) if each.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= global_names(constant)
    return names
