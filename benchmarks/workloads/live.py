"""The cost of a run's live metrics: the snapshots for the Pipeline tab, and writing them to Airflow."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

from benchmarks.airflow_task import DAGS
from benchmarks.spec import OURS, Measured, Medians, Params, Workload, check

WORK = Workload(
    name="live",
    title="Live figures of a run of a minute",
    what="four stages under a real scheduler and API server (LocalExecutor, SQLite); a snapshot every 2 s",
    timed="share: CPU time of making and writing the snapshots in the task, of the run's duration; bytes: the last one",
    metric="share",
    unit="%",
    best="low",
    shows=("cpu_seconds", "seconds", "bytes"),
    full={"items": 15_000},
    quick={"items": 1_000},
    rounds=3,
    limit=300.0,
)
WORKLOADS = {WORK.name: WORK}


@WORK.contestant(OURS, "ParallelPipelineOperator with its defaults; metrics_cpu_seconds as the run itself counts it")
def ours(params: Params) -> Measured:
    from dev.local_airflow import LocalAirflow

    home = Path(tempfile.mkdtemp(dir=os.environ["BENCH_HOME"]))
    dags = home / "dags"
    dags.mkdir()
    shutil.copy(DAGS / "bench_live.py", dags)
    database = json.dumps({"conn_type": "sqlite", "host": str(home / "rows.db")})
    with LocalAirflow(home, dags, connections={"bench_db": database}) as airflow:
        run_id = airflow.client.trigger("bench_live", conf={"count": params["items"]})
        state = airflow.client.wait_for_run("bench_live", run_id, timeout=250)
        check(state == "success", f"the DAG run ended as {state}")
        metrics = airflow.client.xcom("bench_live", run_id, "pipeline", "pipeline_metrics")
    cpu, seconds = metrics["metrics_cpu_seconds"], metrics["seconds"]
    size = len(json.dumps(metrics, ensure_ascii=False).encode())
    return {"share": 100 * cpu / seconds, "cpu_seconds": cpu, "seconds": seconds, "bytes": size}


@WORK.target("live figures: at most 1 % of a run of a minute, CPU time", 1.0, unit="%", at_most=True)
def cheap(medians: Medians) -> float | None:
    return medians.get(OURS, {}).get("share")
