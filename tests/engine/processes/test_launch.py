"""The process of the first fork server starts before the run, and ends with it, whatever happens in between."""

from __future__ import annotations

import gc
import subprocess
from typing import Any

import pytest

from airflow_parallel_provider import ListSink, Pipeline, Stage
from airflow_parallel_provider.engine.interfaces.source import Source
from airflow_parallel_provider.engine.processes.launch import LaunchedServer, collector_paused, launched_ahead
from airflow_parallel_provider.errors import RunFailed


def double(item: int) -> int:
    return item * 2


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[LaunchedServer]:
    """The servers that are launched during the test."""
    made: list[LaunchedServer] = []
    start = LaunchedServer.__init__

    def note(server: LaunchedServer) -> None:
        made.append(server)
        start(server)

    monkeypatch.setattr(LaunchedServer, "__init__", note)
    return made


def test_a_run_takes_the_process_that_was_started_before_it(launches: list[LaunchedServer]) -> None:
    sink = ListSink()

    Pipeline(range(4), [Stage(double, kind="process", workers=1)], sink).run()

    assert sorted(sink.rows) == [0, 2, 4, 6]
    (only,) = launches
    assert only.taken
    assert only.process.returncode == 0


def test_a_stream_starts_it_on_the_thread_of_its_run(launches: list[LaunchedServer]) -> None:
    rows = Pipeline(range(4), [Stage(double, kind="process", workers=1)]).stream()

    assert sorted(rows) == [0, 2, 4, 6]
    (only,) = launches
    assert only.taken
    assert only.process.returncode == 0


def test_without_a_process_stage_none_is_started(launches: list[LaunchedServer]) -> None:
    Pipeline(range(4), [Stage(double)], ListSink()).run()
    assert sorted(Pipeline(range(4), [Stage(double)]).stream()) == [0, 2, 4, 6]

    assert not launches


def test_a_run_that_fails_before_it_needs_the_process_ends_it(launches: list[LaunchedServer]) -> None:
    class Refusing(Source):
        def prepare(self) -> None:
            raise LookupError("no such folder")

        def __iter__(self) -> Any:
            return iter(())

    with pytest.raises(LookupError, match="no such folder"):
        Pipeline(Refusing(), [Stage(double, kind="process", workers=1)], ListSink()).run()

    (only,) = launches
    assert not only.taken
    assert only.process.poll() is not None


def test_a_process_that_dies_before_the_run_takes_it_fails_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    start = LaunchedServer.__init__

    def start_and_die(server: LaunchedServer) -> None:
        start(server)
        server.process.kill()
        server.process.wait()

    monkeypatch.setattr(LaunchedServer, "__init__", start_and_die)

    with pytest.raises(RunFailed, match="the fork server did not start"):
        Pipeline(range(4), [Stage(double, kind="process", workers=1)], ListSink()).run()


def test_what_prevents_the_early_start_is_left_to_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    popen, calls = subprocess.Popen, []

    def refuse_once(*args: Any, **options: Any) -> Any:
        calls.append(args)
        if len(calls) == 1:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return popen(*args, **options)

    monkeypatch.setattr(subprocess, "Popen", refuse_once)
    sink = ListSink()

    Pipeline(range(4), [Stage(double, kind="process", workers=1)], sink).run()

    assert sorted(sink.rows) == [0, 2, 4, 6]
    assert len(calls) == 2


def test_an_error_inside_the_block_ends_the_process() -> None:
    with pytest.raises(KeyboardInterrupt), launched_ahead(needed=True) as server:
        assert server is not None
        raise KeyboardInterrupt

    assert server is not None
    assert server.process.poll() is not None
    assert server.process.stdout is not None
    assert server.process.stdout.closed


@pytest.mark.parametrize("enabled", [True, False])
def test_imports_are_not_interrupted_by_the_garbage_collector(enabled: bool) -> None:
    before = gc.isenabled()
    try:
        gc.enable() if enabled else gc.disable()
        with pytest.raises(ImportError), collector_paused():
            assert not gc.isenabled()
            raise ImportError

        assert gc.isenabled() == enabled
    finally:
        gc.enable() if before else gc.disable()
