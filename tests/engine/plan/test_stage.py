"""Bad input of :class:`Stage`: one clear error each, naming field, value and cure, before anything runs."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from airflow_parallel_provider import ListSink, Pipeline, PlanError, Retry, Stage


def plain(item: object) -> object:
    return item


def numbers(item: int) -> Iterator[int]:
    yield from range(item)


async def coroutine(item: object) -> object:
    return item


async def async_generator(item: object) -> AsyncIterator[object]:
    yield item


class Worker:
    def process(self, item: object) -> object:
        return item


class AsyncWorker:
    async def process(self, item: object) -> object:
        return item


class Callable_:
    def __call__(self, item: object) -> object:
        return item


def refuses(field: str, cure: str, function: Any = plain, **options: Any) -> PlanError:
    """Declaring the stage must fail with an error that names the field, shows the value and tells the cure."""
    with pytest.raises(PlanError) as caught:
        Stage(function, **options)

    error = caught.value
    assert error.field.endswith(field), str(error)
    assert error.field.startswith("Stage")
    assert cure in error.cure, str(error)
    assert str(error).startswith(f"{error.field}=")
    return error


@pytest.mark.parametrize("value", ["threads", "Process", "", None, 3])
def test_kind(value: Any) -> None:
    error = refuses(".kind", "thread, process, async, inline", kind=value)

    assert repr(value) in str(error)


@pytest.mark.parametrize("value", [0, -1, 2.5, "2", True, (), (1,), (2, 1), (0, 3), (1, 2, 3), ("1", 2), None])
def test_workers(value: Any) -> None:
    error = refuses(".workers", '"auto"', workers=value)

    assert repr(value) in str(error)


@pytest.mark.parametrize("field", ["batch_size", "queue_size"])
@pytest.mark.parametrize("value", [0, -5, 1.5, "10", True, float("nan")])
def test_sizes(field: str, value: Any) -> None:
    refuses(f".{field}", "1 or more", **{field: value})


@pytest.mark.parametrize("value", [0, -1, "5", True, float("inf"), float("nan")])
def test_rate_limit(value: Any) -> None:
    refuses(".rate_limit", "items per second", rate_limit=value)


@pytest.mark.parametrize("field", ["worker_lifespan", "memory_limit"])
@pytest.mark.parametrize("value", [0, -1, 2.5, "5", True])
def test_limits_of_a_worker_process(field: str, value: Any) -> None:
    refuses(f".{field}", "1 or more", kind="process", **{field: value})


@pytest.mark.parametrize("field", ["worker_lifespan", "memory_limit"])
@pytest.mark.parametrize("kind", ["thread", "inline"])
def test_only_processes_have_a_lifespan_and_a_memory(field: str, kind: Any) -> None:
    refuses(f".{field}", 'kind="process"', kind=kind, **{field: 1000})


def test_a_queue_must_hold_a_batch() -> None:
    error = refuses(".queue_size", "at least 100", batch_size=100, queue_size=99)

    assert error.value == 99


@pytest.mark.parametrize("field", ["timeout", "setup_timeout"])
@pytest.mark.parametrize("value", [0, -1, "5", True, float("inf"), float("nan")])
def test_seconds(field: str, value: Any) -> None:
    refuses(f".{field}", "more than 0", **{field: value})


@pytest.mark.parametrize("value", [3, None, Retry, "3", lambda error: True])
def test_retry(value: Any) -> None:
    refuses(".retry", "Retry(3)", retry=value)


@pytest.mark.parametrize(
    ("value", "cure"),
    [
        (numbers(3), "without parentheses"),
        (async_generator(3), "without parentheses"),
        (None, "give a function"),
        (7, "give a function"),
        ("plain", "give a function"),
        ([plain], "give a function"),
        (Callable_, "`process`"),
    ],
    ids=["generator object", "async generator object", "None", "number", "text", "list", "class without process"],
)
def test_function(value: Any, cure: str) -> None:
    refuses(".function", cure, value)


def test_a_coroutine_object_is_not_a_function() -> None:
    called = coroutine(1)

    refuses(".function", "without parentheses", called)

    called.close()


@pytest.mark.parametrize(
    ("function", "options"),
    [
        (lambda: 1, {}),
        (lambda item, other: item, {}),
        (lambda item, *, key: item, {}),
        (lambda item: item, {"setup": list}),
        (lambda item, resource, third: item, {"setup": list}),
    ],
    ids=["no argument", "two without setup", "a named one", "one with setup", "three with setup"],
)
def test_arguments(function: Callable[..., Any], options: dict[str, Any]) -> None:
    refuses(".function", "must take", function, **options)


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(plain, id="function"),
        pytest.param(numbers, id="generator"),
        pytest.param(Worker, id="class"),
        pytest.param(Worker(), id="object"),
        pytest.param(Callable_(), id="callable"),
        pytest.param(functools.partial(max, 3), id="partial"),
        pytest.param(str.upper, id="method"),
        pytest.param(len, id="builtin"),
        pytest.param(lambda item, factor=3: item * factor, id="default"),
        pytest.param(lambda *items: items, id="varargs"),
    ],
)
def test_good_functions_are_taken(function: Any) -> None:
    assert Stage(function).name


@pytest.mark.parametrize("kind", ["thread", "process", "inline"])
@pytest.mark.parametrize("function", [coroutine, async_generator, AsyncWorker, AsyncWorker()])
def test_a_coroutine_function_needs_the_async_kind(function: Any, kind: Any) -> None:
    refuses(".kind", 'kind="async"', function, kind=kind)


@pytest.mark.parametrize("function", [plain, numbers, Worker])
def test_the_async_kind_needs_a_coroutine_function(function: Any) -> None:
    refuses(".function", "async def", function, kind="async")


@pytest.mark.parametrize("field", ["setup", "teardown"])
@pytest.mark.parametrize("value", [3, "open", []])
def test_setup_and_teardown_are_functions(field: str, value: Any) -> None:
    options = {"setup": list, field: value}

    refuses(f".{field}", "give a function", lambda item, resource: item, **options)


def test_teardown_needs_setup() -> None:
    refuses(".teardown", "setup=", teardown=print)


@pytest.mark.parametrize("field", ["setup", "teardown"])
def test_a_stage_class_brings_its_own_setup(field: str) -> None:
    refuses(f".{field}", "has its own", Worker, **{field: print})


@pytest.mark.parametrize("value", [7, ["name"], b"name"])
def test_name(value: Any) -> None:
    refuses(".name", "text", name=value)


def test_an_inline_stage_has_no_timeout_and_one_worker() -> None:
    refuses(".timeout", "thread", kind="inline", timeout=3)
    refuses(".workers", "one worker", kind="inline", workers=2)


def test_errors_name_the_stage_where_they_can() -> None:
    with pytest.raises(PlanError, match=r"Stage\(download\)\.batch_size=0: "):
        Stage(plain, name="download", batch_size=0)


def test_a_long_value_is_cut() -> None:
    error = refuses(".workers", '"auto"', workers=tuple(range(1000)))

    assert len(str(error)) < 400


def test_a_plan_error_is_a_value_error() -> None:
    """What a DAG author would catch without knowing this package."""
    with pytest.raises(ValueError, match="kind"):
        Stage(plain, kind="threads")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (plain, "plain"),
        (Worker, "Worker"),
        (Worker(), "Worker"),
        (functools.partial(plain), "plain"),
        (functools.partial(functools.partial(plain)), "plain"),
        (lambda item: item, "lambda"),
        (len, "len"),
    ],
)
def test_a_stage_is_named_after_its_function(function: Any, name: str) -> None:
    assert Stage(function).name == name


def test_a_stage_cannot_be_changed() -> None:
    stage = Stage(plain)

    with pytest.raises(dataclasses.FrozenInstanceError):
        stage.workers = 3  # type: ignore[misc]


def test_repr_says_where_the_function_is() -> None:
    shown = repr(Stage(plain, kind="process", workers=2, batch_size=50))

    assert shown.startswith("Stage(plain, kind='process', workers=2, batch_size=50")
    assert "test_stage.py:" in shown


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("Retry.attempts", {"attempts": 0}),
        ("Retry.attempts", {"attempts": -1}),
        ("Retry.attempts", {"attempts": 2.0}),
        ("Retry.attempts", {"attempts": True}),
        ("Retry.attempts", {"attempts": "3"}),
        ("Retry.backoff", {"backoff": -1}),
        ("Retry.backoff", {"backoff": "1"}),
        ("Retry.backoff", {"backoff": float("inf")}),
        ("Retry.max_backoff", {"max_backoff": float("nan")}),
        ("Retry.max_backoff", {"max_backoff": None}),
        ("Retry.on", {"on": 3}),
        ("Retry.on", {"on": "OSError"}),
        ("Retry.on", {"on": ()}),
        ("Retry.on", {"on": (OSError, "x")}),
        ("Retry.on", {"on": int}),
        ("Retry.on", {"on": [OSError]}),
    ],
)
def test_bad_retry(field: str, options: dict[str, Any]) -> None:
    with pytest.raises(PlanError) as caught:
        Retry(**options)

    assert caught.value.field == field
    assert caught.value.cure


@pytest.mark.parametrize("field", sorted(Stage.STAND_INS))
def test_a_template_is_declared_and_refused_where_nobody_renders_it(field: str) -> None:
    stage = Stage(plain, **{field: "{{ params.number }}"})

    assert stage.templates == (field,)
    with pytest.raises(PlanError, match=rf"{field}='{{{{ params.number }}}}'.*operator of Airflow only: give a number"):
        Pipeline([1], [stage], ListSink()).run()


def test_values_next_to_a_template_are_checked_at_once() -> None:
    refuses("timeout", "more than 0", workers="{{ params.workers }}", timeout=0)
    refuses("retry", "give a Retry", workers="{{ params.workers }}", retry=3)


def test_templates_of_a_process_stage_are_rendered_to_numbers() -> None:
    values = {"memory_limit": "{{ a }}", "worker_lifespan": "{{ b }}", "workers": ("{{ c }}", "{{ d }}")}
    stage = Stage(plain, kind="process", **values)
    numbers = {"{{ a }}": "1000000", "{{ b }}": 50, "{{ c }}": "1", "{{ d }}": " 4 "}

    made = stage.rendered(lambda given: tuple(map(numbers.get, given)) if isinstance(given, tuple) else numbers[given])

    assert (made.memory_limit, made.worker_lifespan, made.workers, made.templates) == (1_000_000, 50, (1, 4), ())
    assert made.rendered(str) is made


@pytest.mark.parametrize(("text", "workers"), [("(1, 8)", (1, 8)), ("[2, 3]", (2, 3)), (" auto ", "auto"), ("5", 5)])
def test_workers_are_rendered_from_every_way_to_write_them(text: str, workers: Any) -> None:
    assert Stage(plain, workers="{{ w }}").rendered(lambda _: text).workers == workers


@pytest.mark.parametrize("text", ["many", "1.5", "(1, 2, 3)", "True", "None", ""])
def test_workers_rendered_to_something_else(text: str) -> None:
    stage = Stage(plain, workers="{{ w }}")

    with pytest.raises(PlanError, match=r"Stage\(plain\).workers="):
        stage.rendered(lambda _: text)
