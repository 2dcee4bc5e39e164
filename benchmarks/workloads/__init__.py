"""The workloads, by name, in the order of the results table."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.spec import Workload

_WHERE = {
    "mixed": "mixed",
    "cpu": "cpu",
    "trivial-1000": "trivial",
    "trivial-100": "trivial",
    "trivial-single": "trivial_single",
    "arrays": "arrays",
    "start": "start",
    "replacement": "start",
    "overhead": "overhead",
    "live": "live",
    "memory": "memory",
    "workers": "workers",
    "techniques": "techniques",
    "simulation": "simulation",
    "sink-postgres": "sink",
    "sink-sqlite": "sink",
    "sink-mariadb": "sink",
    "sink-duckdb": "sink_arrow",
    "sink-postgres-arrow": "sink_arrow",
    "sink-delta": "lakes",
    "sink-iceberg": "lakes",
    "job-csv-postgres": "jobs",
    "job-csv-duckdb": "jobs",
    "job-jsonl-postgres": "jobs",
    "job-parquet-postgres": "jobs",
    "job-table-postgres": "jobs",
    "job-pages": "jobs",
}
NAMES = tuple(_WHERE)


def load(name: str) -> Workload:
    """The workload with this name."""
    workload: Workload = importlib.import_module(f"benchmarks.workloads.{_WHERE[name]}").WORKLOADS[name]
    return workload
