# SPDX-License-Identifier: Apache-2.0
"""Environment variables of a stage's worker processes, by the index of the worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from airflow_parallel_provider.engine.plan.templates import is_template
from airflow_parallel_provider.errors import PlanError

Environment = Mapping[str, str]

WorkerEnv = Mapping[str, str | Sequence[str]] | Sequence[Environment] | Callable[[int], Environment]
"""By name a text, with ``{index}`` for the worker's index, or a list of texts; a list of such dicts, one for each
worker; or a function of the index that returns a dict. A list that is shorter than the workers begins again."""

INDEX = "{index}"

OURS = "AIRFLOW_PARALLEL_"
"""Names that begin like this belong to the fork server."""


def check_worker_env(field: str, value: Any, kind: str) -> None:
    """Check a declaration. Its values are not shown: they may be secrets.

    :raises PlanError: naming the field and, where one is wrong, the variable.
    """
    if value is None:
        return
    if kind != "process":
        cure = f'a stage with kind="{kind}" has no environment of its own, only the task\'s: use kind="process"'
        raise PlanError(field, _hidden(value), cure)
    if callable(value):
        return
    if isinstance(value, Mapping):
        _check_variables(field, value, lists=True)
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)) and value:
        for each in value:
            if not isinstance(each, Mapping):
                raise PlanError(field, _hidden(value), "give a dict for each worker")
            _check_variables(field, each, lists=False)
    else:
        cure = "give a dict of texts, a list of dicts, or a function of the worker's index that returns a dict"
        raise PlanError(field, _hidden(value), cure)


def environments(field: str, value: WorkerEnv | None, count: int) -> list[dict[str, str]]:
    """The variables of each of ``count`` workers; an empty list where none are declared.

    :raises PlanError: when a function of the index fails, or returns something else.
    """
    if value is None:
        return []
    return [_environment(field, value, index) for index in range(count)]


def _environment(field: str, value: WorkerEnv, index: int) -> dict[str, str]:
    made: Mapping[str, str | Sequence[str]]
    if callable(value):
        try:
            made = value(index)
        except Exception as error:
            raise PlanError(field, value, f"it failed for worker {index}: {type(error).__name__}: {error}") from error
        if not isinstance(made, Mapping):
            raise PlanError(field, value, f"it must return a dict of texts (for worker {index}: {_hidden(made)})")
        _check_variables(field, made, lists=False)
    else:
        made = value if isinstance(value, Mapping) else value[index % len(value)]
    texts = {name: each if isinstance(each, str) else each[index % len(each)] for name, each in made.items()}
    return {name: text.replace(INDEX, str(index)) for name, text in texts.items()}


def _check_variables(field: str, variables: Mapping[Any, Any], *, lists: bool) -> None:
    for name, value in variables.items():
        if not isinstance(name, str) or not name or not {"=", "\0"}.isdisjoint(name):
            raise PlanError(field, name, "give a text without = as the name of a variable")
        if name.startswith(OURS):
            raise PlanError(field, name, f"names that begin with {OURS} belong to the fork server")
        texts = value if lists and isinstance(value, (list, tuple)) and value else [value]
        if not all(isinstance(each, str) and "\0" not in each for each in texts):
            cure = "give a text, or a list of texts" if lists else "give a text"
            raise PlanError(f"{field}[{name!r}]", _hidden(value), cure)
        if any(map(is_template, texts)):
            raise PlanError(f"{field}[{name!r}]", _hidden(value), "templates are not rendered here; use a function")


def _hidden(value: object) -> str:
    return f"<{type(value).__name__}>"
