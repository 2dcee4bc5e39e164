"""Describes the machine of the measurements, without its name or its paths."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

PEERS = (
    "airflow-parallel-provider", "apache-airflow", "cloudpickle", "dask", "distributed", "joblib", "loky", "mpire",
    "mysql-connector-python", "numpy", "pebble", "psycopg", "pyarrow", "pypeln", "ray", "spdl-core",
)  # fmt: skip


def load_average() -> float:
    """The system's load average of the last minute."""
    return round(os.getloadavg()[0], 2)


def cpus() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe() -> dict[str, Any]:
    """Processor, memory, system, Python and library versions."""
    return {
        "cpus": cpus(),
        "cpu_model": _first("/proc/cpuinfo", "model name"),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": {name: version for name in PEERS if (version := _version(name))},
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _first(file: str, key: str) -> str:
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), "?")
