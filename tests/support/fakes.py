"""Small stand-ins for what an engine module talks to, so that it can be tested alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from airflow_parallel_provider.engine.dataflow.bundle import Bundle
from airflow_parallel_provider.engine.dataflow.channel import Channel
from airflow_parallel_provider.engine.dataflow.chunk import Chunk
from airflow_parallel_provider.engine.interfaces.stop import StopToken
from airflow_parallel_provider.errors import RunFailed
from tests.support.sync import WAIT_SECONDS


class FakeTime:
    """Takes the place of the ``time`` module: stands still until the test moves it."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def monotonic(self) -> float:
        return self.now

    def monotonic_ns(self) -> int:
        return int(self.now * 1e9)

    def advance(self, seconds: float) -> None:
        self.now += seconds


class FakeContext:
    """A run that keeps what its parts tell it."""

    def __init__(self) -> None:
        self.stop = StopToken()
        self.failed: RunFailed | None = None
        self.error: BaseException | None = None
        self.warnings: list[str] = []
        self.committing = True

    def fail(self, error: RunFailed) -> None:
        self.failed = error

    def crashed(self, error: BaseException) -> None:
        self.error = error

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def may_commit(self) -> bool:
        return self.committing


class Sized:
    """A value that says how many bytes it holds."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes


class SeenCondition(threading.Condition):
    """A condition that reports when a thread has begun to wait, and how many were to wake up each time."""

    def __init__(self, lock: Any) -> None:
        super().__init__(lock)
        self.waited = threading.Event()
        self._waits = threading.Semaphore(0)
        self.notified: list[int] = []

    def notify(self, n: int = 1) -> None:
        self.notified.append(n)
        super().notify(n)

    def wait(self, timeout: float | None = None) -> bool:
        self.waited.set()
        self._waits.release()
        return super().wait(timeout)

    def expect_waiter(self) -> None:
        """Wait until a thread waits."""
        assert self.waited.wait(WAIT_SECONDS), "no thread waited"

    def expect_waits(self, count: int) -> None:
        """Wait until ``count`` waits have begun, those of earlier calls of this method not counted."""
        assert all(self._waits.acquire(timeout=WAIT_SECONDS) for _ in range(count)), "too few threads waited"


def watch_writers(channel: Channel) -> SeenCondition:
    """Have a channel tell when a writer waits for room."""
    condition = channel._writable = SeenCondition(channel._lock)
    return condition


def watch_readers(channel: Channel) -> SeenCondition:
    """Have a channel tell when a reader waits for work."""
    condition = channel._readable = SeenCondition(channel._lock)
    return condition


def chunk(index: int = 0, stages: int = 1, first_position: int = 0) -> Chunk:
    return Chunk(index, first_position, stages)


def calls(*values: Any, of: Chunk | None = None) -> Bundle:
    """A bundle of single calls."""
    return Bundle(of or chunk(), list(range(len(values))), list(values), len(values))


def batches(*values: list[Any], of: Chunk | None = None) -> Bundle:
    """A bundle of batches."""
    size, keys = 0, []
    for batch in values:
        keys.append(list(range(size, size + len(batch))))
        size += len(batch)
    return Bundle(of or chunk(), keys, list(values), size)


def taken(dispatch: list[Bundle] | None) -> list[Any]:
    """The values of a dispatch."""
    assert dispatch is not None, "nothing was taken"
    return [value for bundle in dispatch for value in bundle.values]


def up_to(number: int) -> Callable[[int], int]:
    """A limit that does not depend on what waits."""
    return lambda waiting: number
