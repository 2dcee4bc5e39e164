"""What a fresh interpreter has loaded after some code."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache

from tests.support.scripts import ROOT

HEAVY = {
    "airflow",
    "cloudpickle",
    "ddsketch",
    "duckdb",
    "fastapi",
    "hypothesis",
    "numpy",
    "pandas",
    "pendulum",
    "psutil",
    "pyarrow",
    "pydantic",
    "rich",
    "sqlalchemy",
    "sqlite3",
    "tenacity",
    "asyncio",
    "multiprocessing",
}
"""Not one of these may come along with the package: every Airflow process imports every provider."""


def fresh_interpreter(code: str) -> list[str]:
    """Run code in a new interpreter and return the names of all modules it has loaded at the end."""
    script = f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stderr
    modules: list[str] = json.loads(done.stdout.splitlines()[-1])
    return modules


def heavy_among(modules: list[str]) -> set[str]:
    """Heavy ones, without what a bare interpreter of this environment loads by itself (``.pth`` files)."""
    return (_roots(modules) & HEAVY) - _of_a_bare_interpreter()


@cache
def _of_a_bare_interpreter() -> set[str]:
    return _roots(fresh_interpreter(""))


def _roots(modules: list[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules}
