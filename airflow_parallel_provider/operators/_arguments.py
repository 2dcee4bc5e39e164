# SPDX-License-Identifier: Apache-2.0
"""Checks of an operator's arguments, when the DAG is parsed, and their values once templates are rendered."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from airflow_parallel_provider.bridge import _compat
from airflow_parallel_provider.engine.interfaces.source import IterableSource, Source
from airflow_parallel_provider.engine.plan.stage import Stage
from airflow_parallel_provider.engine.plan.templates import is_template, rendered_number
from airflow_parallel_provider.errors import PlanError


class FunctionSource(IterableSource):
    """A function as source, in a form that Airflow's renderer leaves alone.

    Airflow *calls* a template field that is callable, with its own arguments, and logs a complaint when it cannot tell
    whether a field is empty.
    """

    def __bool__(self) -> bool:
        return True


def is_known(value: object) -> bool:
    """Whether the run will use the value as it is: it is neither a template nor the output of another task."""
    return not is_template(value) and not _compat.is_upstream_value(value)


def declared_source(source: Any) -> Any:
    """Check a source when the DAG is parsed; return the form of it that the operator keeps.

    :raises PlanError: for a source that cannot work, or not a second time.
    """
    if not is_known(source) or isinstance(source, (Source, list, dict)):
        return source
    if isinstance(source, str):
        raise PlanError("source", source, "a text is not a source of items; give a list, e.g. [text], or a template")
    if isinstance(source, type):
        raise PlanError("source", source, f"this is a class; give an instance: {source.__name__}(...)")
    if isinstance(source, Iterator) or inspect.isasyncgen(source) or inspect.iscoroutine(source):
        cure = "it can be iterated only once, and a retry needs it again: give the function, without parentheses"
        raise PlanError("source", source, cure)
    if isinstance(source, (set, frozenset)):
        cure = "a set has no order, and a retry must find the items in the same order: give sorted(...) of it"
        raise PlanError("source", source, cure)
    if not callable(source):
        return source
    check_function(source)
    _check_callable_without_arguments(source)
    return FunctionSource(source)


def check_function(function: Any) -> None:
    """Refuse a function that cannot be a source.

    :raises PlanError: for coroutine functions.
    """
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise PlanError("source", function, 'give a plain function; coroutines belong in a Stage(kind="async")')


def _check_callable_without_arguments(function: Any) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some built-ins have none
        return
    try:
        signature.bind()
    except TypeError as error:
        cure = f"it is called without arguments ({error}); use functools.partial, or @task.parallel_pipeline"
        raise PlanError("source", function, cure) from None


def rendered_source(source: Any) -> Any:
    """The source of a run, after Airflow has rendered the template fields. Main thread only: it may call Airflow.

    :raises PlanError: when the rendered value is not a source.
    """
    if source is None:
        raise PlanError("source", None, "the upstream task returned nothing; let it return the list of items")
    if isinstance(source, str):
        source = _parsed(source)
    if isinstance(source, dict):
        return list(source.items())
    if type(source) is list:
        return [materialized(item) for item in source]
    return materialized(source)


def materialized(value: Any) -> Any:
    """A list in place of a sequence that would request each item from Airflow, from the source's own thread."""
    return list(value) if _compat.is_lazy_sequence(value) else value


def _parsed(text: str) -> Any:
    """The list or dict in a rendered text; Jinja renders to text unless native rendering is on."""
    for parse in (json.loads, ast.literal_eval):
        try:
            value = parse(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(value, (list, tuple, dict)):
            return value
    cure = "the template must render to a list; pass the upstream task's output instead: source=list_days.output"
    raise PlanError("source", text, cure)


STAND_INS: Final[dict[str, Any]] = {"chunk_size": 1, "tolerance": 0, "max_in_flight": None, "timeout": None}
"""Numbers of a pipeline that may be templates, with the values that are checked until the templates are rendered."""


def declared_numbers(task: object) -> dict[str, Any]:
    """The numbers that a task's pipeline is checked with when the DAG is parsed."""
    given = {name: getattr(task, name) for name in STAND_INS if hasattr(task, name)}
    return {name: value if is_known(value) else STAND_INS[name] for name, value in given.items()}


def rendered_numbers(task: object) -> dict[str, Any]:
    """The numbers that a task's pipeline runs with, once Airflow has rendered the template fields.

    :raises PlanError: when one of them was rendered to a text that is not a number.
    """
    given = {name: getattr(task, name) for name in STAND_INS if hasattr(task, name)}
    return {name: rendered_number(name, value, optional=STAND_INS[name] is None) for name, value in given.items()}


def rendered_stages(task: Any, context: Any) -> list[Stage]:
    """The stages of a task with numbers in place of their templates. Main thread only: it may call Airflow.

    :raises PlanError: when a template renders to an invalid value of its field.
    """
    return [stage.rendered(lambda template: task.render_template(template, context)) for stage in task.stages]


ONE_STAGE: Final = "give one function or Stage as transform=, or take ParallelPipelineOperator for several stages"
"""What to write instead of ``stages=``."""


def refuse_set_arguments(given: Mapping[str, Any], instead: Mapping[str, str]) -> None:
    """Refuse arguments that a ready operator gives to the pipeline itself.

    :param instead: by name, what to write in its place.
    :raises PlanError: for the first of them.
    """
    for name, cure in instead.items():
        if name in given:
            raise PlanError(name, given[name], cure)


def transform_stages(transform: Any) -> list[Stage]:
    """The stages for ``transform=``: none, the given stage, or one stage with the given function."""
    if transform is None:
        return []
    return [transform if isinstance(transform, Stage) else Stage(transform)]
