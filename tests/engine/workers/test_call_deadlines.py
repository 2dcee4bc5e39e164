"""Which call passed its deadline: never the next one, whatever moment the watcher looks at."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_parallel_provider import StopToken
from airflow_parallel_provider.engine.functions.calls import run_calls
from airflow_parallel_provider.engine.functions.status_page import BEGAN_NS, CALL, MESSAGE, PAGE_WORDS, RUNNING, STATE
from airflow_parallel_provider.engine.plan.retry import Retry
from airflow_parallel_provider.engine.processes.worker_process import WorkerProcess
from airflow_parallel_provider.engine.workers.connection import WorkerConnection, WorkerDied
from airflow_parallel_provider.engine.workers.thread import ThreadWorker
from tests.support.fakes import calls

LONG_AGO = 1


class EndsJustNow(list[int]):
    """The page of a worker whose call is far over its timeout, and ends between two looks of the watcher."""

    def __init__(self, *, goes_on: bool) -> None:
        super().__init__([0] * PAGE_WORDS)
        self.goes_on = goes_on
        for at, value in ((MESSAGE, 7), (CALL, 3), (STATE, RUNNING), (BEGAN_NS, LONG_AGO)):
            super().__setitem__(at, value)

    def __getitem__(self, index: Any) -> Any:
        value = super().__getitem__(index)
        if index == BEGAN_NS and self.goes_on:
            super().__setitem__(BEGAN_NS, time.monotonic_ns())
            super().__setitem__(CALL, 4)
        return value


def test_a_call_is_never_seen_with_the_age_of_the_one_before() -> None:
    ended = [0]

    class Seen(list[int]):
        def __setitem__(self, index: Any, value: Any) -> None:
            super().__setitem__(index, value)
            assert self[BEGAN_NS] >= ended[self[CALL]]

    def call(value: int) -> int:
        ended.append(time.monotonic_ns())
        return value

    run_calls(call, range(5), batched=False, retry=Retry(1), page=Seen([0] * PAGE_WORDS))

    assert len(ended) == 6


@pytest.mark.parametrize("goes_on", [True, False])
def test_the_call_after_one_that_took_too_long_is_not_blamed_in_a_process(goes_on: bool) -> None:
    link: Any = WorkerConnection.__new__(WorkerConnection)
    process: Any = WorkerProcess.__new__(WorkerProcess)
    process.page = EndsJustNow(goes_on=goes_on)
    link._stage = SimpleNamespace(stage=SimpleNamespace(timeout=1.0))
    link._context = SimpleNamespace(stop=StopToken())

    if goes_on:
        link._check_deadline(process)
        return
    with pytest.raises(WorkerDied) as gone:
        link._check_deadline(process)
    assert gone.value.position == (RUNNING, 7, 3)


@pytest.mark.parametrize("goes_on", [True, False])
def test_the_call_after_one_that_took_too_long_is_not_blamed_in_a_thread(goes_on: bool) -> None:
    replaced: list[ThreadWorker] = []
    stage: Any = SimpleNamespace(stage=SimpleNamespace(name="s", timeout=1.0), new_worker_metrics=SimpleNamespace)
    supervisor: Any = SimpleNamespace(context=SimpleNamespace(stop=StopToken()), replace=replaced.append)
    worker = ThreadWorker(stage, 1, supervisor)
    worker._dispatch, worker._page = [calls(*range(9))], EndsJustNow(goes_on=goes_on)

    due = worker.check(5.0)

    assert (due, replaced) == ((6.0, []) if goes_on else (None, [worker]))
    assert worker.leftover is None if goes_on else worker.leftover is not None and worker.leftover.stuck == 3
