# SPDX-License-Identifier: Apache-2.0
"""Finds the modules that a stage's function will import when it is called, by reading its code.

What the fork server has imported, every worker process inherits at no cost; otherwise each worker process imports it
again at its first call.
"""

from __future__ import annotations

import dis
from collections.abc import Iterable, Iterator
from types import CodeType, ModuleType
from typing import Any

from airflow_parallel_provider.engine.functions.serialization import global_names
from airflow_parallel_provider.engine.plan.stage import Stage


def imported_modules(stages: Iterable[Stage]) -> frozenset[str]:
    """Modules that the functions of the stages import when they run, or that their globals come from.

    ``from package import name`` becomes ``package:name``, because a package may load its names lazily.

    Known limitation: only functions of the same file are followed. What another module imports late is not found.
    """
    found: set[str] = set()
    seen: set[int] = set()
    for stage in stages:
        for part in (stage.function, stage.setup, stage.teardown):
            for function in _functions(part):
                found.update(_imported_by(function, seen))
    return frozenset(found)


def _functions(part: Any) -> Iterator[Any]:
    """The function itself, or all methods of a stage class."""
    if hasattr(part, "process"):
        yield from vars(part if isinstance(part, type) else type(part)).values()
    else:
        yield getattr(part, "func", part)  # of a functools.partial


def _imported_by(function: Any, seen: set[int]) -> Iterator[str]:
    code = getattr(function, "__code__", None)
    if code is None or id(code) in seen:
        return
    seen.add(id(code))
    yield from _imports(code)
    scope = getattr(function, "__globals__", {})
    for name in global_names(code) & scope.keys():
        value = scope[name]
        if isinstance(value, ModuleType):
            yield value.__name__
        elif getattr(value, "__module__", None) == function.__module__:
            yield from _imported_by(value, seen)
        elif isinstance(getattr(value, "__module__", None), str):
            yield value.__module__


def _imports(code: CodeType) -> Iterator[str]:
    module = ""
    for each in dis.get_instructions(code):
        if each.opname == "IMPORT_NAME":
            module = each.argval
            yield module
        elif each.opname == "IMPORT_FROM":
            yield f"{module}:{each.argval}"
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _imports(constant)
