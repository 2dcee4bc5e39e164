"""The pytest plugin, in a pytest of its own; and that the test kit stands apart from the package."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.support.interpreters import fresh_interpreter, heavy_among
from tests.support.scripts import ROOT

CONFTEST = """
from airflow_parallel_provider.testing import fixtures

pytest_plugins = ["airflow_parallel_provider.testing.fixtures"]
fixtures._GRACE = 0.05
"""

TESTS = """
import threading
import pytest
from airflow_parallel_provider import ListSink, Pipeline, Retry, Stage
from airflow_parallel_provider.testing import Fail

def same(item):
    return item

PIPELINE = Pipeline(range(3), [Stage(same, retry=Retry(2, backoff=30))], ListSink(), tolerance=1)

def test_inline(run_inline):
    assert run_inline(PIPELINE, [5]).rows == [5]

def test_faults(fault_plan, fast_retries, nothing_left_behind):
    report = fault_plan(Fail("same", at=1)).wrap(PIPELINE).run()
    assert report.items_committed == 3
    assert fast_retries.pauses == [30]

def test_fault_that_never_strikes(fault_plan, run_inline):
    run_inline(fault_plan(Fail("same", at=99)).wrap(PIPELINE))

def test_thread_left(nothing_left_behind):
    threading.Thread(target=threading.Event().wait, name="parallel-left", daemon=True).start()
"""


def test_the_plugin_and_the_examples_of_the_manual(tmp_path: Path) -> None:
    manual = (ROOT / "docs" / "testing.md").read_text()
    examples = re.findall(r"^```python\n(.*?)^```", manual, re.MULTILINE | re.DOTALL)
    (tmp_path / "test_manual.py").write_text("\n".join(examples))
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rA", str(tmp_path)]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False)

    lines = done.stdout.splitlines()
    assert "PASSED test_it.py::test_inline" in lines, done.stdout + done.stderr
    assert "PASSED test_it.py::test_faults" in lines
    assert lines[-1].startswith("8 passed"), done.stdout
    assert "2 errors" in lines[-1]
    assert "did not strike" in done.stdout
    assert "left behind: parallel-left" in done.stdout


def test_the_test_kit_needs_neither_airflow_nor_pytest() -> None:
    modules = fresh_interpreter(
        "from airflow_parallel_provider import ListSink, Pipeline, Stage\n"
        "from airflow_parallel_provider.testing import *\n"
        "run_inline(FaultPlan(Fail('repr', at=0)).wrap(Pipeline([1], [Stage(repr)], tolerance=1)))\n"
    )

    assert heavy_among(modules) & {"airflow", "sqlalchemy", "sqlite3", "pandas", "numpy", "pyarrow", "fastapi"} == set()
    assert "pytest" not in modules


def test_a_run_loads_nothing_of_it() -> None:
    modules = fresh_interpreter(
        "from airflow_parallel_provider import ListSink, Pipeline, Stage\n"
        "Pipeline([1], [Stage(repr)], ListSink()).run()\n"
    )

    prefixes = ("airflow_parallel_provider.testing", "airflow_parallel_provider.cli")
    assert [name for name in modules if name.startswith(prefixes)] == []
