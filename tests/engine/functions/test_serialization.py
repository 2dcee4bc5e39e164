"""Functions to worker processes: by name, by value, and a clear word about what cannot travel."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from airflow_parallel_provider import Stage
from airflow_parallel_provider.engine.functions.serialization import by_value_modules, serialize_stage
from airflow_parallel_provider.errors import NotPicklable
from tests.support.saboteurs import tenfold
from tests.support.scripts import ROOT

MODULE = "unusual_prefix_units_dag"


@pytest.fixture
def dag_module() -> Iterator[Callable[[str], Any]]:
    """A module as Airflow imports a DAG file: in ``sys.modules``, under a name that no other process can import."""

    def load(source: str) -> Any:
        module = types.ModuleType(MODULE)
        sys.modules[MODULE] = module
        exec(source, module.__dict__)
        return module

    yield load
    sys.modules.pop(MODULE, None)


def in_another_process(data: bytes, item: Any, tmp_path: Path) -> str:
    """Load the serialized function in a fresh interpreter and call it there."""
    (tmp_path / "code").write_bytes(data)
    program = "import pickle,sys;print(pickle.load(open(sys.argv[1],'rb')).bind().call(int(sys.argv[2])))"
    command = [sys.executable, "-c", program, str(tmp_path / "code"), str(item)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_an_importable_function_goes_by_name() -> None:
    data = serialize_stage(Stage(tenfold, kind="process"))

    assert b"tenfold" in data
    assert len(data) < 600
    assert pickle.loads(data).bind().call(4) == 40


def test_a_function_of_a_dag_file_goes_by_value_with_all_it_uses(
    dag_module: Callable[[str], Any], tmp_path: Path
) -> None:
    module = dag_module(
        """
FACTOR = 3

class Helper:
    def times(self, item):
        return item * FACTOR

def score(item):
    return Helper().times(item) + offset()

def offset():
    return 1
"""
    )

    assert in_another_process(serialize_stage(Stage(module.score, kind="process")), 5, tmp_path) == "16"


def test_a_lambda_and_a_closure_travel(tmp_path: Path) -> None:
    factor = 7

    assert in_another_process(serialize_stage(Stage(lambda item: item * factor, kind="process")), 6, tmp_path) == "42"


def test_overlapping_runs_share_the_registry_and_the_last_one_cleans_up(dag_module: Callable[[str], Any]) -> None:
    import cloudpickle

    stage = Stage(dag_module("def f(item): return item").f, kind="process")

    with by_value_modules([stage]):
        with by_value_modules([stage]):
            assert MODULE in cloudpickle.list_registry_pickle_by_value()
        assert MODULE in cloudpickle.list_registry_pickle_by_value(), "the outer one still needs it"

    assert MODULE not in cloudpickle.list_registry_pickle_by_value()


GUILTY = {
    "a global": ("lock = threading.Lock()\ndef f(item):\n    with lock: return item", "its global 'lock' (lock)"),
    "of a helper": (
        "lock = threading.Lock()\ndef helper(item):\n    with lock: return item\ndef f(item): return helper(item)",
        "its global 'lock' (lock)",
    ),
    "in an inner function": (
        "lock = threading.Lock()\ndef f(item):\n    def inner():\n        with lock: return item\n    return inner()",
        "its global 'lock' (lock)",
    ),
    "a variable": (
        "def make():\n    lock = threading.Lock()\n    def f(item): return lock\n    return f\nf = make()",
        "its variable 'lock' (lock)",
    ),
    "a default": ("def f(item, lock=threading.Lock()):\n    return item", "a default argument (lock)"),
    "of a class": (
        "lock = threading.Lock()\nclass f:\n    def process(self, item):\n        with lock: return item",
        "its global 'lock' (lock)",
    ),
}
# Fail today: keyword-only defaults are not looked at; names of attributes are taken for globals; of a stage class only
# `process` is looked at.
GUILTY_TOO = {
    "a keyword default": ("def f(item, *, lock=threading.Lock()):\n    return item", "a default argument (lock)"),
    "not the innocent namesake": (
        "lock = threading.Lock()\nz = threading.Lock()\ndef f(item):\n    with z: return item.lock",
        "its global 'z' (lock)",
    ),
    "in setup of a class": (
        "lock = threading.Lock()\nclass f:\n    def setup(self): lock.acquire()\n    def process(self, item): return 1",
        "its global 'lock' (lock)",
    ),
}


@pytest.mark.parametrize("case", [*GUILTY, *GUILTY_TOO])
def test_what_cannot_travel_is_named(case: str, dag_module: Callable[[str], Any]) -> None:
    source, named = (GUILTY | GUILTY_TOO)[case]
    stage = Stage(dag_module(f"import threading\n{source}").f, name="score", kind="process")

    with pytest.raises(NotPicklable) as caught:
        serialize_stage(stage)

    assert caught.value.field == "Stage(score).function"
    assert named in caught.value.cure
    assert "Create it in `setup`" in caught.value.cure


def test_setup_that_cannot_travel_is_named_too() -> None:
    lock = threading.Lock()

    with pytest.raises(NotPicklable, match="its variable 'lock'"):
        serialize_stage(Stage(lambda item, resource: item, setup=lambda: lock, kind="process"))


def test_where_nothing_can_be_named_the_error_says_what_pickle_said() -> None:
    stage = Stage(partial(lambda lock, item: item, threading.Lock()), kind="process")

    with pytest.raises(NotPicklable, match=r"cannot be sent to a worker process: .*lock"):
        serialize_stage(stage)
