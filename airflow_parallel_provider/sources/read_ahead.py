"""Reading the parts of a source in several threads, and handing them on in their own order."""

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
"""Parts that may be read or wait, per thread: one that is being read, one that waits for its turn."""


class ReadingStopped(SourceError):
    """The run is being torn down; nobody waits for the items any more."""


class StopReading:
    """Ends all waiting of a source at once."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.is_set = False

    def set(self) -> None:
        """End it. From any thread."""
        with self.changed:
            self.is_set = True
            self.changed.notify_all()

    def wait(self, done: Callable[[], bool], seconds: float | None = None) -> bool:
        """Wait until ``done`` (looked at after each change), or for so many seconds; return whether it is.

        :raises ReadingStopped: when the source is to end.
        """
        with self.changed:
            found = self.changed.wait_for(lambda: self.is_set or done(), seconds)
            if self.is_set:
                raise ReadingStopped("the run is being torn down")
            return found

    def pause(self, seconds: float) -> None:
        """Do nothing for so many seconds.

        :raises ReadingStopped: when the source is to end.
        """
        self.wait(lambda: False, seconds)


class _Promise(Generic[Part]):
    """A part that is going to be there."""

    def __init__(self, halt: StopReading) -> None:
        self._halt = halt
        self._there = False
        self._part: Part
        self._error: BaseException | None = None

    def keep(self, part: Part) -> None:
        self._part = part
        self._settle()

    def break_(self, error: BaseException) -> None:
        self._error = error
        self._settle()

    def _settle(self) -> None:
        with self._halt.changed:
            self._there = True
            self._halt.changed.notify_all()

    def wait(self) -> Part:
        self._halt.wait(lambda: self._there)
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
    """Yield what reading each task gives, in the order of the tasks.

    :param open_reader: entered once in each thread; gives the function that reads (it may hold a connection).
    :param readers: threads. At most twice as many parts are there before they are asked for.
    :param name: of the threads.
    :param halt: ends the waiting for a part.

    An error of a reader is raised where its part would have come. Giving the iteration up ends the threads; one that
    waits for its server then ends when that answers, and holds up nothing: they are daemons.
    """
    orders: queue.SimpleQueue[tuple[Task, _Promise[Part]] | None] = queue.SimpleQueue()
    given_up = threading.Event()

    def serve() -> None:
        try:
            with open_reader() as read:
                _serve(read, orders, given_up)
        except BaseException as error:  # noqa: BLE001  # opening failed: whoever waits for a part is told
            while (order := orders.get()) is not None:
                order[1].break_(error)

    threads = [threading.Thread(target=serve, name=f"{name}-{number}", daemon=True) for number in range(readers)]
    for thread in threads:
        thread.start()
    waiting: deque[_Promise[Part]] = deque()
    rest = iter(tasks)
    try:
        for task in itertools.islice(rest, readers * _PARTS_PER_READER):
            waiting.append(_ordered(orders, task, halt))
        while waiting:
            part = waiting.popleft().wait()
            for task in itertools.islice(rest, 1):
                waiting.append(_ordered(orders, task, halt))
            yield part
    finally:
        given_up.set()
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
    given_up: threading.Event,
) -> None:
    while (order := orders.get()) is not None:
        task, promise = order
        if given_up.is_set():
            return
        try:
            promise.keep(read(task))
        except BaseException as error:  # noqa: BLE001  # raised again where the part is waited for
            promise.break_(error)
