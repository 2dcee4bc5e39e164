"""gevent and eventlet in the host: what cannot work is refused by name."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from airflow_parallel_provider import ListSink, Pipeline, PlanError, Stage
from airflow_parallel_provider.engine.processes.green_threads import check_patches

ALL = {"threading", "select", "socket", "queue", "subprocess", "time"}


def gevent(patched: set[str]) -> SimpleNamespace:
    return SimpleNamespace(is_module_patched=patched.__contains__)


def eventlet(patched: set[str]) -> SimpleNamespace:
    return SimpleNamespace(is_monkey_patched=patched.__contains__)


@pytest.mark.parametrize("patched", [set(), ALL, {"subprocess", "os"}], ids=["nothing", "all", "harmless"])
def test_gevent_that_patches_all_or_what_does_no_harm_is_fine(
    patched: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gevent.monkey", gevent(patched))

    check_patches()


@pytest.mark.parametrize("without", sorted(ALL))
def test_gevent_that_leaves_one_out_is_refused(without: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait of one greenlet would stop all of them: the run would hang."""
    monkeypatch.setitem(sys.modules, "gevent.monkey", gevent(ALL - {without}))

    with pytest.raises(PlanError, match=rf"not patched {without}: call `gevent.monkey.patch_all"):
        check_patches()


def test_eventlet_is_refused_by_name_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "eventlet.patcher", eventlet({"thread", "select"}))

    with pytest.raises(PlanError, match=r"eventlet has patched this program.*--pool prefork"):
        Pipeline(range(3), [Stage(abs, kind="process")], ListSink()).run()


def test_eventlet_that_is_only_imported_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "eventlet.patcher", eventlet({"time"}))

    check_patches()
