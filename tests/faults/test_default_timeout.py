"""``socket.setdefaulttimeout`` in the host or in a worker: the engine's own sockets block nevertheless."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator

import pytest

from airflow_parallel_provider import Stage
from airflow_parallel_provider.engine.ipc.requests import request
from airflow_parallel_provider.engine.plan.worker_hooks import WorkerHooks
from tests.support.running import Ran, run_pipeline
from tests.support.saboteurs import BAD, ITEMS


@pytest.fixture(params=[600.0, 0.01])
def default_timeout(request: pytest.FixtureRequest) -> Iterator[float]:
    socket.setdefaulttimeout(request.param)
    yield request.param
    socket.setdefaulttimeout(None)


def work(item: int) -> bytes:
    if item == BAD:
        os.kill(os.getpid(), 9)
    logging.getLogger("user").info("item %d", item)
    return request(b"%d" % item) * 100_000


def same(item: bytes) -> bytes:
    return item


def slow_source() -> Iterator[int]:
    """With a pause in which every worker waits for longer than the shorter of the timeouts."""
    yield from range(ITEMS // 2)
    time.sleep(0.1)
    yield from range(ITEMS // 2, ITEMS)


def slow_answer(payload: bytes) -> bytes:
    if payload == b"3":
        time.sleep(0.1)
    return payload


def run(stages: list[Stage], hooks: WorkerHooks) -> Ran:
    return run_pipeline(slow_source, stages, ordered=True, tolerance=1, timeout=60.0, worker_hooks=hooks)


EXPECTED_ROWS = [b"%d" % item * 100_000 for item in range(ITEMS) if item != BAD]


def test_default_timeout_of_the_host(default_timeout: float) -> None:
    """A descriptor that was handed over did not block: every worker died at its first read, with a wrong cause."""
    stages = [Stage(work, kind="process", workers=2), Stage(same, kind="process", workers=1)]

    ran = run_pipeline(
        slow_source,
        stages,
        ordered=True,
        tolerance=1,
        timeout=60.0,
        worker_hooks=WorkerHooks(handle_request=slow_answer),
    )

    assert ran.error is None
    assert ran.rows == EXPECTED_ROWS
    assert ran.positions == [BAD]
    assert ran.report.stages[0].workers_lost == 1
    assert not any("fork server" in warning for warning in ran.report.warnings)


def set_default() -> None:
    socket.setdefaulttimeout(0.01)


def test_default_timeout_that_a_worker_sets() -> None:
    """By ``on_start``, as by an imported module: before the engine's own sockets are opened there."""
    hooks = WorkerHooks(on_start=set_default, handle_request=slow_answer)

    ran = run_pipeline(
        slow_source,
        [Stage(work, kind="process", workers=2)],
        ordered=True,
        tolerance=1,
        timeout=60.0,
        worker_hooks=hooks,
    )

    assert ran.error is None
    assert ran.rows == EXPECTED_ROWS
    assert ran.report.stages[0].workers_lost == 1
