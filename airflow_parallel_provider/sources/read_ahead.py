# SPDX-License-Identifier: Apache-2.0
"""Reads the parts of a source in several threads and yields them in their original order."""

from __future__ import annotations

import itertools
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager
from typing import Generic, TypeVar

from airflow_parallel_provider.errors import SourceError

Task = TypeVar("Task")
Part = TypeVar("Part")

_PARTS_PER_READER = 2
"""Parts per thread that are read or waiting: one that is being read, one that waits for its turn."""


class ReadingStopped(SourceError):
    """The run is being torn down and needs no further item."""


class StopReading:
    """Ends all waits of a source at once."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.is_set = False

    def set(self) -> None:
        """End all waits. From any thread."""
        with self.changed:
            self.is_set = True
            self.changed.notify_all()

    def wait(self, done: Callable[[], bool], seconds: float | None = None) -> bool:
        """Wait until ``done()`` is true; it is checked after each change.

        :param seconds: the longest wait; None: no limit.
        :return: whether ``done()`` is true.
        :raises ReadingStopped: when the source has to stop.
        """
        with self.changed:
            found = self.changed.wait_for(lambda: self.is_set or done(), seconds)
            if self.is_set:
                raise ReadingStopped("the run is being torn down")
            return found

    def pause(self, seconds: float) -> None:
        """Wait for a number of seconds.

        :raises ReadingStopped: when the source has to stop.
        """
        self.wait(lambda: False, seconds)


class _Promise(Generic[Part]):
    """A part that a thread will read."""

    def __init__(self, halt: StopReading) -> None:
        self._halt = halt
        self._done = False
        self._part: Part
        self._error: BaseException | None = None

    def set_result(self, part: Part) -> None:
        self._part = part
        self._finish()

    def set_exception(self, error: BaseException) -> None:
        self._error = error
        self._finish()

    def _finish(self) -> None:
        with self._halt.changed:
            self._done = True
            self._halt.changed.notify_all()

    def result(self) -> Part:
        self._halt.wait(lambda: self._done)
        if self._error is not None:
            raise self._error
        return self._part


def read_ahead(
    open_reader: Callable[[], AbstractContextManager[Callable[[Task], Part]]],
    tasks: Iterable[Task],
    *,
    readers: int,
    name: str,
    halt: StopReading,
) -> Generator[Part, None, None]:
    """Yield the part that each task reads, in the order of the tasks.

    :param open_reader: entered once in each thread; gives the function that reads a task (it may hold a connection).
    :param readers: number of threads. At most twice as many parts are read ahead.
    :param name: prefix of the threads' names.
    :param halt: ends the wait for a part.

    The error of a reader is raised in place of its part. Closing the iterator ends the threads. A thread that waits for
    its server ends when the server responds; it delays nothing meanwhile, since all threads are daemons.
    """
    orders: queue.SimpleQueue[tuple[Task, _Promise[Part]] | None] = queue.SimpleQueue()
    closed = threading.Event()

    def serve() -> None:
        try:
            with open_reader() as read:
                _serve(read, orders, closed)
        except BaseException as error:  # noqa: BLE001  # opening failed: every wait for a part raises this error
            while (order := orders.get()) is not None:
                order[1].set_exception(error)

    threads = [threading.Thread(target=serve, name=f"{name}-{number}", daemon=True) for number in range(readers)]
    for thread in threads:
        thread.start()
    waiting: deque[_Promise[Part]] = deque()
    rest = iter(tasks)
    try:
        for task in itertools.islice(rest, readers * _PARTS_PER_READER):
            waiting.append(_ordered(orders, task, halt))
        while waiting:
            part = waiting.popleft().result()
            for task in itertools.islice(rest, 1):
                waiting.append(_ordered(orders, task, halt))
            yield part
    finally:
        closed.set()
        for _ in threads:
            orders.put(None)


def _ordered(
    orders: queue.SimpleQueue[tuple[Task, _Promise[Part]] | None], task: Task, halt: StopReading
) -> _Promise[Part]:
    promise: _Promise[Part] = _Promise(halt)
    orders.put((task, promise))
    return promise


def _serve(
    read: Callable[[Task], Part],
    orders: queue.SimpleQueue[tuple[Task, _Promise[Part]] | None],
    closed: threading.Event,
) -> None:
    while (order := orders.get()) is not None:
        task, promise = order
        if closed.is_set():
            return
        try:
            promise.set_result(read(task))
        except BaseException as error:  # noqa: BLE001  # raised again by the wait for the part
            promise.set_exception(error)
