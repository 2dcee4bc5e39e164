# SPDX-License-Identifier: Apache-2.0
"""The declaration of a stage, and its checks."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, Literal, get_args

from airflow_parallel_provider.checks import check_positive, check_whole
from airflow_parallel_provider.engine.plan.functions import _name_of, has_process_method, is_async
from airflow_parallel_provider.engine.plan.rates import is_rate, per_second
from airflow_parallel_provider.engine.plan.retry import Retry
from airflow_parallel_provider.engine.plan.templates import Render, holds_template, rendered_number, rendered_workers
from airflow_parallel_provider.engine.plan.worker_env import WorkerEnv, check_worker_env
from airflow_parallel_provider.engine.resources import cpus
from airflow_parallel_provider.errors import PlanError
from airflow_parallel_provider.foreign.text import clean, one_line

Kind = Literal["thread", "process", "async", "inline"]

KINDS: Final = get_args(Kind)

Workers = int | tuple[int, int] | Literal["auto"]

AUTO: Final = "auto"

MOST_NAME: Final = 200
"""Characters of a stage's name: those that the table of dead letters holds."""

Template = Any
"""A text that Airflow renders to the value when the task starts, such as ``"{{ params.workers }}"``."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of a pipeline: a function with workers of its own.

    Without ``batch_size`` the function takes one item and returns one result; a generator function returns any number;
    returning :data:`DROP` filters the item. With ``batch_size=n`` it takes a list of up to n items of one chunk and
    returns any iterable of results (DROP in an item's place filters it); an Arrow table or DataFrame counts as one
    result that holds the rows of the whole batch.

    Workers share no state: each one has its own resource from ``setup``.

    In an operator the numbers may be templates, ``workers="{{ params.workers }}"``; their values are checked when the
    task starts.

    Known limitation: a thread cannot be killed. A call in a thread that exceeds ``timeout`` is given up and another
    worker takes over, but the thread goes on until the call returns; use ``kind="process"`` where that matters.
    """

    STAND_INS: ClassVar[dict[str, Any]] = {
        "workers": AUTO,
        "batch_size": 1,
        "queue_size": None,
        "timeout": None,
        "setup_timeout": 300.0,
        "rate_limit": None,
        "budget": None,
        "worker_lifespan": None,
        "memory_limit": None,
    }
    """The fields that may be templates, each with the value that is checked in its place until it is rendered."""

    function: Any
    """A function, or a class (or instance) with a ``process`` method and optional ``setup`` and ``teardown``."""
    name: str = ""
    """Shown in reports and errors; default: the function's name."""
    kind: Kind = "thread"
    """``thread`` for waiting (I/O), ``process`` for computing, ``async`` for coroutine functions, ``inline`` for small
    functions that run, one call at a time, on the thread that brings the item."""
    workers: Workers | Template = AUTO
    """Threads, processes or (async) coroutines at a time; ``(min, max)`` adapts to the load within these bounds;
    ``"auto"`` adapts up to what the machine has (processes: the CPUs of this task)."""
    batch_size: int | Template | None = None
    """Items handed to one call; None: single items."""
    queue_size: int | Template | None = None
    """Most items that wait in front of the stage; None: automatic. At least ``batch_size``."""
    timeout: float | Template | None = None
    """Seconds one call may take (one item, or one batch with ``batch_size``); None: no limit."""
    retry: Retry = field(default_factory=lambda: Retry(1))
    """How often a failed call is made again; default: not at all."""
    setup: Callable[[], Any] | None = None
    """Called once in each worker; its result is the function's second argument."""
    teardown: Callable[[Any], Any] | None = None
    """Called once at the end of each worker, with the result of ``setup``."""
    setup_timeout: float | Template = 300.0
    """Seconds ``setup`` may take before the worker is given up."""
    rate_limit: float | str | Template | None = None
    """Most items per second, or a text such as ``"600/minute"``, of all workers of the stage together; for outside
    services. They are spread evenly. A shard has its share of it. None: no limit."""
    cost: Callable[[Any], float] | None = None
    """What an item counts for ``rate_limit`` and ``budget``, a number from 0: its tokens, its bytes. None: each counts
    1. Called in the task process, for each attempt, so it should be fast."""
    budget: float | Template | None = None
    """What all calls of one try of the task may cost together, second attempts included (items, or their ``cost``). A
    call that does not fit any more ends the run: what is complete is committed, and the next try continues there, with
    a budget of its own. A shard has its share of it. None: no limit."""
    worker_lifespan: int | Template | None = None
    """Calls after which a worker process is replaced (against leaks). It goes on until its successor is ready, so it
    makes some more calls than this."""
    memory_limit: int | Template | None = None
    """Bytes of resident memory one worker process may have. A worker above it is replaced, between two calls where that
    is possible; else its running call is ended and counts as failed."""
    worker_env: WorkerEnv | None = field(default=None, hash=False)
    """Environment variables of each worker process, set before it imports the function:
    ``{"CUDA_VISIBLE_DEVICES": "{index}"}``, a list for each variable (``["0", "1"]``), a list of dicts, or a function
    of the worker's index that returns a dict. A list that is shorter than the workers begins again."""

    def __post_init__(self) -> None:
        _check_function(self)
        if not self.name:
            object.__setattr__(self, "name", one_line(_name_of(self.function), MOST_NAME))
        if not isinstance(self.name, str):
            raise PlanError("Stage.name", self.name, "give a text")
        if self.name != clean(self.name, MOST_NAME) or not {"\n", "\t"}.isdisjoint(self.name):
            cure = f"it stands in logs, tables and metrics: give one line of at most {MOST_NAME} printable characters"
            raise PlanError("Stage.name", self.name, cure)
        if self.kind not in KINDS:
            raise PlanError(f"Stage({self.name}).kind", self.kind, f"choose one of {', '.join(KINDS)}")
        check_worker_env(self._field("worker_env"), self.worker_env, self.kind)
        if not isinstance(self.retry, Retry):
            raise PlanError(self._field("retry"), self.retry, "give a Retry, e.g. Retry(3)")
        if self.cost is not None and not callable(self.cost):
            raise PlanError(self._field("cost"), self.cost, "give a function of an item that returns a number")
        if self.cost is not None and self.rate_limit is None and self.budget is None:
            raise PlanError(self._field("cost"), self.cost, "it counts for rate_limit= or budget=: give one of them")
        if self.templates:
            replace(self, cost=None, **{name: self.STAND_INS[name] for name in self.templates})  # checks all the rest
            return
        _check_sizes(self)
        _check_workers(self)
        _check_kind(self)

    def _field(self, name: str) -> str:
        return f"Stage({self.name}).{name}"

    @property
    def templates(self) -> tuple[str, ...]:
        """Names of the fields that are not rendered yet."""
        return tuple(name for name in self.STAND_INS if holds_template(getattr(self, name)))

    def rendered(self, render: Render) -> Stage:
        """The stage with values in place of its templates; the same stage where it has none.

        :param render: makes the text, or the value, of a template.
        :raises PlanError: when a value does not fit its field.
        """
        made = {name: self._rendered_field(name, render(getattr(self, name))) for name in self.templates}
        return replace(self, **made) if made else self

    def _rendered_field(self, name: str, value: Any) -> Any:
        if name == "workers":
            return rendered_workers(self._field(name), value)
        if name == "rate_limit" and is_rate(value):
            return value
        return rendered_number(self._field(name), value, optional=self.STAND_INS[name] is None)

    def share(self, of: int) -> Stage:
        """The stage in one of ``of`` shards: with its share of the rate and of the budget."""
        rate = per_second(self._field("rate_limit"), self.rate_limit)
        if rate is None and self.budget is None:
            return self
        return replace(
            self,
            rate_limit=None if rate is None else rate / of,
            budget=None if self.budget is None else self.budget / of,
        )

    def check_rendered(self) -> None:
        """Refuse to run with a template.

        :raises PlanError: naming the field.
        """
        for name in self.templates:
            cure = "templates are rendered in an operator of Airflow only: give a number"
            raise PlanError(self._field(name), getattr(self, name), cure)

    @property
    def batched(self) -> bool:
        """Whether the function takes lists."""
        return self.batch_size is not None

    @property
    def worker_range(self) -> tuple[int, int]:
        """Least and most workers on this machine.

        A number is used as it is. A range, and ``"auto"``, never gives more processes than CPUs.
        """
        if isinstance(self.workers, int):
            return self.workers, self.workers
        low, high = self.workers if isinstance(self.workers, tuple) else (1, default_workers(self.kind))
        return low, max(low, min(high, cpus.usable_cpus())) if self.kind == "process" else high

    def __repr__(self) -> str:
        """Name, kind, workers and where the function is defined."""
        parts = [self.name, f"kind={self.kind!r}", f"workers={self.workers!r}"]
        if self.batched:
            parts.append(f"batch_size={self.batch_size}")
        code = getattr(inspect.unwrap(self.function), "__code__", None)
        if code is not None:
            parts.append(f"at {code.co_filename.rsplit('/', 1)[-1]}:{code.co_firstlineno}")
        return f"Stage({', '.join(parts)})"


def _check_function(stage: Stage) -> None:
    function: Any = stage.function
    if inspect.isgenerator(function) or inspect.iscoroutine(function) or inspect.isasyncgen(function):
        cure = "this is the result of a call; give the function itself, without parentheses"
        raise PlanError("Stage.function", function, cure)
    if has_process_method(function):
        for name in ("setup", "teardown"):
            if getattr(stage, name) is not None:
                raise PlanError(f"Stage.{name}", getattr(stage, name), "a stage class has its own; leave it out")
        given = (function, "item") if isinstance(function, type) else ("item",)
        _check_arguments(stage, function.process, given, "one argument after self, the item")
        return
    if isinstance(function, type) or not callable(function):
        cure = "give a function, or a class with a `process` method"
        raise PlanError("Stage.function", function, cure)
    for name in ("setup", "teardown"):
        hook = getattr(stage, name)
        if hook is not None and not callable(hook):
            raise PlanError(f"Stage.{name}", hook, "give a function")
    if stage.teardown is not None and stage.setup is None:
        raise PlanError("Stage.teardown", stage.teardown, "it is called with the result of setup: give setup= too")
    if stage.setup is None:
        _check_arguments(stage, function, ("item",), "one argument, the item")
    else:
        _check_arguments(stage, function, ("item", "resource"), "two arguments: the item, and the result of setup")


def _check_arguments(stage: Stage, function: Any, given: tuple[object, ...], wanted: str) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some built-ins have none
        return
    try:
        signature.bind(*given)
    except TypeError as error:
        raise PlanError("Stage.function", stage.function, f"it must take {wanted} ({error})") from None


def _check_sizes(stage: Stage) -> None:
    check_whole(stage._field("batch_size"), stage.batch_size, unit="items", optional=True)
    check_whole(stage._field("queue_size"), stage.queue_size, unit="items", optional=True)
    check_positive(stage._field("timeout"), stage.timeout, optional=True)
    check_positive(stage._field("setup_timeout"), stage.setup_timeout)
    check_positive(
        stage._field("rate_limit"),
        per_second(stage._field("rate_limit"), stage.rate_limit),
        unit="items per second",
        optional=True,
    )
    check_positive(stage._field("budget"), stage.budget, unit="items, or their cost", optional=True)
    if stage.queue_size is not None and stage.batch_size is not None and stage.queue_size < stage.batch_size:
        cure = f"a batch of {stage.batch_size} items must fit: give at least {stage.batch_size}"
        raise PlanError(stage._field("queue_size"), stage.queue_size, cure)
    for name, unit in (("worker_lifespan", "calls"), ("memory_limit", "bytes")):
        value = getattr(stage, name)
        check_whole(stage._field(name), value, unit=unit, optional=True)
        if value is not None and stage.kind != "process":
            raise PlanError(stage._field(name), value, 'only worker processes can be replaced: use kind="process"')


def _check_workers(stage: Stage) -> None:
    workers = stage.workers
    cure = 'give "auto", a whole number from 1, or (min, max)'
    if isinstance(workers, list):
        workers = tuple(workers)  # JSON turns a tuple into a list
        object.__setattr__(stage, "workers", workers)
    if workers == AUTO:
        return
    bounds = workers if isinstance(workers, tuple) else (workers, workers)
    whole = len(bounds) == 2 and all(isinstance(each, int) and not isinstance(each, bool) for each in bounds)
    if not whole or not 1 <= bounds[0] <= bounds[1]:
        raise PlanError(stage._field("workers"), stage.workers, cure)


def _check_kind(stage: Stage) -> None:
    function: Any = stage.function
    asynchronous = is_async(function.process if has_process_method(function) else function)
    if asynchronous and stage.kind != "async":
        raise PlanError(stage._field("kind"), stage.kind, 'the function is a coroutine function: use kind="async"')
    if stage.kind == "async" and not asynchronous:
        raise PlanError(stage._field("function"), function, 'kind="async" needs an `async def` function')
    if stage.kind != "inline":
        return
    if stage.timeout is not None:
        cure = 'an inline call cannot be interrupted: use kind="thread" or kind="process", or leave it out'
        raise PlanError(stage._field("timeout"), stage.timeout, cure)
    if stage.rate_limit is not None:
        cure = 'an inline stage has no queue to wait in: use kind="thread", or leave it out'
        raise PlanError(stage._field("rate_limit"), stage.rate_limit, cure)
    if stage.budget is not None:
        cure = 'an inline stage has no queue to stop: use kind="thread", or leave it out'
        raise PlanError(stage._field("budget"), stage.budget, cure)
    if stage.workers not in (AUTO, 1, (1, 1)):
        raise PlanError(stage._field("workers"), stage.workers, "an inline stage has one worker; leave it out")


DEFAULT_THREADS = 32
"""Most threads of a stage with ``workers="auto"``: enough to hide waiting, without flooding an outside service."""

DEFAULT_COROUTINES = 100
"""Coroutines of an async stage with ``workers="auto"``."""


def default_workers(kind: str) -> int:
    """Most workers of a stage of this kind with ``workers="auto"``."""
    if kind == "process":
        return cpus.usable_cpus()
    return {"thread": DEFAULT_THREADS, "async": DEFAULT_COROUTINES}.get(kind, 1)
