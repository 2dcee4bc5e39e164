"""A real scheduler: the whole way of the data, and every way a task can be interrupted.

One Airflow serves all tests; each test has a DAG run of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dev.airflow_client import poll
from tests.system.all_kinds import ITEMS, check_all_kinds
from tests.system.conftest import SECRETS, seconds_until_gone

if TYPE_CHECKING:
    from tests.system.conftest import Site

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]  # the first test also waits for Airflow to start

STOP_BUDGET = 5.0
"""Seconds until all processes of a marked or cleared task have ended; after that, Airflow would use SIGKILL."""
SQUARES = [(number, number * number) for number in range(ITEMS)]


# -- the whole way --------------------------------------------------------------------------------


def test_rows_of_all_kinds_of_stages_are_in_the_table(site: Site) -> None:
    told = set[str]()
    site.metrics()  # those of other runs: the socket holds no more than 200 kB, and lets the rest go
    run = site.start("all_kinds", table="all_rows")

    check_all_kinds(run, "all_rows")

    ours = "dag_id=all_kinds,task_id=pipeline"
    expected = {
        f"airflow.parallel_pipeline.{name}"
        for name in (
            f"runs,{ours},state=success",
            f"duration,{ours}",
            f"items,{ours},fate=committed",
            f"rows,{ours}",
            f"chunks,{ours}",
            f"stage.busy_fraction,{ours},stage=look_up",
        )
    }
    poll("the metrics of the run", lambda: told.update(site.metrics()) or expected <= told, timeout=60)
    assert run.run_id not in "".join(told)

    events = site.client.request("GET", "/assets/events", params={"source_dag_id": "all_kinds"})["asset_events"]
    extras = [event["extra"] for event in events if event["source_run_id"] == run.run_id]
    assert [extra["rows_committed"] for extra in extras] == [ITEMS]


# -- interrupted ----------------------------------------------------------------------------------


def test_mark_failed_ends_everything_in_time(site: Site) -> None:
    run = site.start("never_retried")
    site.committed("stopped_rows", 50)
    processes = run.processes()
    for process in processes:
        told = Path(f"/proc/{process.pid}/environ").read_bytes() + Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert not any(secret.encode() in told for secret in SECRETS)

    run.mark("failed")

    assert seconds_until_gone(processes) < STOP_BUDGET
    assert site.workers() == []
    assert run.wait_for("failed", "running")["state"] == "failed"
    run.logged("stopped: Airflow asked the task to end")
    metrics = run.xcom("pipeline_metrics")
    assert (metrics["final"], metrics["state"]) == (True, "stopped")
    fates = ("items_committed", "items_filtered", "items_dead_lettered", "items_skipped", "items_unfinished")
    assert metrics["items_read"] == sum(metrics[each] for each in fates)
    assert len(site.rows("stopped_rows")) == metrics["rows_committed"]


def test_execution_timeout_is_on_time_and_leaves_nothing(site: Site) -> None:
    run = site.start("timed_out")
    processes = run.processes()

    seconds_until_gone(processes)

    run.wait_for("failed")
    assert site.workers() == []
    run.logged("Process timed out")
    metrics = run.xcom("pipeline_metrics")
    assert (metrics["final"], metrics["state"]) == (True, "failed")
    assert 5.9 <= metrics["seconds"] < 6.0 + STOP_BUDGET


def test_killed_task_is_retried_and_the_table_is_that_of_an_undisturbed_run(site: Site) -> None:
    killed = site.start("resumed", table="killed_rows")
    site.committed("killed_rows", 50)
    processes = killed.processes()
    in_table = len(site.rows("killed_rows"))

    processes[0].kill()
    assert seconds_until_gone(processes) < STOP_BUDGET
    killed.wait_for("up_for_retry", "scheduled", "queued", timeout=15)  # orphans would delay this by up to a minute
    site.gate.touch()

    assert killed.wait_for("success", tries=2)["try_number"] == 2
    summary = killed.xcom()
    assert summary["items_skipped"] >= in_table
    assert summary["items_skipped"] + summary["items_committed"] == ITEMS
    assert summary["load_key"] == killed.load_key(1)

    undisturbed = site.start("resumed", table="undisturbed_rows")
    undisturbed.wait_for("success")
    assert site.rows("killed_rows") == site.rows("undisturbed_rows") == SQUARES


def test_clear_starts_over_while_running_and_afterwards(site: Site) -> None:
    run = site.start("resumed", table="cleared_rows")
    site.committed("cleared_rows", 50)
    processes = run.processes()

    run.clear()
    assert seconds_until_gone(processes) < STOP_BUDGET
    before = len(site.rows("cleared_rows"))
    site.gate.touch()

    assert run.wait_for("success", tries=2)["try_number"] == 2
    second = run.xcom()
    assert (second["items_skipped"], second["items_committed"]) == (0, ITEMS)
    assert second["load_key"] != run.load_key(1)
    assert len(site.rows("cleared_rows")) == before + ITEMS

    # Airflow 3.1 forgets a task that is cleared while its scheduler is about to end the run for its success.
    assert site.client.wait_for_run(run.dag_id, run.run_id) == "success"
    run.clear()
    run.wait_for("success", tries=3)
    third = run.xcom()
    assert (third["items_skipped"], third["items_committed"]) == (0, ITEMS)
    assert len(site.rows("cleared_rows")) == before + 2 * ITEMS


@pytest.mark.slow  # a mark comes the same way, and execution_timeout is above
def test_run_timeout_ends_everything_in_time(site: Site) -> None:
    run = site.start("run_timed_out")
    processes = run.processes()

    assert site.client.wait_for_run(run.dag_id, run.run_id, timeout=40) == "failed"

    assert seconds_until_gone(processes) < STOP_BUDGET + 2  # the supervisor has to hear of it first
    assert site.workers() == []
    assert run.wait_for("skipped", "failed")["state"] in ("skipped", "failed")
    run.logged("stopped: Airflow asked the task to end")


@pytest.mark.parametrize("victim", ["worker", pytest.param("fork server", marks=pytest.mark.slow)])
def test_killed_worker_is_replaced_and_the_run_goes_on(site: Site, victim: str) -> None:
    table = f"{victim.replace(' ', '_')}_killed_rows"
    run = site.start("resumed", table=table)
    site.committed(table, 50)
    _, fork_server, *workers = run.processes()
    killed = fork_server if victim == "fork server" else workers[-1]

    killed.kill()
    assert seconds_until_gone([killed]) < STOP_BUDGET
    site.gate.touch()

    assert run.wait_for("success")["try_number"] == 1
    assert site.rows(table) == SQUARES
    assert site.workers() == []


def test_evicted_task_stops_in_time_and_its_next_try_resumes(site: Site) -> None:
    """SIGTERM to the supervisor, as when a pod is evicted or a Celery worker shuts down."""
    if not site.keeps_states:
        pytest.skip("before Airflow 3.3 a supervisor tells its task nothing of a SIGTERM")
    run = site.start("resumed", table="evicted_rows")
    site.committed("evicted_rows", 50)
    processes = run.processes()
    in_table = len(site.rows("evicted_rows"))
    supervisor = processes[0].parent()
    assert supervisor is not None

    supervisor.terminate()

    assert seconds_until_gone(processes) < STOP_BUDGET
    assert site.workers() == []
    site.gate.touch()
    run.wait_for("success", tries=2, timeout=300)
    assert run.xcom()["items_skipped"] >= in_table
    assert site.rows("evicted_rows") == SQUARES


@pytest.mark.slow  # a killed task that resumes is above
def test_the_example_that_is_killed_resumes(site: Site) -> None:
    run = site.start("resume_after_a_kill")

    assert site.client.wait_for_run(run.dag_id, run.run_id, timeout=300) == "success"

    summary = run.xcom()
    assert summary["attempt"] == 2
    assert summary["chunks_skipped"] > 0
    assert summary["chunks_skipped"] + summary["chunks_committed"] == 20
    checked = site.client.xcom(run.dag_id, run.run_id, "check", "return_value")
    assert checked == {"rows": 1000, "from_before_the_kill": 50 * summary["chunks_skipped"]}


def test_task_ends_itself_when_its_supervisor_is_killed_and_the_next_try_resumes(site: Site) -> None:
    """Comes last: this supervisor is a worker of the executor."""
    run = site.start("resumed", table="orphaned_rows")
    site.committed("orphaned_rows", 50)
    processes = run.processes()
    supervisor = processes[0].parent()
    assert supervisor is not None

    supervisor.kill()

    assert seconds_until_gone(processes) < STOP_BUDGET
    assert site.workers() == []
    in_table = len(site.rows("orphaned_rows"))
    site.gate.touch()
    run.wait_for("success", tries=2, timeout=300)
    assert run.xcom()["items_skipped"] == in_table
    assert site.rows("orphaned_rows") == SQUARES
