"""Metrics and spans of a run: few names, few tags, one span per stage below the task's own."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from airflow_parallel_provider import DROP, ListSink, Pipeline, Stage, StopToken
from airflow_parallel_provider.bridge.identity import RunIdentity
from airflow_parallel_provider.bridge.publishing.telemetry import GAUGES_EVERY, Telemetry
from airflow_parallel_provider.bridge.settings import Settings, capped
from airflow_parallel_provider.bridge.task_run import run_in_task
from airflow_parallel_provider.errors import PlanError, RunFailed
from tests.support.airflow_doubles import snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_mock import MockerFixture

pytestmark = pytest.mark.airflow


class Recorder:
    """Takes what Airflow's ``Stats`` takes."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, float, tuple[tuple[str, str], ...]]] = []

    def incr(self, name: str, count: int = 1, *, tags: dict[str, str]) -> None:
        self.told.append(("count", name, count, tuple(sorted(tags.items()))))

    def gauge(self, name: str, value: float, *, tags: dict[str, str]) -> None:
        self.told.append(("gauge", name, value, tuple(sorted(tags.items()))))

    def timing(self, name: str, value: float, *, tags: dict[str, str]) -> None:
        self.told.append(("timing", name, value, tuple(sorted(tags.items()))))

    def values(self, name: str, **tags: str) -> list[float]:
        return [
            value
            for _, told, value, with_tags in self.told
            if told == f"parallel_pipeline.{name}" and tags.items() <= dict(with_tags).items()
        ]


@pytest.fixture
def stats(mocker: MockerFixture) -> Recorder:
    recorder = Recorder()
    mocker.patch("airflow_parallel_provider.bridge._compat.stats", return_value=recorder)
    return recorder


@pytest.fixture
def spans(mocker: MockerFixture) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    mocker.patch("opentelemetry.trace.get_tracer_provider", return_value=provider)
    return exporter


def keep_even(number: int) -> Any:
    return DROP if number % 2 else number


def fail_at_seven(number: int) -> int:
    if number == 7:
        raise ValueError("seven")
    return number


def build(**settings: Any) -> Callable[..., Pipeline]:
    stages = [Stage(fail_at_seven, name="first", workers=2), Stage(keep_even, name="second", workers=1)]
    arguments = {"source": range(25), "stages": stages, "sink": ListSink(), "chunk_size": 10, **settings}
    return lambda **run: Pipeline(**arguments, **run)


def test_counts_are_those_of_the_report(
    context_of: Callable[..., dict[str, Any]], stats: Recorder, spans: InMemorySpanExporter
) -> None:
    run_in_task(context_of(), build(tolerance=1), StopToken())

    assert stats.values("runs", state="success") == [1]
    assert stats.values("items", fate="committed") == [13]
    assert stats.values("items", fate="filtered") == [11]
    assert stats.values("items", fate="dead_lettered") == [1]
    assert stats.values("rows") == [13]
    assert stats.values("chunks") == [3]
    assert stats.values("stage.failed", stage="first") == [1]
    assert stats.values("stage.failed", stage="second") == []
    (milliseconds,) = stats.values("duration", dag_id="flights", task_id="score")
    assert milliseconds > 0


def test_nothing_is_tagged_with_what_has_many_values(
    context_of: Callable[..., dict[str, Any]], stats: Recorder, spans: InMemorySpanExporter
) -> None:
    run_in_task(context_of(), build(tolerance=1), StopToken())

    tags = {name for *_, with_tags in stats.told for name, _ in with_tags}
    assert tags == {"dag_id", "task_id", "state", "fate", "stage"}
    assert len(stats.told) < 30


def test_one_span_for_each_stage_below_the_task_s_span(
    context_of: Callable[..., dict[str, Any]], stats: Recorder, spans: InMemorySpanExporter
) -> None:
    with trace.get_tracer_provider().get_tracer("airflow").start_as_current_span("worker.score") as of_task:
        run_in_task(context_of(), build(tolerance=1), StopToken())

    *stages, task = spans.get_finished_spans()
    assert [span.name for span in stages] == ["parallel_pipeline.stage first", "parallel_pipeline.stage second"]
    assert task.name == "worker.score"
    for span in stages:
        assert span.parent is not None
        assert span.parent.span_id == of_task.get_span_context().span_id
        assert span.attributes is not None
        assert span.attributes["airflow.task_id"] == "score"
    assert stages[0].attributes is not None
    figures = {name: stages[0].attributes[f"parallel_pipeline.{name}"] for name in ("items_in", "failed", "kind")}
    assert figures == {"items_in": 25, "failed": 1, "kind": "thread"}
    assert (stages[0].start_time or 0) < (stages[0].end_time or 0)


def test_failed_run_is_reported_as_failed(
    context_of: Callable[..., dict[str, Any]], stats: Recorder, spans: InMemorySpanExporter
) -> None:
    with pytest.raises(Exception, match="seven"):
        run_in_task(context_of(), build(), StopToken())

    assert stats.values("runs", state="failed") == [1]
    assert {span.status.status_code.name for span in spans.get_finished_spans()} == {"ERROR"}


def followed() -> Telemetry:
    """Of a run that is about to begin."""
    pipeline = Pipeline([], [Stage(keep_even, name="score")], ListSink())
    telemetry = Telemetry(pipeline, RunIdentity("flights", "run", "score", -1, 1, "g"))
    telemetry.begin()
    return telemetry


@pytest.mark.parametrize(("state", "status"), [("success", "UNSET"), ("stopped", "ERROR"), ("failed", "ERROR")])
def test_span_of_a_run_that_was_stopped_is_no_success(
    stats: Recorder, spans: InMemorySpanExporter, state: str, status: str
) -> None:
    followed().end(None, state)

    assert stats.values("runs", state=state) == [1]
    assert [span.status.status_code.name for span in spans.get_finished_spans()] == [status]


def test_spans_that_cannot_be_sent_do_not_stop_the_counts(stats: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    telemetry = followed()
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)

    telemetry.end({"items_committed": 3}, "success")

    assert stats.values("runs", state="success") == [1]
    assert stats.values("items", fate="committed") == [3]


def test_gauges_come_now_and_then(stats: Recorder) -> None:
    now = [0.0]
    pipeline = Pipeline([], [Stage(keep_even, name="score")], ListSink())
    identity = RunIdentity("flights", "run", "score", -1, 1, "g")
    telemetry = Telemetry(pipeline, identity, clock=lambda: now[0])

    for second in range(35):
        now[0] = float(second)
        telemetry.observe(snapshot(second))

    now[0] = 1000.0
    telemetry.observe({**snapshot(1000), "final": True})

    assert len(stats.values("stage.queued_items", stage="score")) == 35 // GAUGES_EVERY, "and not of what has ended"


def test_broken_monitoring_does_not_fail_the_task(
    context_of: Callable[..., dict[str, Any]], mocker: MockerFixture
) -> None:
    mocker.patch("airflow_parallel_provider.bridge._compat.stats", side_effect=OSError("no route"))
    mocker.patch("opentelemetry.trace.get_tracer", side_effect=RuntimeError("broken"))

    assert run_in_task(context_of(), build(tolerance=1), StopToken())["state"] == "success"


# -- asset outlets ------------------------------------------------------------------------------------------------


def test_row_counts_are_in_the_events_of_the_outlets(
    context_of: Callable[..., dict[str, Any]], stats: Recorder, spans: InMemorySpanExporter
) -> None:
    from airflow.sdk import Asset, AssetAlias
    from airflow.sdk.execution_time.context import OutletEventAccessors

    asset, alias, events = Asset("scores"), AssetAlias("perhaps"), OutletEventAccessors()
    events[asset].extra["rows_committed"] = "mine"
    context = context_of()
    context["ti"].task = SimpleNamespace(outlets=[asset, alias])
    context["outlet_events"] = events

    run_in_task(context, build(tolerance=1), StopToken())

    extra = events[asset].extra
    assert (extra["rows_committed"], extra["items_committed"], extra["items_dead_lettered"]) == ("mine", 13, 1)
    assert str(extra["load_key"]).startswith("flights/score/")
    assert events[alias].extra == {}, "it is the asset that was loaded"


# -- the deployment's section -------------------------------------------------------------------------------------


def with_options(monkeypatch: pytest.MonkeyPatch, **options: str) -> Settings:
    for name, value in options.items():
        monkeypatch.setenv(f"AIRFLOW__PARALLEL_PIPELINE__{name.upper()}", value)
    return Settings.read()


def test_defaults_are_those_of_the_provider_info() -> None:
    from airflow_parallel_provider.get_provider_info import get_provider_info

    options = get_provider_info()["config"]["parallel_pipeline"]["options"]
    told = Settings()
    for name in ("max_processes", "memory_limit", "push_interval", "table_url"):
        value = getattr(told, name)
        assert type(value)(options[name]["default"]) == value
    assert Settings.read() == told


def test_limits_of_the_deployment_reach_the_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = with_options(monkeypatch, max_processes="2", memory_limit="1000000000")
    mine = Pipeline([], [Stage(keep_even, kind="process", workers=1)], ListSink(), memory_limit=5)
    other = Pipeline([], [Stage(keep_even, kind="process", workers=1)], ListSink())

    settings.apply(mine)
    settings.apply(other)

    assert (mine.memory_limit, other.memory_limit) == (5, 1_000_000_000)


def test_processes_are_shared_out(mocker: MockerFixture) -> None:
    mocker.patch("airflow_parallel_provider.engine.plan.stage.usable_cpus", return_value=16, create=True)
    mocker.patch("airflow_parallel_provider.engine.resources.cpus.usable_cpus", return_value=16)
    stages = [
        Stage(keep_even, kind="process", workers=8, name="a"),
        Stage(keep_even, kind="process", workers=(1, 8), name="b"),
        Stage(keep_even, kind="thread", workers=8, name="c"),
    ]

    ranges = {stage.name: stage.worker_range for stage in capped(stages, 4)}

    assert ranges == {"a": (2, 2), "b": (1, 2), "c": (8, 8)}
    assert [stage.worker_range[1] for stage in capped(stages, 1)] == [1, 1, 8]
    assert capped(stages, 16) is stages


@pytest.mark.parametrize("wrong", ["many", "-1", "1.5"])
def test_wrong_option_is_named(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    with pytest.raises(PlanError, match=r"\[parallel_pipeline\] max_processes"):
        with_options(monkeypatch, max_processes=wrong)


def test_wrong_option_is_no_matter_for_a_retry(
    context_of: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__PARALLEL_PIPELINE__PUSH_INTERVAL", "often")

    with pytest.raises(Exception, match=r"push_interval.*a retry cannot help") as raised:
        run_in_task(context_of(), build(), StopToken())
    assert not isinstance(raised.value, RunFailed)
