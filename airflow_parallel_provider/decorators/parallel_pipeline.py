# SPDX-License-Identifier: Apache-2.0
"""``@task.parallel_pipeline``: a function of the DAG file as the source of a pipeline."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
from typing import TYPE_CHECKING, Any

from airflow.sdk.bases.decorator import DecoratedOperator, task_decorator_factory

from airflow_parallel_provider.bridge import _compat
from airflow_parallel_provider.engine.interfaces.source import IterableSource, Source
from airflow_parallel_provider.errors import PlanError
from airflow_parallel_provider.operators import _arguments as arguments
from airflow_parallel_provider.operators.parallel_pipeline import ParallelPipelineOperator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from airflow.sdk import Context
    from airflow.sdk.bases.decorator import TaskDecorator

    from airflow_parallel_provider.operators.sharded import ShardedPipeline


class CallSource(Source):
    """The items that a call of a function returns or yields.

    A plain function is called once, on the task's main thread before anything starts, so it may use hooks and
    Variables freely. The body of a generator function runs on the source's thread, item by item.

    :param given: the author's arguments, without those that Airflow adds. They are part of the identity, so a retry
        with other arguments is rejected.
    """

    def __init__(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], given: object
    ) -> None:
        self._call = (function, args, kwargs)
        self._given = given
        self._items: IterableSource | None = None

    def prepare(self) -> None:
        """Call the function, unless it is a generator function.

        :raises PlanError: when it does not return items.
        """
        function, args, kwargs = self._call
        if inspect.isgeneratorfunction(function):
            self._items = IterableSource(lambda: function(*args, **kwargs))
        else:
            self._items = IterableSource(self._checked(function(*args, **kwargs)))

    def _checked(self, items: Any) -> Any:
        if items is None or callable(items):
            name = self._call[0].__qualname__
            raise PlanError("source", items, f"{name} must yield the items, or return a list of them")
        return arguments.rendered_source(items)

    def identity(self) -> str:
        """Name of the function, a digest of its arguments and, where it returned a list, the identity of the list."""
        function = self._call[0]
        parts = [f"function {function.__qualname__}", _digest(self._given)]
        if self._items is not None and not callable(self._items.origin):
            parts.append(self._items.identity())
        return " ".join(part for part in parts if part)

    def __len__(self) -> int:
        """Number of items, where the function returned a list.

        :raises TypeError: when it is not known.
        """
        if self._items is None:
            raise TypeError("the function has not been called yet")
        return len(self._items)

    def __iter__(self) -> Iterator[Any]:
        """Yield the items."""
        if self._items is None:
            self.prepare()
        assert self._items is not None
        return iter(self._items)


def _digest(given: object) -> str:
    """A short text that changes with the arguments; empty where JSON cannot represent them."""
    try:
        text = json.dumps(given, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError):
        return ""
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


class _ParallelPipelineDecoratedOperator(DecoratedOperator, ParallelPipelineOperator):
    """A :class:`ParallelPipelineOperator` whose source is the decorated function."""

    custom_operator_name: str = "@task.parallel_pipeline"
    template_fields: Sequence[str] = (
        "op_args",
        "op_kwargs",
        *(name for name in ParallelPipelineOperator.template_fields if name != "source"),
    )
    template_fields_renderers = {"op_args": "py", "op_kwargs": "py"}  # noqa: RUF012 - as the base class declares it
    shallow_copy_attrs: Sequence[str] = ("python_callable", *ParallelPipelineOperator.shallow_copy_attrs)

    def __init__(self, *, python_callable: Callable[..., Any], **kwargs: Any) -> None:
        if "source" in kwargs:
            raise PlanError("source", kwargs["source"], "the decorated function is the source; leave it out")
        arguments.check_function(python_callable)
        super().__init__(python_callable=python_callable, kwargs_to_upstream={"source": ()}, **kwargs)

    def _run_source(self, context: Context | Mapping[str, Any]) -> CallSource:
        args = [arguments.materialized(value) for value in self.op_args]
        given = {name: arguments.materialized(value) for name, value in self.op_kwargs.items()}
        kwargs = _compat.wanted_arguments(self.python_callable, args, {**context, **given})
        return CallSource(self.python_callable, args, kwargs, [args, given])

    def execute(self, context: Context) -> Any:
        """Run the pipeline and return its summary."""
        return ParallelPipelineOperator.execute(self, context)


def _sharded(python_callable: Callable[..., Any] | None, options: Mapping[str, Any]) -> Callable[..., Any]:
    """The decorator that makes a function the source of a sharded pipeline."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def make(*args: Any, **kwargs: Any) -> ShardedPipeline | _ParallelPipelineDecoratedOperator:
            call = {"python_callable": function, "op_args": args, "op_kwargs": kwargs}
            return _ParallelPipelineDecoratedOperator.sharded(**{"task_id": function.__name__, **options, **call})

        return make

    return decorate if python_callable is None else decorate(python_callable)


def parallel_pipeline_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """Make a function the source of a pipeline that runs inside one task.

    ::

        @task.parallel_pipeline(stages=[Stage(download, workers=16)], sink=SinkTable("pages", conn_id="warehouse"))
        def pages(urls, ds=None):
            for url in urls:
                yield f"{url}?day={ds}"

        pages(list_urls())

    The function takes the arguments of its call in the DAG file, also the output of other tasks, and by name the values
    of Airflow's context (``ds``, ``params``, ``ti``, ...). It yields the items or returns a list of them.

    :param kwargs: all arguments of :class:`ParallelPipelineOperator` but ``source``, and the arguments of ``@task``.
        With ``shards=8`` the call makes the task group of :meth:`ParallelPipelineOperator.sharded`, and the function is
        called in each of its shards.
    :raises PlanError: when the DAG is parsed, for every error that is visible then.
    """
    if "shards" in kwargs:
        return _sharded(python_callable, kwargs)  # type: ignore[return-value]  # a function of the DAG file's call, too
    # Airflow would infer it from the function's return type, which is not that of the task.
    kwargs.setdefault("multiple_outputs", False)
    return task_decorator_factory(
        python_callable=python_callable,
        decorated_operator_class=_ParallelPipelineDecoratedOperator,
        **kwargs,
    )
