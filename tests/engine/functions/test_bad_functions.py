"""Functions that cannot be sent to a worker process, or that return what no stage may return: errors name them."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_parallel_provider import DROP, ListSink, Pipeline, Stage
from airflow_parallel_provider.errors import NotPicklable, PlanError, WrongReturn
from tests.support.running import run_pipeline

LOCK = threading.Lock()


def plain(item: object) -> object:
    return item


def _uses_a_global(item: object) -> object:
    with LOCK:
        return item


def _uses_a_helper(item: object) -> object:
    return _uses_a_global(item)


def _closure() -> Callable[[object], object]:
    handle = threading.Lock()

    def uses_a_variable(item: object) -> object:
        with handle:
            return item

    return uses_a_variable


def _default(item: object, handle: Any = threading.Lock()) -> object:  # noqa: B008 - the very mistake under test
    return handle


class _Holder:
    def __init__(self) -> None:
        self.connection = threading.Lock()

    def process(self, item: object) -> object:
        return item


_UNPICKLABLE = {
    "closure": (lambda: Stage(_closure(), kind="process", name="stuck"), "'handle'"),
    "attribute": (lambda: Stage(_Holder(), kind="process", name="stuck"), "lock"),
    "setup": (
        lambda: Stage(lambda item, resource: item, setup=_closure_setup(), kind="process", name="stuck"),
        "'handle'",
    ),
}


def _closure_setup() -> Callable[[], object]:
    handle = threading.Lock()
    return lambda: handle


@pytest.mark.parametrize("which", _UNPICKLABLE)
def test_what_cannot_travel_is_named_before_anything_starts(which: str) -> None:
    make, named = _UNPICKLABLE[which]
    pipeline = Pipeline([1, 2], [make()], ListSink())

    for act in (pipeline.check_picklable, pipeline.run):
        with pytest.raises(NotPicklable) as caught:
            act()
        assert "stuck" in caught.value.field
        assert named in str(caught.value)
        assert "setup" in caught.value.cure
        assert 'kind="thread"' in caught.value.cure


@pytest.mark.parametrize("name", ["_uses_a_global", "_uses_a_helper", "_default"])
def test_an_unpicklable_global_of_a_dag_file_is_named(name: str) -> None:
    """A DAG file is imported under a made-up name, so its functions travel by value, globals included."""
    module_name = "unusual_prefix_0123456789abcdef_my_dag"
    spec = importlib.util.spec_from_file_location(module_name, Path(__file__))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
        pipeline = Pipeline([1], [Stage(getattr(module, name), kind="process")], ListSink())
        with pytest.raises(NotPicklable) as caught:
            pipeline.run()
    finally:
        del sys.modules[module_name]

    assert ("default" if name == "_default" else "'LOCK'") in str(caught.value)
    assert "lock" in str(caught.value)


@pytest.mark.parametrize("kind", ["thread", "process", "inline"])
@pytest.mark.parametrize("wrong", [None, 7, "text", b"bytes", {"a": 1}], ids=repr)
def test_a_batch_function_must_return_results(kind: Any, wrong: Any) -> None:
    """Forgetting ``return`` is a mistake in the pipeline, not in the items: it may not fill the dead letters."""

    def forgetful(items: list[int]) -> Any:
        return wrong

    ran = run_pipeline(range(100), [Stage(forgetful, kind=kind, batch_size=10)], tolerance=100)

    assert isinstance(ran.error, WrongReturn)
    assert "forgetful" in str(ran.error)
    assert type(wrong).__name__ in str(ran.error)
    assert ran.rows == []
    assert ran.dead_letters == []


def test_an_async_batch_function_must_return_results() -> None:
    async def forgetful(items: list[int]) -> None:
        return None

    ran = run_pipeline(range(100), [Stage(forgetful, kind="async", batch_size=10)], tolerance=100)

    assert isinstance(ran.error, WrongReturn)
    assert "NoneType" in str(ran.error)


@pytest.mark.parametrize("kind", ["thread", "process", "inline"])
def test_a_coroutine_returned_by_a_plain_function_is_a_mistake(kind: Any) -> None:
    async def fetch(item: int, times: int) -> int:
        return item

    ran = run_pipeline(range(10), [Stage(lambda item: fetch(item, 2), name="fetch", kind=kind)], tolerance=10)

    assert isinstance(ran.error, WrongReturn)
    assert 'kind="async"' in str(ran.error)


@pytest.mark.parametrize("kind", ["thread", "process", "inline"])
def test_none_is_a_row_like_any_other(kind: Any) -> None:
    """Without ``batch_size`` only DROP filters: None may be a value."""
    ran = run_pipeline(range(3), [Stage(_nothing, kind=kind)])

    assert ran.rows == [None, None, None]
    assert ran.report.items_filtered == 0


def _nothing(item: int) -> None:
    return None


@pytest.mark.parametrize("kind", ["thread", "process", "inline"])
def test_drop_keeps_its_meaning_in_every_kind(kind: Any) -> None:
    ran = run_pipeline(range(10), [Stage(_odd, kind=kind), Stage(plain)], ordered=True)

    assert ran.rows == [1, 3, 5, 7, 9]
    assert (ran.report.items_committed, ran.report.items_filtered) == (5, 5)


def _odd(item: int) -> Any:
    return item if item % 2 else DROP


def test_a_module_that_runs_a_pipeline_when_it_is_imported_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fork server imports the module too, and would start a fork server of its own, and so on without end."""
    (tmp_path / "runs_on_import.py").write_text(
        "from airflow_parallel_provider import ListSink, Pipeline, Stage\n"
        "def double(item):\n"
        "    return 2 * item\n"
        "Pipeline(range(3), [Stage(double, kind='process', workers=1)], ListSink()).run()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(PlanError, match=r"of stage 0.*its module runs a pipeline when it is imported"):
        importlib.import_module("runs_on_import")
