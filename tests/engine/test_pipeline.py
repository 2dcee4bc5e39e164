"""Bad input of :class:`Pipeline` and of its methods: one clear error each, naming field, value and cure."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from airflow_parallel_provider import ListSink, Pipeline, PlanError, Sink, Stage, StopToken
from airflow_parallel_provider.engine.interfaces.source import Source
from airflow_parallel_provider.errors import RunFailed


def plain(item: object) -> object:
    return item


def refuses(field: str, cure: str, **options: Any) -> PlanError:
    """Declaring the pipeline must fail with an error that names the field, shows the value and tells the cure."""
    settings: dict[str, Any] = {"source": [1, 2], "stages": [Stage(plain)], "sink": ListSink()} | options
    with pytest.raises(PlanError) as caught:
        Pipeline(**settings)

    error = caught.value
    assert error.field == f"Pipeline.{field}", str(error)
    assert cure in error.cure, str(error)
    assert str(error).startswith(f"{error.field}=")
    return error


@pytest.mark.parametrize("value", [None, 7, 3.5, object()])
def test_source(value: Any) -> None:
    refuses("source", "iterable", source=value)


@pytest.mark.parametrize("value", ["a,b,c", b"abc", bytearray(b"abc")])
def test_a_text_is_no_source(value: Any) -> None:
    """It is an iterable, but its characters are never meant as items."""
    refuses("source", "a list", source=value)


def test_a_class_is_no_source() -> None:
    class Files(Source):
        pass

    refuses("source", "instance", source=Files)


@pytest.mark.parametrize("value", [None, 7, plain, Stage(plain)])
def test_stages(value: Any) -> None:
    refuses("stages", "list of Stage", stages=value)


@pytest.mark.parametrize(
    ("value", "cure"), [(plain, "Stage(function)"), (None, "Stage objects"), (("name", plain), "Stage objects")]
)
def test_one_of_the_stages(value: Any, cure: str) -> None:
    refuses("stages[1]", cure, stages=[Stage(plain), value])


@pytest.mark.parametrize("value", [7, "table", object(), []])
def test_sink(value: Any) -> None:
    refuses("sink", "Sink", sink=value)


def test_a_class_is_no_sink() -> None:
    refuses("sink", "ListSink(", sink=ListSink)


@pytest.mark.parametrize("field", ["chunk_size", "max_in_flight", "attempt", "memory_limit"])
@pytest.mark.parametrize("value", [0, -1, 2.5, "10", True])
def test_sizes(field: str, value: Any) -> None:
    refuses(field, "1 or more", **{field: value})


def test_in_flight_must_hold_a_chunk() -> None:
    error = refuses("max_in_flight", "at least chunk_size=100", chunk_size=100, max_in_flight=99)

    assert error.value == 99


@pytest.mark.parametrize("value", [-1, "1%", None, True, 1.5, -0.1, float("nan")])
def test_tolerance(value: Any) -> None:
    refuses("tolerance", "", tolerance=value)


def test_a_tolerance_above_one_is_probably_a_number_of_items() -> None:
    refuses("tolerance", "write 5", tolerance=5.0)


@pytest.mark.parametrize("value", [0, -3, "60", True, float("inf")])
def test_timeout(value: Any) -> None:
    refuses("timeout", "more than 0", timeout=value)


@pytest.mark.parametrize("value", ["", 7, "x" * 201])
def test_load_key(value: Any) -> None:
    refuses("load_key", "1 to 200 characters", load_key=value)


@pytest.mark.parametrize("field", ["labels", "worker_env"])
@pytest.mark.parametrize("value", [{"key": 3}, {3: "value"}, "key=value", ["key"]])
def test_mappings_of_texts(field: str, value: Any) -> None:
    refuses(field, "text", **{field: value})


def test_run_needs_a_sink_and_stream_must_have_none() -> None:
    with pytest.raises(PlanError, match=r"Pipeline\.sink=None.*stream"):
        Pipeline([1], [Stage(plain)]).run()
    with pytest.raises(PlanError, match=r"Pipeline\.sink=.*run"):
        Pipeline([1], [Stage(plain)], ListSink()).stream()


def test_stages_with_the_same_name_are_distinct() -> None:
    pipeline = Pipeline([1], [Stage(plain), Stage(plain), Stage(plain, name="other"), Stage(plain)], ListSink())

    names = [stage.name for stage in pipeline.stages]
    assert len(set(names)) == 4
    assert names[0] == "plain"


def test_a_name_made_up_is_not_taken_already() -> None:
    pipeline = Pipeline([1], [Stage(plain), Stage(plain, name="plain_2"), Stage(plain)], ListSink())

    assert len({stage.name for stage in pipeline.stages}) == 3


def test_an_observer_that_raises_does_not_end_the_run() -> None:
    sink = ListSink()

    def observe(snapshot: dict[str, Any]) -> None:
        raise ValueError("no screen")

    report = Pipeline(range(10), [Stage(plain)], sink).run(observe=observe, observe_every=0.001)

    assert report.state == "success"
    assert len(sink.rows) == 10


@pytest.mark.parametrize("value", [0, -1, "2"])
def test_observe_every(value: Any) -> None:
    with pytest.raises(PlanError, match="observe_every"):
        Pipeline([1], [Stage(plain)], ListSink()).run(observe=print, observe_every=value)


@pytest.mark.parametrize("value", [threading.Event(), True, "stop"])
def test_stop_must_be_a_stop_token(value: Any) -> None:
    with pytest.raises(PlanError, match="StopToken"):
        Pipeline([1], [Stage(plain)], ListSink()).run(stop=value)


def test_a_pipeline_may_run_twice() -> None:
    sink = ListSink()
    pipeline = Pipeline(range(5), [Stage(plain)], sink, ordered=True)

    first, second = pipeline.run(), pipeline.run()

    assert sink.rows == [0, 1, 2, 3, 4] * 2
    assert first.items_committed == second.items_committed == 5


def test_a_stop_token_is_not_used_up_by_a_run_that_ended() -> None:
    token = StopToken()
    pipeline = Pipeline(range(5), [Stage(plain)], ListSink())
    pipeline.run(stop=token)
    token.stop("later")

    with pytest.raises(RunFailed, match="later"):
        pipeline.run(stop=token)


def test_repr_shows_the_way() -> None:
    class Table(Sink):
        def describe(self) -> str:
            return "table flights"

    shown = repr(Pipeline([1], [Stage(plain), Stage(len)], Table(), chunk_size=7))

    assert "plain -> len -> table flights" in shown
    assert "chunk_size=7" in shown
