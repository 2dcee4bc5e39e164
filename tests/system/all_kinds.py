"""What a run of the DAG ``all_kinds`` must leave: the same rows and the same report wherever it ran."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.system.conftest import SECRETS

if TYPE_CHECKING:
    from tests.system.conftest import Run

ITEMS = 200
FIGURES = {
    "state": "success",
    "attempt": 1,
    "items_read": ITEMS,
    "items_committed": ITEMS,
    "rows_committed": ITEMS,
    "chunks_committed": 4,
    "items_dead_lettered": 0,
    "items_skipped": 0,
}
TOLD = "login, thread_login, process_login, async_login, variable, seen_by_thread"


def check_all_kinds(run: Run, table: str) -> None:
    """Wait for the run to succeed and look at all it left."""
    site = run.site
    assert site.client.wait_for_run(run.dag_id, run.run_id, timeout=300) == "success"

    rows = site.query(f"SELECT number, text, task, pid FROM {table} ORDER BY number")
    texts = [f"a global of the DAG file {number}" for number in range(ITEMS)]
    assert [(row[0], row[1]) for row in rows] == list(enumerate(texts))
    assert {row[2] for row in rows} == {f"{run.dag_id} {run.run_id} 1 {table}"}
    assert run.wait_for("success")["pid"] not in {row[3] for row in rows}
    assert site.query(f"SELECT DISTINCT {TOLD} FROM {table}") == [("alice", "bob", "bob", "bob", "blue", 0)]

    summary = run.xcom()
    assert {name: summary[name] for name in FIGURES} == FIGURES
    assert [stage["kind"] for stage in summary["stages"]] == ["thread", "process", "async"]
    assert len(json.dumps(summary)) < 8_000

    metrics = run.xcom("pipeline_metrics")
    assert (metrics["final"], metrics["state"], metrics["rows_committed"]) == (True, "success", ITEMS)
    if site.keeps_states:
        assert run.metrics_of_try(1) == metrics

    run.logged("Pipeline pipeline: success")
    run.logged("the worker says *** and ***")
    log = run.log()
    assert not any(secret in log + json.dumps([summary, metrics]) for secret in SECRETS)
