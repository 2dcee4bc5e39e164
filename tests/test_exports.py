"""What the package offers by name, and that its errors survive the way between processes."""

from __future__ import annotations

import ast
import copy
import importlib
import inspect
import pickle
import re
import threading
from types import ModuleType
from typing import Any

import pytest

import airflow_parallel_provider
from airflow_parallel_provider import ListSink, Pipeline, errors, testing

ENGINE_NAMES = {
    "DROP",
    "ListSink",
    "Pipeline",
    "Retry",
    "RunReport",
    "Sink",
    "Source",
    "Stage",
    "StopToken",
}
ERRORS = [each for each in vars(errors).values() if inspect.isclass(each) and issubclass(each, Exception)]
OWN_ERRORS = [each for each in ERRORS if issubclass(each, errors.ParallelError)]


def test_all_is_sorted_and_holds_the_engine() -> None:
    names = list(airflow_parallel_provider.__all__)

    assert names == sorted(names)
    assert len(names) == len(set(names))
    assert set(names) >= ENGINE_NAMES


@pytest.mark.parametrize("name", sorted(ENGINE_NAMES))
def test_engine_names_resolve(name: str) -> None:
    assert getattr(airflow_parallel_provider, name) is not None


@pytest.mark.airflow
@pytest.mark.parametrize("name", sorted(airflow_parallel_provider.__all__))
def test_every_name_resolves(name: str) -> None:
    found = getattr(airflow_parallel_provider, name)

    assert getattr(airflow_parallel_provider, name) is found
    if inspect.isclass(found):
        assert found.__doc__, f"{name} has no docstring"
        assert getattr(importlib.import_module(found.__module__), found.__name__) is found


@pytest.mark.parametrize("package", [airflow_parallel_provider, testing], ids=lambda package: package.__name__)
def test_type_checkers_see_what_is_exported(package: ModuleType) -> None:
    tree = ast.parse(inspect.getsource(package))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imported = {
        (node.module, alias.name, alias.asname)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    exports = package._EXPORTS.items()
    assert imported == {(f"{package.__name__}.{module}", name, name) for module, names in exports for name in names}


def test_dir_lists_the_lazy_names() -> None:
    assert set(dir(airflow_parallel_provider)) >= set(airflow_parallel_provider.__all__)


def test_a_wrong_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Stagee"):
        _ = airflow_parallel_provider.Stagee  # type: ignore[attr-defined]


def _example(error: type[Exception]) -> Exception:
    if issubclass(error, errors.PlanError):
        return error("Stage.workers", threading.Lock(), "give a number")
    if issubclass(error, errors.RunStopped):
        return error("stopped", None, "SIGTERM")
    if issubclass(error, errors.RunFailed):
        return error("3 items failed", None)
    return error("what happened")


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
@pytest.mark.parametrize("way", [lambda x: pickle.loads(pickle.dumps(x)), copy.copy], ids=["pickle", "copy"])
def test_errors_survive_the_way_between_processes(error: type[Exception], way: Any) -> None:
    before = _example(error)

    after = way(before)

    assert type(after) is error
    assert str(after) == str(before)
    assert after.__dict__.keys() == before.__dict__.keys()
    for name in ("field", "cure", "message", "reason", "report"):
        assert getattr(after, name, None) == getattr(before, name, None)


@pytest.mark.parametrize("error", [each for each in OWN_ERRORS if issubclass(each, errors.RunFailed)])
def test_the_report_travels_with_a_failed_run(error: type[errors.RunFailed]) -> None:
    report = Pipeline(range(3), [], ListSink()).run()

    after = pickle.loads(pickle.dumps(error("failed", report)))

    assert after.report == report


def test_a_plan_error_travels_twice() -> None:
    """From a worker process to the task, and from there on: the text must not change on the way."""
    before = errors.PlanError("Stage.function", lambda: None, "name it")

    once = pickle.loads(pickle.dumps(before))
    twice = pickle.loads(pickle.dumps(once))

    assert str(before) == str(once) == str(twice)


def test_the_tree_in_the_docstring_is_the_real_one() -> None:
    """The first thing a reader sees must be true: names, parents and which ones are terminal."""
    assert errors.__doc__ is not None
    drawn: dict[str, tuple[str, bool]] = {}
    parents: list[str] = []
    for line in errors.__doc__.splitlines():
        match = re.match(r"^ {4}((?:[│ ]  ? ?)*)(?:[├└]── )?([A-Z]\w+)(.*)$", line)
        if match is None or match[2] not in vars(errors):
            continue
        depth = (line.index(match[2]) - 4) // 4
        parents[depth:] = [match[2]]
        drawn[match[2]] = (parents[depth - 1] if depth else "Exception", "(terminal)" in line)

    real = {each.__name__: each.__mro__[1].__name__ for each in OWN_ERRORS}
    assert {name: parent for name, (parent, _) in drawn.items()} == real
    for name, (_, terminal) in drawn.items():
        if terminal:
            assert issubclass(getattr(errors, name), errors.TerminalError)
