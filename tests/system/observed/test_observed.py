"""What others see of a run: metrics and spans by OTLP, lineage by HTTP; and a run whose line to Airflow is slow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from dev.airflow_client import poll
from tests.support.services import missing
from tests.system.conftest import seconds_until_gone
from tests.system.observed.observed_airflow import POSTGRES, Observed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.conftest import Run

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]  # the first test also waits for Airflow to start

ORDERS, DEAD_LETTERS = 200, 4
COLUMNS = [("id", "int"), ("price", "int"), ("pid", "int")]
STOP_BUDGET = 5.0


@pytest.fixture(scope="module")
def schema() -> Iterator[str]:
    """A schema of our own on the PostgreSQL server, with a table of orders."""
    psycopg = pytest.importorskip("psycopg")
    try:
        server = psycopg.connect(POSTGRES, autocommit=True)
    except psycopg.OperationalError:
        missing("no PostgreSQL answers; say where it is with PARALLEL_TESTS_POSTGRES_URL")
    name = f"observed_{uuid4().hex[:12]}"
    with server:
        server.execute(f"CREATE SCHEMA {name}")
        server.execute(f"CREATE TABLE {name}.orders (id bigint PRIMARY KEY, price bigint NOT NULL)")
        server.execute(f"INSERT INTO {name}.orders SELECT n, n * 10 FROM generate_series(0, {ORDERS - 1}) n")
        try:
            yield name
        finally:
            server.execute(f"DROP SCHEMA {name} CASCADE")


@pytest.fixture
def site(observed: Observed) -> Iterator[Observed]:
    """The Airflow with the gate closed; afterwards no worker of the test's run is left running."""
    observed.gate.unlink(missing_ok=True)
    yield observed
    observed.gate.touch()
    poll("the end of all workers", lambda: not observed.workers(), timeout=120)


@pytest.fixture(scope="module")
def succeeded(observed: Observed, schema: str) -> Run:
    run = observed.start("observed", schema=schema)
    assert observed.client.wait_for_run(run.dag_id, run.run_id, timeout=400) == "success"
    told(observed, "observed", "COMPLETE")
    return run


@pytest.fixture(scope="module")
def failed(observed: Observed, schema: str, succeeded: Run) -> Run:
    """After the other one, so that the table is there and both do not share two cores."""
    run = observed.start("observed_failing", schema=schema)
    assert observed.client.wait_for_run(run.dag_id, run.run_id, timeout=400) == "failed"
    told(observed, "observed_failing", "FAIL")
    return run


def told(site: Observed, dag_id: str, kind: str) -> None:
    """Wait until the end of a run was reported: Airflow knows the state of a task before its listeners hear of it."""
    poll(f"the event {kind}", lambda: site.lineage.events(f"{dag_id}.pipeline", kind), timeout=180)


# -- OpenTelemetry ----------------------------------------------------------------------------------------------------


@pytest.fixture
def last_metrics(site: Observed) -> None:
    if not site.keeps_states:
        pytest.skip("before Airflow 3.3 a task's last metrics reach OpenTelemetry twice, or not at all")


@pytest.fixture
def observed_tasks(site: Observed) -> None:
    if not site.observes_tasks:
        pytest.skip("Airflow 3.1 gives tasks no tracer, and lets their last metrics for OpenTelemetry go")


def test_metrics_of_a_run_reach_the_collector(last_metrics: None, succeeded: Run, site: Observed) -> None:
    ours = {"dag_id": "observed", "task_id": "pipeline"}
    name = "airflow.parallel_pipeline"
    points = poll("the metrics", lambda: site.collector.points(f"{name}.runs", **ours), timeout=120)

    assert [(each.kind, each.value, each.tags) for each in points] == [("sum", 1, {**ours, "state": "success"})]
    report = succeeded.xcom()
    told = {each.tags.get("fate") or each.name: each for each in site.collector.points(name, **ours)}
    assert told["committed"].value == report["items_committed"] == ORDERS - DEAD_LETTERS
    assert told["dead_lettered"].value == DEAD_LETTERS
    assert told[f"{name}.rows"].value == report["rows_committed"]
    assert told[f"{name}.chunks"].value == report["chunks_committed"] == ORDERS / 20
    duration = told[f"{name}.duration"]
    assert "histogram" in duration.kind
    assert duration.value == pytest.approx(1000 * report["seconds"], abs=1)
    (failures,) = site.collector.points(f"{name}.stage.failed", **ours)
    assert (failures.value, failures.tags["stage"]) == (DEAD_LETTERS, "check")
    busy = site.collector.points(f"{name}.stage.busy_fraction", **ours)
    assert {each.tags["stage"]: each.value for each in busy if each.value} == {
        stage["name"]: stage["busy_fraction"] for stage in report["stages"] if stage["busy_fraction"]
    }


def test_failed_run_is_a_metric_too(last_metrics: None, failed: Run, site: Observed) -> None:
    name = "airflow.parallel_pipeline"
    (run,) = poll("it", lambda: site.collector.points(f"{name}.runs", dag_id="observed_failing"), timeout=120)

    assert (run.value, run.tags["state"]) == (1, "failed")


def test_attributes_have_few_values(observed_tasks: None, succeeded: Run, failed: Run, site: Observed) -> None:
    """Whatever runs: no run id, no item, no worker, no message."""
    runs = ("observed", "observed_failing")
    points = [each for dag in runs for each in site.collector.points("airflow.parallel_pipeline", dag_id=dag)]

    assert {name for each in points for name in each.tags} == {"dag_id", "task_id", "state", "fate", "stage"}
    assert {each.tags["stage"] for each in points if "stage" in each.tags} == {"check", "doubled"}
    assert "manual__" not in repr(points)


def test_one_span_for_each_stage_below_the_span_of_the_task(
    observed_tasks: None, succeeded: Run, site: Observed
) -> None:
    ours = {"airflow__dag_id": "observed"}
    (task,) = poll("the task's span", lambda: site.collector.spans("worker.pipeline", **ours), timeout=120)
    stages = site.collector.spans("parallel_pipeline.stage", **ours)

    assert sorted(each.name for each in stages) == ["parallel_pipeline.stage check", "parallel_pipeline.stage doubled"]
    assert {(each.trace, each.parent) for each in stages} == {(task.trace, task.id)}
    assert all(0 < each.seconds <= task.seconds and each.error is None for each in stages)
    figures = {each.attributes["parallel_pipeline.stage"]: each.attributes for each in stages}
    assert figures["check"]["parallel_pipeline.failed"] == DEAD_LETTERS
    assert figures["doubled"]["parallel_pipeline.items_out"] == ORDERS - DEAD_LETTERS
    assert figures["doubled"]["parallel_pipeline.kind"] == "process"


def test_spans_of_a_failed_run_are_errors(observed_tasks: None, failed: Run, site: Observed) -> None:
    ours = {"airflow__dag_id": "observed_failing"}
    poll("the task's span", lambda: site.collector.spans("worker.pipeline", **ours), timeout=120)

    assert [each.error for each in site.collector.spans("parallel_pipeline.stage", **ours)] == ["failed", "failed"]


# -- OpenLineage ------------------------------------------------------------------------------------------------------


def table(dataset: dict[str, Any]) -> str:
    assert dataset["namespace"].startswith("postgres://")
    return dataset["name"].partition(".")[2]


def rows(dataset: dict[str, Any]) -> int:
    return dataset["outputFacets"]["outputStatistics"]["rowCount"]


def test_lineage_of_a_run(succeeded: Run, site: Observed, schema: str) -> None:
    events = site.lineage.events("observed.pipeline")
    assert [each["eventType"] for each in events] == ["START", "COMPLETE"]
    event = events[-1]
    report = succeeded.xcom()

    (source,) = event["inputs"]
    assert table(source) == f"{schema}.orders"
    assert [each["name"] for each in source["facets"]["schema"]["fields"]] == ["id", "price"]

    scores, dead_letters = event["outputs"]
    assert table(scores) == f"{schema}.doubled_orders"
    assert [(each["name"], each["type"]) for each in scores["facets"]["schema"]["fields"]] == COLUMNS
    assert rows(scores) == report["rows_committed"] == ORDERS - DEAD_LETTERS
    assert table(dead_letters) == f"{schema}.doubled_orders__dead_letters"
    assert rows(dead_letters) == DEAD_LETTERS

    facet = event["run"]["facets"]["parallelPipeline"]
    assert facet["state"] == "success"
    assert facet["counts"] == {name: report[name] for name in facet["counts"]}
    assert facet["failures"] == [{"stage": "check", "cause": report["failures"][0]["cause"], "count": DEAD_LETTERS}]
    assert facet["_schemaURL"].startswith("https://")


def test_each_table_is_reported_once(succeeded: Run, failed: Run, site: Observed) -> None:
    """Not once per chunk, and not once per SQL statement of the backend."""
    for job in ("observed.pipeline", "observed_failing.pipeline"):
        told = [table(each) for event in site.lineage.events(job) for each in event["inputs"] + event["outputs"]]
        assert len(told) == len(set(told)) == 3, job
    assert not [each for each in site.lineage.jobs() if "query" in each]


def test_lineage_of_a_failed_run_says_what_is_in(failed: Run, site: Observed, schema: str) -> None:
    (event,) = site.lineage.events("observed_failing.pipeline", "FAIL")
    report = failed.xcom("pipeline_report")

    scores, dead_letters = event["outputs"]
    assert table(scores) == f"{schema}.doubled_orders"
    assert rows(scores) == report["rows_committed"] > 0
    assert rows(dead_letters) == report["items_dead_lettered"] > 0
    facet = event["run"]["facets"]["parallelPipeline"]
    assert facet["state"] == "failed"
    assert facet["counts"] == {name: report[name] for name in facet["counts"]}
    assert facet["failures"][0]["stage"] == "check"
    assert "no price" in event["run"]["facets"]["errorMessage"]["message"]


# -- a slow API server ------------------------------------------------------------------------------------------------


@pytest.mark.slow  # the next one waits for the same answers
def test_evicted_task_stops_in_time_though_its_figures_get_no_answer(site: Observed) -> None:
    """SIGTERM to the supervisor while it waits for the API server, and the task for the supervisor."""
    if not site.keeps_states:
        pytest.skip("before Airflow 3.3 a supervisor tells its task nothing of a SIGTERM")
    with site.line.holding():
        run = site.start("resumed", table="held_rows")
        site.committed("held_rows", 50)
        task, *workers = run.processes()
        assert site.line.wait_for_one(20)
        supervisor = task.parent()
        assert supervisor is not None

        supervisor.terminate()

        assert seconds_until_gone(workers) < STOP_BUDGET
        in_table = len(site.rows("held_rows"))
    site.gate.touch()
    run.wait_for("success", tries=2, timeout=400)
    assert run.xcom()["items_skipped"] >= in_table
    run.logged("stopped: Airflow asked the task to end")


def test_execution_timeout_is_on_time_though_figures_get_no_answer(site: Observed) -> None:
    with site.line.holding():
        run = site.start("timed_out")
        _, *workers = run.processes()
        assert site.line.wait_for_one(20)

        seconds_until_gone(workers)

    run.wait_for("failed", timeout=180)
    run.logged("Process timed out")


def test_figures_that_get_no_answer_do_not_pile_up_and_the_run_goes_on(site: Observed) -> None:
    with site.line.holding():
        run = site.start("resumed", table="patient_rows")
        site.committed("patient_rows", 50)
        assert site.line.wait_for_one(20)
        before = site.line.held
        site.gate.touch()
        site.committed("patient_rows", 200)
        assert site.line.held == before

    assert run.wait_for("success", timeout=60)["try_number"] == 1
    metrics = run.xcom("pipeline_metrics")
    assert (metrics["final"], metrics["items_committed"]) == (True, 200)
