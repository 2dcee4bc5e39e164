"""Meeting points for tests: who waits for whom is said by events, never by sleeping.

Every wait has a deadline and fails loudly, so that a mistake in a test is no hang.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")

WAIT_SECONDS = 30.0


def at_once(*functions: Callable[[], Result]) -> list[Result]:
    """Call functions on a thread each, at the same time; return what they returned, in their order.

    The first error is raised when all have ended.
    """
    with ThreadPoolExecutor(len(functions)) as pool:
        futures = [pool.submit(function) for function in functions]
    return [future.result() for future in futures]


class Gate:
    """Closed at first; who passes waits until it is opened. Knows who has come."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._reached = threading.Event()

    def pass_through(self) -> None:
        """Wait until the gate is open."""
        self._reached.set()
        if not self._open.wait(WAIT_SECONDS):
            raise AssertionError("the gate was not opened")

    def wait(self, seconds: float) -> bool:
        """Wait at most so long; say whether it is open."""
        return self._open.wait(seconds)

    def open(self) -> None:
        self._open.set()

    @property
    def is_open(self) -> bool:
        return self._open.is_set()

    def wait_for_visitor(self) -> None:
        """Wait until a thread waits at the gate."""
        if not self._reached.wait(WAIT_SECONDS):
            raise AssertionError("no thread came to the gate")


class Sequencer:
    """Lets threads go through numbered steps in order: ``with sequencer(2)`` waits until steps 0 and 1 are done."""

    def __init__(self) -> None:
        self._done = 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def __call__(self, step: int) -> Iterator[None]:
        with self._changed:
            if not self._changed.wait_for(lambda: self._done >= step, WAIT_SECONDS):
                raise AssertionError(f"step {step} never came: stopped after {self._done}")
        try:
            yield
        finally:
            with self._changed:
                self._done = max(self._done, step + 1)
                self._changed.notify_all()


@dataclass(frozen=True)
class Meeting:
    """A meeting point between processes: a named pipe. Both sides wait for each other. Travels by pickle."""

    path: str

    @classmethod
    def at(cls, path: Path) -> Meeting:
        os.mkfifo(path)
        return cls(str(path))

    def arrive(self, text: str = "") -> None:
        """Called by the worker: wait for the test, and give it a text."""
        Path(self.path).write_text(f"{text}\n")

    def expect(self) -> str:
        """Called by the test: wait for the worker, take its text."""
        return Path(self.path).read_text().strip()


@dataclass(frozen=True)
class Once:
    """True for the first caller among all processes, False for all others."""

    path: str

    def __call__(self) -> bool:
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True


@contextlib.contextmanager
def in_background(function: Callable[[], object]) -> Iterator[None]:
    """Run a function on another thread, join it at the end and raise what it raised."""
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            function()
        except BaseException as error:  # handed to the test below
            errors.append(error)

    thread = threading.Thread(target=guarded, name="test-background", daemon=True)
    thread.start()
    yield
    thread.join(WAIT_SECONDS)
    if thread.is_alive():
        raise AssertionError("the background function did not end")
    if errors:
        raise errors[0]


class Clock:
    """Seconds since a moment, for asserting budgets."""

    def __init__(self) -> None:
        self._from = time.monotonic()

    def restart(self) -> None:
        self._from = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._from
