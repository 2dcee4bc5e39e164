"""Runs a DAG file with ``dag.test()``: a real task of the Task SDK, in this process."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

DAGS = Path(__file__).resolve().parent / "dags"


def run_task(file: str, **variables: str) -> dict[str, Any]:
    """Run the DAG of ``benchmarks/dags/<file>``; return what it wrote to the file that BENCH_OUT names."""
    from airflow.dag_processing.dagbag import DagBag

    folder = Path(os.environ["BENCH_HOME"]) / "dags"
    shutil.copy(DAGS / file, folder)
    out = Path(os.environ["BENCH_HOME"]) / f"{os.getpid()}.task.json"
    os.environ.update({"BENCH_OUT": str(out), **variables})
    bag = DagBag(dag_folder=folder / file, bundle_path=folder, bundle_name="dags-folder")
    if bag.import_errors:
        raise RuntimeError(f"the DAG file cannot be imported: {bag.import_errors}")
    logging.getLogger("airflow").setLevel(logging.ERROR)
    run = next(iter(bag.dags.values())).test()
    if str(run.state).rsplit(".", 1)[-1].lower() != "success":
        raise RuntimeError(f"the DAG run ended as {run.state}")
    measured: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    out.unlink()
    return measured
