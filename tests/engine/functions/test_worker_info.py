"""Which worker makes a call: ``get_worker_info()`` in every kind of stage, and what keeps an index."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_parallel_provider import Retry, Stage, WorkerInfo, get_worker_info, sub_map, worker_info_is
from airflow_parallel_provider.testing import run_inline
from tests.support.running import run_pipeline
from tests.support.saboteurs import kill_self
from tests.support.sync import WAIT_SECONDS, Once


def place(_: object = None) -> tuple[str, int, int]:
    info = get_worker_info()
    return info.stage, info.index, info.count


def arrive(folder: Path, count: int) -> None:
    """Leave a file with this worker's index, process and CUDA devices; wait until all indexes have come."""
    index = get_worker_info().index
    folder.joinpath(f"{index}-{os.getpid()}").write_text(os.environ.get("DEVICES", ""))
    deadline = time.monotonic() + WAIT_SECONDS
    while len({each.name.split("-")[0] for each in folder.iterdir()}) < count:
        assert time.monotonic() < deadline, "the other workers never came"
        time.sleep(0.002)


def arrivals(folder: Path) -> list[tuple[int, str]]:
    return sorted((int(each.name.split("-")[0]), each.read_text()) for each in folder.iterdir())


def meet_in(folder: Path, count: int) -> Callable[[], None]:
    return lambda: arrive(folder, count)


def test_threads_are_numbered_from_0() -> None:
    barrier = threading.Barrier(3, timeout=WAIT_SECONDS)

    def meet() -> tuple[str, int, int]:
        barrier.wait()
        return place()

    ran = run_pipeline(range(30), [Stage(lambda item, seen: seen, name="look", workers=3, setup=meet)])

    assert set(ran.rows) <= {("look", 0, 3), ("look", 1, 3), ("look", 2, 3)}
    assert ran.rows


def test_no_two_threads_have_one_index() -> None:
    seen: list[tuple[str, int, int]] = []
    barrier = threading.Barrier(4, timeout=WAIT_SECONDS)

    def meet() -> None:
        barrier.wait()
        seen.append(place())

    run_pipeline(range(9), [Stage(lambda item, _: item, name="look", workers=4, setup=meet)])

    assert sorted(seen) == [("look", index, 4) for index in range(4)]


def test_processes_are_numbered_from_0(tmp_path: Path) -> None:
    stage = Stage(lambda item, _: place(), name="look", kind="process", workers=2, setup=meet_in(tmp_path, 2))

    ran = run_pipeline(range(20), [stage])

    assert set(ran.rows) <= {("look", 0, 2), ("look", 1, 2)}
    assert [index for index, _ in arrivals(tmp_path)] == [0, 1]


def test_a_process_in_place_of_a_dead_one_has_its_index(tmp_path: Path) -> None:
    folder, once = tmp_path / "here", Once(str(tmp_path / "killed"))
    folder.mkdir()

    def die_once(item: int, _: object) -> int:
        if item == 3 and once():
            kill_self()
        return item

    stage = Stage(die_once, kind="process", workers=2, setup=meet_in(folder, 2), retry=Retry(2, backoff=0))
    ran = run_pipeline(range(8), [stage])

    assert sorted(ran.rows) == list(range(8))
    indexes = [index for index, _ in arrivals(folder)]
    assert (len(indexes), set(indexes)) == (3, {0, 1})


def test_a_successor_after_the_lifespan_has_the_same_index() -> None:
    ran = run_pipeline(range(6), [Stage(place, name="look", kind="process", workers=1, worker_lifespan=1)])

    assert set(ran.rows) == {("look", 0, 1)}


def test_a_thread_in_place_of_a_stuck_one_has_its_index() -> None:
    release = threading.Event()

    def stick(item: int) -> tuple[str, int, int]:
        if item == 0:
            release.wait(WAIT_SECONDS)
        return place()

    try:
        ran = run_pipeline(range(4), [Stage(stick, name="look", workers=1, timeout=0.1)], tolerance=1)
    finally:
        release.set()

    assert ran.positions == [0]
    assert set(ran.rows) == {("look", 0, 1)}


def test_coroutines_at_a_time_have_indexes_of_their_own() -> None:
    barrier = asyncio.Barrier(3)

    async def meet(item: int) -> tuple[str, int, int]:
        async with asyncio.timeout(WAIT_SECONDS):
            await barrier.wait()
        return place()

    ran = run_pipeline(range(6), [Stage(meet, name="ask", kind="async", workers=3)])

    assert sorted(ran.rows) == sorted([("ask", index, 3) for index in range(3)] * 2)


def test_setup_of_an_async_stage_sees_index_0() -> None:
    seen: list[Any] = []

    async def begin() -> None:
        seen.append(place())

    async def same(item: int, _: object) -> int:
        return item

    run_pipeline(range(3), [Stage(same, name="ask", kind="async", workers=3, setup=begin)])

    assert seen == [("ask", 0, 3)]


def test_inline() -> None:
    stages = [
        Stage(place, name="first", kind="inline"),
        Stage(lambda seen: (seen, place()), name="then", kind="inline"),
    ]

    ran = run_pipeline([1], stages)

    assert ran.rows == [(("first", 0, 1), ("then", 0, 1))]
    with pytest.raises(LookupError, match="worker_info_is"):
        get_worker_info()


def test_sub_tasks_belong_to_the_worker() -> None:
    ran = run_pipeline([1], [Stage(lambda item: list(sub_map(place, [1, 2])), name="look", workers=1)])

    assert ran.rows == [[("look", 0, 1)] * 2]


def test_in_a_test_of_a_function() -> None:
    with worker_info_is(WorkerInfo("look", 2, 4)):
        assert place() == ("look", 2, 4)
    with pytest.raises(LookupError):
        place()


def test_run_inline() -> None:
    async def ask(item: object) -> object:
        return (item, place())

    stages = [
        Stage(place, name="look", kind="process", workers=4, worker_env={"DEVICES": "{index}"}),
        Stage(ask, name="ask", kind="async"),
    ]

    from airflow_parallel_provider import ListSink, Pipeline

    assert run_inline(Pipeline([1], stages, ListSink())).rows == [(("look", 0, 1), ("ask", 0, 1))]
