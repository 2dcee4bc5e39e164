"""@task.parallel_pipeline: a function of the DAG file as the source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import DAG, task

from airflow_parallel_provider import ListSink, Pipeline, Stage
from airflow_parallel_provider.decorators.parallel_pipeline import CallSource, parallel_pipeline_task
from airflow_parallel_provider.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_mock import MockerFixture

pytestmark = pytest.mark.airflow


def shout(text: str) -> str:
    return f"{text}!"


def decorated(function: Callable[..., Any], *args: Any, sink: Any = None, **arguments: Any) -> Any:
    """The operator that a DAG file would get by decorating and calling ``function``."""
    settings = {"stages": [Stage(shout)], "sink": sink or ListSink(), "ordered": True, **arguments}
    kwargs = settings.pop("call", {})
    with DAG("d"):
        output: Any = parallel_pipeline_task(**settings)(function)(*args, **kwargs)
    return output.operator


def run(operator: Any, context: dict[str, Any]) -> Any:
    operator.render_template_fields(context)
    return operator.execute(context)


# -- when the DAG is parsed -----------------------------------------------------------------------


def test_airflow_finds_it_under_its_name(mocker: Any) -> None:
    @task.parallel_pipeline(stages=[Stage(shout)], sink=ListSink())
    def words() -> list[str]:
        return ["a"]

    with DAG("d"):
        output: Any = words()

    operator = output.operator
    assert operator.task_id == "words"
    assert operator.custom_operator_name == "@task.parallel_pipeline"


def test_wrong_plan_is_refused() -> None:
    with pytest.raises(PlanError, match="chunk_size=0"):
        decorated(lambda: ["a"], chunk_size=0, task_id="x")


def test_source_is_the_function_and_nothing_else() -> None:
    with pytest.raises(PlanError, match="the decorated function is the source"):
        decorated(lambda: ["a"], source=["b"], task_id="x")


def test_coroutine_function_is_refused() -> None:
    async def words() -> list[str]:
        return ["a"]

    with pytest.raises(PlanError, match="give a plain function"):
        decorated(words)


def test_missing_argument_is_airflows_own_error() -> None:
    def words(dead_letters: str) -> list[str]:
        return list(dead_letters)

    with pytest.raises(TypeError, match="letters"):
        decorated(words)


def test_parsing_does_not_call_the_function() -> None:
    def words() -> list[str]:
        raise AssertionError("called while parsing")

    decorated(words)


# -- running --------------------------------------------------------------------------------------


def test_generator_function_gets_its_arguments_and_the_context(context_of: Callable[..., dict[str, Any]]) -> None:
    def words(dead_letters: list[str], prefix: str = "-", ds: str | None = None) -> Iterator[str]:
        for letter in dead_letters:
            yield f"{prefix}{letter}{ds}"

    sink = ListSink()
    operator = decorated(words, ["a", "b"], sink=sink, call={"prefix": "{{ ds }}"})

    summary = run(operator, {**context_of(), "ds": "2013-01-31"})

    assert sink.rows == ["2013-01-31a2013-01-31!", "2013-01-31b2013-01-31!"]
    assert summary["state"] == "success"


def test_plain_function_is_called_on_the_main_thread(context_of: Callable[..., dict[str, Any]]) -> None:
    """There it may use hooks and Variables, on every version of Airflow."""
    import threading

    called_on = []

    def words() -> list[str]:
        called_on.append(threading.current_thread())
        return ["a"]

    run(decorated(words), context_of())

    assert called_on == [threading.main_thread()]


def test_sizes_are_rendered_as_those_of_the_operator(
    context_of: Callable[..., dict[str, Any]], mocker: MockerFixture
) -> None:
    ran = mocker.spy(Pipeline, "run")
    operator = decorated(
        lambda: ["a", "b"],
        task_id="letters",
        stages=[Stage(shout, workers="{{ params.workers }}")],
        chunk_size="{{ params.size }}",
        max_in_flight="{{ params.size * 3 }}",
        timeout="{{ 50 }}",
    )

    run(operator, {**context_of(), "params": {"size": 2, "workers": 3}})

    pipeline = ran.call_args.args[0]
    assert (pipeline.chunk_size, pipeline.max_in_flight, pipeline.timeout) == (2, 6, 50.0)
    assert pipeline.stages[0].workers == 3


@pytest.mark.parametrize("nothing", [None, 7, print])
def test_function_that_returns_no_items_fails_without_retry(
    nothing: Any, context_of: Callable[..., dict[str, Any]]
) -> None:
    def words() -> Any:
        return nothing

    with pytest.raises(AirflowFailException, match="source="):
        run(decorated(words), context_of())


def test_summary_is_one_value_whatever_the_function_is_said_to_return() -> None:
    """Airflow makes one XCom per key of a task whose function is annotated with a dict."""

    def words() -> dict[str, int]:
        return {"a": 1}

    assert decorated(words).multiple_outputs is False


def test_output_of_mapped_tasks_is_read_on_the_main_thread(context_of: Callable[..., dict[str, Any]]) -> None:
    """Airflow passes a sequence that asks the supervisor for each item."""
    import threading

    asked_on = set()

    class LazyXComSequence(Sequence[str]):
        __module__ = "airflow.sdk.execution_time.lazy_sequence"

        def __getitem__(self, index: Any) -> Any:
            asked_on.add(threading.current_thread())
            return ["a", "b"][index]

        def __len__(self) -> int:
            return 2

    def words(dead_letters: Sequence[str]) -> Iterator[str]:
        yield from dead_letters

    sink = ListSink()
    operator = decorated(words, [], sink=sink)
    operator.op_args = [LazyXComSequence()]

    operator.execute(context_of())

    assert sink.rows == ["a!", "b!"]
    assert asked_on == {threading.main_thread()}


def test_error_of_the_function_is_retried(context_of: Callable[..., dict[str, Any]]) -> None:
    def words() -> list[str]:
        raise ConnectionError("the listing is not there yet")

    with pytest.raises(ConnectionError, match="not there yet"):
        run(decorated(words), context_of())


# -- identity: what a retry must find again -------------------------------------------------------


def identity(function: Callable[..., Any], *args: Any) -> str:
    source = CallSource(function, args, {}, [list(args), {}])
    source.prepare()
    return source.identity()


def words_of(dead_letters: str) -> list[str]:
    return list(dead_letters)


def stream_of(dead_letters: str) -> Iterator[str]:
    yield from dead_letters


def test_same_call_is_the_same_source() -> None:
    assert identity(words_of, "abc") == identity(words_of, "abc")
    assert identity(stream_of, "abc") == identity(stream_of, "abc")


@pytest.mark.parametrize("function", [words_of, stream_of])
def test_other_arguments_are_another_source(function: Callable[..., Any]) -> None:
    assert identity(function, "abc") != identity(function, "abd")


def test_longer_list_is_another_source() -> None:
    found = ["a", "b"]
    before = identity(lambda: found)

    found.append("c")

    assert identity(lambda: found) != before


def test_arguments_without_a_stable_text_are_left_out() -> None:
    """``repr`` of an object holds its address: taken in, every retry would be refused."""

    class Client:
        pass

    assert identity(lambda client: [1], Client()) == identity(lambda client: [1], Client())


def test_length_is_known_where_a_list_came_back() -> None:
    known, unknown = (CallSource(each, ("abc",), {}, None) for each in (words_of, stream_of))
    known.prepare()
    unknown.prepare()

    assert len(known) == 3
    with pytest.raises(TypeError):
        len(unknown)
