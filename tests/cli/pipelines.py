"""Pipelines for the tests of the command line."""

from __future__ import annotations

import mmap
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

from airflow_parallel_provider import ListSink, Pipeline, Retry, Stage

BLOCK = 250_000
LEFT: list[mmap.mmap] = []


def same(item: Any) -> Any:
    return item


def pause(item: Any) -> Any:
    time.sleep(0.001)
    return item


def refuse_three(item: int) -> int:
    if item == 3:
        raise ValueError("three is bad")
    return item


def numbers() -> Iterator[int]:
    yield from range(50)


def leak(item: int) -> int:
    # Not from the heap, which may have room that earlier tests have left.
    block = mmap.mmap(-1, BLOCK, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    block.write(b"x" * BLOCK)
    LEFT.append(block)
    return pause(item)  # type: ignore[no-any-return]


def press_ctrl_c(item: int) -> int:
    if item == 5:
        os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait(0.05)
    return item


pipeline = Pipeline(range(20), [Stage(same, workers=2)], ListSink(), name="plain", chunk_size=5)
no_sink = Pipeline(range(20), [Stage(same)])
failing = Pipeline(range(20), [Stage(refuse_three, workers=1)], ListSink())
threads_only = Pipeline(numbers, [Stage(pause, workers=2, retry=Retry(2, backoff=0.01))], chunk_size=20)
every_kind = Pipeline(
    numbers,
    [
        Stage(pause, name="wait", workers=2, retry=Retry(2, backoff=0.01)),
        Stage(same, name="compute", kind="process", workers=1, timeout=0.8),
        Stage(same, name="glue", kind="inline"),
    ],
    chunk_size=20,
)
leaking = Pipeline(numbers, [Stage(leak, workers=1)], chunk_size=20)
endless = Pipeline(lambda: iter(int, 1), [Stage(same)], ListSink())
not_a_pipeline = [1, 2]


def make() -> Pipeline:
    return Pipeline(numbers, [Stage(same)], ListSink(), name="made")


def interrupted() -> Pipeline:
    def source() -> Iterator[int]:
        for item in range(10):
            yield press_ctrl_c(item)
        threading.Event().wait(0.2)
        yield from iter(int, 1)

    return Pipeline(source, [Stage(same)], ListSink(), chunk_size=2)


def read_once() -> Pipeline:
    return Pipeline(numbers(), [Stage(pause)], chunk_size=10)


def make_nothing() -> None:
    """Returns no pipeline."""


def make_trouble() -> Pipeline:
    raise OSError("no disk")


def make_wrong() -> Pipeline:
    return Pipeline([1], [Stage(same, workers=0)])


class Holder:
    inner = pipeline
