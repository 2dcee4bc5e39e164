"""ParallelPipelineOperator: what is refused when the DAG is parsed, what is rendered, how it is stopped."""

from __future__ import annotations

import copy
import functools
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import DAG, BaseOperator

from airflow_parallel_provider import ListSink, ParallelPipelineOperator, Pipeline, Sink, SinkTable, Source, Stage
from airflow_parallel_provider.errors import NotPicklable, PlanError, RunStopped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_mock import MockerFixture

pytestmark = pytest.mark.airflow


def add_one(number: int) -> int:
    return number + 1


def add_all(numbers: list[int]) -> list[int]:
    return [number + 1 for number in numbers]


def numbers() -> Iterator[int]:
    yield from range(30)


def operator(**arguments: Any) -> ParallelPipelineOperator:
    settings = {"task_id": "score", "source": numbers, "stages": [Stage(add_one)], "sink": ListSink(), **arguments}
    return ParallelPipelineOperator(**settings)


def run(task: ParallelPipelineOperator, context: dict[str, Any]) -> dict[str, Any]:
    """Render and execute, as Airflow does."""
    context = {"params": {}, **context}
    task.render_template_fields(context)  # type: ignore[arg-type]
    return task.execute(context)  # type: ignore[arg-type]


# -- when the DAG is parsed -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        pytest.param(
            {"source": numbers()}, r"source=<generator.*give the function, without parentheses", id="generator"
        ),
        pytest.param({"source": iter([1])}, r"source=<list_iterator.*only once", id="iterator"),
        pytest.param({"source": {3, 1}}, r"source=\{1, 3\}: a set has no order.*sorted", id="set"),
        pytest.param({"source": "s3://bucket/days"}, r"source='s3://bucket/days': a text is not a source", id="text"),
        pytest.param({"source": lambda day: [day]}, r"source=.*without arguments.*functools.partial", id="arguments"),
        pytest.param({"source": Source}, r"source=.*this is a class; give an instance", id="class"),
        pytest.param({"source": 7}, r"source=7: give an iterable", id="number"),
        pytest.param({"stages": [add_one]}, r"stages\[0\]=.*Stage\(function\)", id="bare function"),
        pytest.param({"stages": Stage(add_one)}, r"stages=.*give a list", id="one stage"),
        pytest.param({"sink": ListSink}, r"sink=.*give an instance", id="sink class"),
        pytest.param({"sink": None}, r"sink=None", id="no sink"),
        pytest.param({"chunk_size": 0}, r"chunk_size=0: give a whole number", id="chunk size"),
        pytest.param({"chunk_size": "100"}, r"chunk_size='100'", id="chunk size as text"),
        pytest.param({"tolerance": -1}, r"tolerance=-1", id="tolerance"),
        pytest.param({"max_in_flight": 10}, r"max_in_flight=10.*chunk_size=1000", id="max in flight"),
        pytest.param({"timeout": 0}, r"timeout=0", id="timeout"),
        pytest.param({"load_key": "k" * 201}, r"load_key=", id="load key"),
        pytest.param({"connections": "shop"}, r"connections='shop'.*\[", id="connections"),
    ],
)
def test_wrong_plan_is_refused_with_field_value_and_cure(arguments: dict[str, Any], complaint: str) -> None:
    with pytest.raises(PlanError, match=complaint):
        operator(**arguments)


def test_coroutine_function_is_no_source() -> None:
    async def days() -> list[int]:
        return [1]

    with pytest.raises(PlanError, match="give a plain function"):
        operator(source=days)


def test_function_that_cannot_travel_is_refused_with_the_name_of_the_global() -> None:
    import threading

    lock = threading.Lock()

    def guarded(number: int) -> int:
        with lock:
            return number

    with pytest.raises(NotPicklable, match="lock"):
        operator(stages=[Stage(guarded, kind="process")])


def test_forgotten_argument_is_airflows_own_error() -> None:
    with pytest.raises(TypeError, match="sink"):
        ParallelPipelineOperator(task_id="score", source=[1], stages=[])  # type: ignore[call-arg]


def test_parsing_touches_neither_source_nor_sink(mocker: MockerFixture) -> None:
    def source() -> list[int]:
        raise AssertionError("called while parsing")

    sink = mocker.create_autospec(ListSink, instance=True)

    operator(source=source, sink=sink)

    assert sink.method_calls == []


def test_upstream_output_and_templates_are_taken_on_trust() -> None:
    with DAG("d"):
        days = BaseOperator(task_id="list_days")
        task = operator(
            source=days.output,
            stages=[Stage(add_one, workers="{{ params.workers }}")],
            chunk_size="{{ params.size }}",
            tolerance="{{ params.bad }}",
            max_in_flight="{{ params.most }}",
            timeout="{{ params.seconds }}",
            load_key="{{ ds }}",
        )

    assert task.upstream_task_ids == {"list_days"}


def test_operator_can_be_copied() -> None:
    """Airflow copies tasks, and neither locks nor generators can be copied."""
    sink = ListSink()
    task = operator(sink=sink, source=functools.partial(range, 5))

    again = copy.deepcopy(task)

    assert again.sink.rows is sink.rows  # type: ignore[attr-defined]
    assert again.stages is task.stages


# -- running --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "rows"),
    [
        pytest.param(numbers, list(range(1, 31)), id="generator function"),
        pytest.param(functools.partial(range, 3), [1, 2, 3], id="partial"),
        pytest.param(range(3), [1, 2, 3], id="range"),
        pytest.param([1, 2], [2, 3], id="list"),
        pytest.param((1, 2), [2, 3], id="tuple"),
        pytest.param([], [], id="empty list"),
        pytest.param("{{ [1, 2] }}", [2, 3], id="template"),
        pytest.param("{{ [1, 2] | tojson }}", [2, 3], id="template to json"),
    ],
)
def test_every_kind_of_source_runs(source: Any, rows: list[int], context_of: Callable[..., dict[str, Any]]) -> None:
    sink = ListSink()

    summary = run(operator(source=source, sink=sink, ordered=True), context_of())

    assert sink.rows == rows
    assert summary["state"] == "success"


def test_function_as_source_is_not_called_by_the_renderer(
    context_of: Callable[..., dict[str, Any]], mocker: MockerFixture
) -> None:
    """Airflow calls template fields that can be called, with the context and a Jinja environment."""
    calls = []

    def source(*args: Any, **kwargs: Any) -> list[int]:
        calls.append((args, kwargs))
        return [1]

    received: list[list[int]] = []
    run(operator(source=source, sink=received.append), context_of())

    assert calls == [((), {})]
    assert received == [[2]]


def test_dict_gives_its_pairs(context_of: Callable[..., dict[str, Any]]) -> None:
    sink = ListSink()

    run(operator(source={"a": 1, "b": "{{ 1 + 1 }}"}, stages=[], sink=sink, ordered=True), context_of())

    assert sink.rows == [("a", 1), ("b", "2")]


def test_numbers_are_rendered(context_of: Callable[..., dict[str, Any]]) -> None:
    context = {**context_of(), "params": {"size": 10, "bad": 0.5}}
    task = operator(chunk_size="{{ params.size }}", tolerance="{{ params.bad }}")

    summary = run(task, context)

    assert summary["chunks_committed"] == 3


def test_sizes_of_pipeline_and_stages_are_rendered(
    context_of: Callable[..., dict[str, Any]], mocker: MockerFixture
) -> None:
    ran = mocker.spy(Pipeline, "run")
    first = Stage(
        add_one,
        workers="{{ params.workers }}",
        queue_size="{{ 7 }}",
        timeout="{{ params.limit }}",
        rate_limit="{{ 1e6 }}",
    )
    second = Stage(add_all, workers=(1, "{{ params.workers }}"), batch_size="{{ params.batch }}")
    task = operator(
        stages=[first, second],
        chunk_size="{{ params.size }}",
        max_in_flight="{{ params.size * 2 }}",
        timeout="{{ params.limit }}",
    )
    numbers = {"workers": 3, "size": 10, "batch": 5, "limit": 61.5}

    summary = run(task, {**context_of(), "params": numbers})

    pipeline = ran.call_args.args[0]
    assert (pipeline.chunk_size, pipeline.max_in_flight, pipeline.timeout) == (10, 20, 61.5)
    made = pipeline.stages[0]
    assert (made.workers, made.queue_size, made.timeout, made.rate_limit) == (3, 7, 61.5, 1e6)
    assert (pipeline.stages[1].workers, pipeline.stages[1].batch_size) == ((1, 3), 5)
    assert summary["items_committed"] == 30
    assert task.stages[0].workers == "{{ params.workers }}", "mapped tasks share what the DAG file made"


def test_what_renders_to_nothing_is_as_if_left_out(
    context_of: Callable[..., dict[str, Any]], mocker: MockerFixture
) -> None:
    ran = mocker.spy(Pipeline, "run")
    stage = Stage(add_one, workers="{{ params.workers }}", timeout="{{ params.none }}", rate_limit="{{ '' }}")
    task = operator(stages=[stage], max_in_flight="{{ params.none }}", timeout="{{ params.none }}")

    run(task, {**context_of(), "params": {"none": None, "workers": "auto"}})

    pipeline = ran.call_args.args[0]
    assert (pipeline.automatic_in_flight, pipeline.timeout) == (True, None)
    made = pipeline.stages[0]
    assert (made.workers, made.timeout, made.rate_limit) == ("auto", None, None)


def test_load_key_of_the_author_is_rendered(context_of: Callable[..., dict[str, Any]]) -> None:
    context = {**context_of(), "ds": "2013-01-31"}

    assert run(operator(load_key="flights {{ ds }}"), context)["load_key"] == "flights 2013-01-31"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"source": "{{ params.get('nothing') }}"}, r"source='None': the template must render to a list"),
        ({"source": "{{ 'a,b' }}"}, r"source='a,b'.*source=list_days.output"),
        ({"chunk_size": "{{ 'many' }}"}, r"chunk_size='many': the template must render to a number"),
        ({"chunk_size": "{{ 1.5 }}"}, r"chunk_size=1.5: give a whole number"),
        ({"chunk_size": "{{ None }}"}, r"chunk_size='None': the template must render to a number"),
        ({"max_in_flight": "{{ 'all' }}"}, r"max_in_flight='all': the template must render to a number, or to nothing"),
        ({"max_in_flight": "{{ 10 }}"}, r"max_in_flight=10.*give at least chunk_size=1000"),
        ({"timeout": "{{ '1 h' }}"}, r"timeout='1 h': the template must render to a number"),
        ({"timeout": "{{ -1 }}"}, r"timeout=-1: give seconds, more than 0"),
        ({"stages": [Stage(add_one, workers="{{ 'all' }}")]}, r"Stage\(add_one\).workers='all'.*\(min, max\)"),
        ({"stages": [Stage(add_one, workers="{{ 0 }}")]}, r"Stage\(add_one\).workers=0: give"),
        ({"stages": [Stage(add_one, queue_size="{{ 1.5 }}")]}, r"Stage\(add_one\).queue_size=1.5: give a whole number"),
        ({"stages": [Stage(add_one, rate_limit="{{ 'fast' }}")]}, r"Stage\(add_one\).rate_limit='fast'.*a number"),
        ({"stages": [Stage(add_all, batch_size="{{ None }}")]}, r"Stage\(add_all\).batch_size='None'.*a number"),
        ({"stages": [Stage(add_one, memory_limit="{{ 9 }}")]}, r"Stage\(add_one\).memory_limit=9.*kind=\"process\""),
    ],
)
def test_template_that_renders_to_nonsense_fails_without_retry(
    arguments: dict[str, Any], complaint: str, context_of: Callable[..., dict[str, Any]]
) -> None:
    with pytest.raises(AirflowFailException, match=complaint):
        run(operator(**arguments), context_of())


def test_table_and_connection_are_rendered(context_of: Callable[..., dict[str, Any]]) -> None:
    sink = SinkTable("scores_{{ ds_nodash }}", conn_id="{{ params.where }}")
    task = operator(sink=sink)

    context: Any = {**context_of(), "params": {"where": "shop"}, "ds_nodash": "20130131"}

    task.render_template_fields(context)

    assert isinstance(task.sink, SinkTable)
    assert (task.sink.table, task.sink.conn_id) == ("scores_20130131", "shop")
    assert sink.table == "scores_{{ ds_nodash }}"


class TemplatedSink(Sink):
    template_fields = ("table",)

    def __init__(self, table: str) -> None:
        self.table = table


def test_mapped_tasks_render_copies_of_their_common_sink(
    context_of: Callable[..., dict[str, Any]], mocker: MockerFixture
) -> None:
    """``.partial(sink=...).expand(...)`` gives all mapped tasks the same object."""
    mocker.patch.object(Sink, "commit", return_value=0)
    sink = TemplatedSink("scores_{{ params.shard }}")
    tasks = [operator(sink=sink) for _ in range(2)]

    for shard, task in enumerate(tasks):
        run(task, {**context_of(), "params": {"shard": shard}})

    assert [task.sink.table for task in tasks] == ["scores_0", "scores_1"]  # type: ignore[attr-defined]
    assert sink.table == "scores_{{ params.shard }}"


def test_pipeline_is_made_of_what_the_author_wrote(
    context_of: Callable[..., dict[str, Any]], mocker: MockerFixture
) -> None:
    ran = mocker.spy(Pipeline, "run")
    task = operator(ordered=True, max_in_flight=4000, timeout=60, tolerance=3, chunk_size=50)

    run(task, context_of())

    pipeline = ran.call_args.args[0]
    assert (pipeline.ordered, pipeline.max_in_flight, pipeline.timeout) == (True, 4000, 60.0)
    assert (pipeline.chunk_size, pipeline.name, pipeline.attempt) == (50, "score", 1)
    assert str(pipeline.tolerance) == "3 failures"


# -- stopping -------------------------------------------------------------------------------------


def test_on_kill_makes_execute_raise(context_of: Callable[..., dict[str, Any]]) -> None:
    def source() -> Iterator[int]:
        yield 1
        task.on_kill()  # in Airflow: a signal handler, while execute goes on
        while True:
            yield 2

    task = operator(source=source, chunk_size=1)

    with pytest.raises(RunStopped, match="Airflow asked the task to end"):
        run(task, context_of())


def test_kill_before_execute_is_not_forgotten(context_of: Callable[..., dict[str, Any]]) -> None:
    task = operator()
    task.on_kill()

    with pytest.raises(RunStopped):
        run(task, context_of())


def test_on_kill_after_the_end_does_no_harm(context_of: Callable[..., dict[str, Any]]) -> None:
    """Airflow calls it after execution_timeout has left execute."""
    task = operator()
    run(task, context_of())

    task.on_kill()
