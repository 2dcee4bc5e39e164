"""What an author may write as ``source`` and as numbers, when the DAG is parsed and when it runs."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Iterator
from typing import Any, Final

from airflow_parallel_provider.bridge import _compat
from airflow_parallel_provider.engine.interfaces.source import IterableSource, Source
from airflow_parallel_provider.engine.plan.stage import Stage
from airflow_parallel_provider.engine.plan.templates import is_template, rendered_number
from airflow_parallel_provider.errors import PlanError


class FunctionSource(IterableSource):
    """A function as source, in a form that Airflow's renderer lets alone.

    Airflow *calls* a template field that can be called, with arguments of its own, and writes a complaint into the task
    log when it cannot tell whether one is empty.
    """

    def __bool__(self) -> bool:
        return True


def is_known(value: object) -> bool:
    """Whether the value is already what the run will see: neither a template nor the output of another task."""
    return not is_template(value) and not _compat.is_upstream_value(value)


def declared_source(source: Any) -> Any:
    """Check a source when the DAG is parsed; return what the operator keeps.

    :raises PlanError: when it can be seen already that this source cannot work, or not twice.
    """
    if not is_known(source) or isinstance(source, (Source, list, dict)):
        return source
    if isinstance(source, str):
        raise PlanError("source", source, "a text is not a source of items; give a list, e.g. [text], or a template")
    if isinstance(source, type):
        raise PlanError("source", source, f"this is the class; give an instance: {source.__name__}(...)")
    if isinstance(source, Iterator) or inspect.isasyncgen(source) or inspect.iscoroutine(source):
        cure = "it can be gone through only once, and a retry needs it again: give the function, without parentheses"
        raise PlanError("source", source, cure)
    if isinstance(source, (set, frozenset)):
        cure = "a set has no order, and a retry must find the items in the same places: give sorted(...) of it"
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
        raise PlanError("source", function, 'give a plain function; coroutines belong into a Stage(kind="async")')


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
    """The source of a run, after Airflow has rendered the template fields. Main thread only: it may ask Airflow.

    :raises PlanError: when rendering gave something that is not a source.
    """
    if source is None:
        raise PlanError("source", None, "the upstream task returned nothing; have it return the list of items")
    if isinstance(source, str):
        source = _parsed(source)
    if isinstance(source, dict):
        return list(source.items())
    if type(source) is list:
        return [materialised(item) for item in source]
    return materialised(source)


def materialised(value: Any) -> Any:
    """A list in the place of a sequence that would ask Airflow for each item, from the source's own thread."""
    return list(value) if _compat.is_lazy_sequence(value) else value


def _parsed(text: str) -> Any:
    """A list or dict that was rendered to text, as Jinja does unless native rendering is on."""
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
"""Numbers of a pipeline that may be templates, and what is checked in their place as long as they are not rendered."""


def declared_numbers(task: object) -> dict[str, Any]:
    """The numbers that a task's pipeline is checked with when the DAG is parsed."""
    given = {name: getattr(task, name) for name in STAND_INS if hasattr(task, name)}
    return {name: value if is_known(value) else STAND_INS[name] for name, value in given.items()}


def rendered_numbers(task: object) -> dict[str, Any]:
    """The numbers that a task's pipeline runs with, once Airflow has rendered the template fields.

    :raises PlanError: when one of them was rendered to a text that is no number.
    """
    given = {name: getattr(task, name) for name in STAND_INS if hasattr(task, name)}
    return {name: rendered_number(name, value, optional=STAND_INS[name] is None) for name, value in given.items()}


def rendered_stages(task: Any, context: Any) -> list[Stage]:
    """The stages of a task with numbers in place of their templates. Main thread only: it may ask Airflow.

    :raises PlanError: when a template renders to what its field cannot be.
    """
    return [stage.rendered(lambda template: task.render_template(template, context)) for stage in task.stages]


def transform_stages(transform: Any) -> list[Stage]:
    """The stages of ``transform=`` of a ready operator: none, the stage given, or one of the function given."""
    if transform is None:
        return []
    return [transform if isinstance(transform, Stage) else Stage(transform)]
