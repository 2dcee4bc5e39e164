"""One try of a task around a pipeline: what is pushed, what is raised, what is returned, on every way out."""

from __future__ import annotations

import json
import math
import os
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowTaskTimeout

from airflow_parallel_provider import ListSink, Pipeline, Sink, Stage, StopToken
from airflow_parallel_provider.bridge.connections import check_connections, declared_connections
from airflow_parallel_provider.bridge.task_run import SupervisorWatch, run_in_task
from airflow_parallel_provider.errors import (
    LoadMismatch,
    PlanError,
    RunFailed,
    RunStopped,
    SinkFailed,
    ToleranceExceeded,
    WorkersExhausted,
)
from tests.support.airflow_doubles import FakeTaskInstance
from tests.support.sync import WAIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_mock import MockerFixture

    from airflow_parallel_provider.engine.interfaces.records import ChunkResult

pytestmark = pytest.mark.airflow


def add_one(number: int) -> int:
    return number + 1


def factory(**settings: Any) -> Callable[..., Pipeline]:
    arguments = {"source": range(25), "stages": [Stage(add_one)], "sink": ListSink(), "chunk_size": 10, **settings}

    def build(**run: Any) -> Pipeline:
        return Pipeline(**arguments, **run)

    return build


# -- success --------------------------------------------------------------------------------------


def test_success_returns_a_small_plain_summary(context_of: Callable[..., dict[str, Any]]) -> None:
    sink = ListSink()
    context = context_of(try_number=2)

    summary = run_in_task(context, factory(sink=sink), StopToken())

    assert sorted(sink.rows) == list(range(1, 26))
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert len(json.dumps(summary)) < 4_000
    figures = {name: summary[name] for name in ("state", "attempt", "items_read", "rows_committed", "chunks_committed")}
    assert figures == {
        "state": "success",
        "attempt": 2,
        "items_read": 25,
        "rows_committed": 25,
        "chunks_committed": 3,
    }
    assert summary["load_key"].startswith("flights/score/manual__")
    assert summary["sink"] == "ListSink"
    assert context["ti"].values("pipeline_report") == []


def test_last_live_snapshot_equals_the_report(context_of: Callable[..., dict[str, Any]]) -> None:
    context = context_of()

    summary = run_in_task(context, factory(), StopToken())

    last = context["ti"].values("pipeline_metrics")[-1]
    assert (last["final"], last["state"]) == (True, "success")
    other = ("stages", "series")  # live snapshots have figures over time of their own
    same = {name: last[name] for name in summary if name not in other}
    assert same == {name: value for name, value in summary.items() if name not in other}


def test_pipeline_knows_which_try_of_which_load_it_is(
    context_of: Callable[..., dict[str, Any]], mocker: MockerFixture
) -> None:
    build = mocker.Mock(side_effect=factory())

    run_in_task(context_of(try_number=3, map_index=4), build, StopToken(), load_key="nightly")

    given = build.call_args.kwargs
    assert given["load_key"] == given["family"] == "nightly"
    assert given["generation"]
    assert given["attempt"] == 3
    assert given["labels"]["map_index"] == "4"
    assert given["worker_env"] == {"_AIRFLOW_PROCESS_CONTEXT": "client"}


@pytest.mark.parametrize(("answer", "mapped"), [(7, 7), (RuntimeError("no such request"), None)])
def test_pipeline_knows_how_many_task_instances_are_mapped(
    context_of: Callable[..., dict[str, Any]], mocker: MockerFixture, answer: Any, mapped: int | None
) -> None:
    build = mocker.Mock(side_effect=factory())
    count = mocker.Mock(side_effect=[answer])
    context = context_of(map_index=4)
    context["ti"].get_ti_count = count

    run_in_task(context, build, StopToken())

    assert build.call_args.kwargs["mapped"] == mapped
    asked = count.call_args.kwargs
    assert (asked["dag_id"], asked["task_ids"], asked["run_ids"]) == ("flights", ["score"], [context["ti"].run_id])
    assert {"null", "running", "success"} <= set(asked["states"])
    assert "removed" not in asked["states"]


def test_task_that_is_not_mapped_asks_for_no_count(
    context_of: Callable[..., dict[str, Any]], mocker: MockerFixture
) -> None:
    build = mocker.Mock(side_effect=factory())
    context = context_of()
    context["ti"].get_ti_count = mocker.Mock(side_effect=AssertionError)

    run_in_task(context, build, StopToken())

    assert build.call_args.kwargs["mapped"] is None


def test_report_is_in_the_log(context_of: Callable[..., dict[str, Any]], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "airflow_parallel_provider"):
        run_in_task(context_of(), factory(), StopToken())

    assert any("25 items" in message and "bottleneck" in message for message in caplog.messages)


def test_summary_survives_numbers_json_cannot_hold(
    context_of: Callable[..., dict[str, Any]], mocker: MockerFixture
) -> None:
    """NaN passes xcom_push and fails the task afterwards, when all the work is done."""
    report = factory()().run()
    strange = mocker.patch.object(type(report), "as_dict", autospec=True)
    strange.return_value = {"state": "success", "seconds": math.inf, "failures": [{"sample": b"x"}], "stages": []}

    summary = run_in_task(context_of(), factory(), StopToken())

    assert (summary["seconds"], summary["failures"]) == (None, [{"sample": "b'x'"}])


# -- failure --------------------------------------------------------------------------------------


def failing(mocker: MockerFixture, error: BaseException) -> Callable[..., Pipeline]:
    mocker.patch.object(Pipeline, "run", side_effect=error)
    return factory()


def test_failed_run_leaves_its_report_and_is_retried(context_of: Callable[..., dict[str, Any]]) -> None:
    def broken(rows: list[Any]) -> None:
        raise OSError("disk full")

    context = context_of()

    with pytest.raises(SinkFailed, match="disk full"):
        run_in_task(context, factory(sink=broken), StopToken())

    (report,) = context["ti"].values("pipeline_report")
    assert report["state"] == "failed"
    assert "disk full" in report["error"]
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    last = context["ti"].values("pipeline_metrics")[-1]
    assert (last["final"], last["state"]) == (True, "failed")


@pytest.mark.parametrize("report", ["with a report", "torn down"])
def test_metrics_are_published_before_an_error_is_raised(
    context_of: Callable[..., dict[str, Any]], mocker: MockerFixture, report: str
) -> None:
    def broken(rows: list[Any]) -> None:
        raise OSError("disk full")

    if report == "torn down":
        original = Pipeline.run

        def struck(self: Pipeline, **arguments: Any) -> Any:
            original(self, **arguments)
            raise AirflowTaskTimeout("Timeout, PID: 1")

        mocker.patch.object(Pipeline, "run", struck)
    told: list[Any] = []

    with pytest.raises((SinkFailed, AirflowTaskTimeout)):
        sink = ListSink() if report == "torn down" else broken
        run_in_task(context_of(), factory(sink=sink), StopToken(), on_outcome=told.append)

    (figures,) = told
    assert (figures["state"], figures["items_read"]) == ("failed", 25)


def test_too_many_failed_items_are_not_retried(context_of: Callable[..., dict[str, Any]]) -> None:
    def refuse(number: int) -> int:
        raise ValueError(f"item {number}")

    with pytest.raises(AirflowFailException, match="ToleranceExceeded") as caught:
        run_in_task(context_of(), factory(stages=[Stage(refuse)]), StopToken())

    assert isinstance(caught.value.__cause__, ToleranceExceeded)
    assert "ValueError" in str(caught.value)


@pytest.mark.parametrize(
    ("error", "retried"),
    [
        pytest.param(WorkersExhausted("no worker left"), True, id="transient"),
        pytest.param(RunStopped("stopped", reason="asked"), True, id="stopped"),
        pytest.param(ToleranceExceeded("too many"), False, id="terminal"),
        pytest.param(PlanError("Stage.function", "f", "cannot travel"), False, id="plan"),
        pytest.param(ZeroDivisionError("a bug of ours"), True, id="anything else"),
    ],
)
def test_only_what_a_retry_may_cure_is_retried(
    error: Exception, retried: bool, context_of: Callable[..., dict[str, Any]], mocker: MockerFixture
) -> None:
    context = context_of()

    with pytest.raises(type(error) if retried else AirflowFailException):
        run_in_task(context, failing(mocker, error), StopToken())

    (last,) = context["ti"].values("pipeline_metrics")
    assert (last["final"], last["state"]) == (True, "failed")


def test_terminal_cause_behind_a_failure_is_not_retried(
    context_of: Callable[..., dict[str, Any]], mocker: MockerFixture
) -> None:
    error = SinkFailed("the sink could not be opened")
    error.__cause__ = LoadMismatch("this load was begun with chunk_size=500")

    with pytest.raises(AirflowFailException):
        run_in_task(context_of(), failing(mocker, error), StopToken())


def test_rendered_value_that_does_not_fit_is_not_retried(context_of: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(AirflowFailException, match="chunk_size=0: give a whole number"):
        run_in_task(context_of(), factory(chunk_size=0), StopToken())


def test_execution_timeout_passes_through(context_of: Callable[..., dict[str, Any]], mocker: MockerFixture) -> None:
    context = context_of()

    with pytest.raises(AirflowTaskTimeout):
        run_in_task(context, failing(mocker, AirflowTaskTimeout("Timeout, PID: 1")), StopToken())

    assert context["ti"].values("pipeline_metrics")[-1]["final"] is True


def test_refused_xcoms_do_not_hide_why_the_run_failed(context_of: Callable[..., dict[str, Any]]) -> None:
    class NoSpace(Sink):
        def commit(self, chunk: ChunkResult) -> int:
            raise OSError("disk full")

    context = context_of(refuse=ConnectionError("the API server is gone"))

    with pytest.raises(RunFailed, match="disk full"):
        run_in_task(context, factory(sink=NoSpace()), StopToken())


def test_report_of_a_failed_run_is_written_although_a_push_was_refused_just_before(
    context_of: Callable[..., dict[str, Any]],
) -> None:
    refused = threading.Event()

    class RefusesOnce(FakeTaskInstance):
        def xcom_push(self, key: str, value: Any) -> None:
            if not refused.is_set():
                refused.set()
                raise ConnectionError("the API server is gone for a moment")
            super().xcom_push(key, value)

    def fail(number: int) -> None:
        assert refused.wait(WAIT_SECONDS), "a snapshot was never pushed"
        raise LookupError("no such thing")

    context = {**context_of(), "ti": RefusesOnce()}

    with pytest.raises(AirflowFailException):
        run_in_task(context, factory(stages=[Stage(fail)]), StopToken())

    assert [key for key, _ in context["ti"].pushed] == ["pipeline_report", "pipeline_metrics"]


# -- supervisor -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("supervised", "stopped"), [(True, True), (False, False)])
def test_run_ends_when_its_supervisor_is_gone(supervised: bool, stopped: bool, mocker: MockerFixture) -> None:
    mocker.patch("airflow_parallel_provider.bridge._compat.has_supervisor_process", return_value=supervised)
    parent = mocker.patch("os.getppid", return_value=4711)
    stop = StopToken()
    watch = SupervisorWatch(stop)

    watch.check()
    assert not stop.is_set
    parent.return_value = 1
    watch.check()

    assert stop.is_set is stopped
    assert stop.reason == ("the supervisor of this task has died" if stopped else "")


# -- connections ----------------------------------------------------------------------------------


def test_connections_reach_the_workers_and_nobody_else(
    context_of: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch, mocker: MockerFixture
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", "postgres://user:pa%20ss@host:5432/shop?sslmode=require")
    build = mocker.Mock(side_effect=factory())
    before = dict(os.environ)

    run_in_task(context_of(), build, StopToken(), connections=["shop"])

    told = json.loads(build.call_args.kwargs["worker_env"]["AIRFLOW_CONN_SHOP"])
    assert (told["login"], told["password"], told["extra"]) == ("user", "pa ss", {"sslmode": "require"})
    assert dict(os.environ) == before


def test_secrets_are_in_no_xcom_and_no_log_line(
    context_of: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", "postgres://user:hush-hush@host/shop")
    context = context_of()

    with caplog.at_level("DEBUG", "airflow_parallel_provider"):
        summary = run_in_task(context, factory(), StopToken(), connections=["shop"])

    assert "hush-hush" not in f"{summary}{context['ti'].pushed}{caplog.text}"


def test_missing_connection_is_named_before_anything_starts(
    context_of: Callable[..., dict[str, Any]], mocker: MockerFixture
) -> None:
    build = mocker.Mock()

    with pytest.raises(PlanError, match=r"connections='warehous'.*AIRFLOW_CONN_WAREHOUS"):
        run_in_task(context_of(), build, StopToken(), connections=["warehous"])

    build.assert_not_called()


def test_connection_without_json_form_is_handed_over_as_uri(mocker: MockerFixture) -> None:
    old = SimpleNamespace(get_uri=lambda: "sqlite:///x.db")
    mocker.patch("airflow_parallel_provider.bridge._compat.find_connection", return_value=old)

    assert declared_connections(["old"])["old"] == "sqlite:///x.db"


@pytest.mark.parametrize("wrong", ["warehouse", None, [""], [None], ["a b"], 7, ["x" * 251]])
def test_wrong_connections_are_refused(wrong: Any) -> None:
    with pytest.raises(PlanError, match="connections="):
        check_connections(wrong)


def test_connection_named_twice_is_looked_up_once() -> None:
    assert check_connections(iter(["a", "b", "a"])) == ("a", "b")
