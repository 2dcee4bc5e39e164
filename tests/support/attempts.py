"""Attempts at a load that stop at a point, or are broken off in the middle of a statement."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable
from typing import Any

from tests.support.databases import SPEC

SECOND = dataclasses.replace(SPEC, attempt=2)


class Gate:
    """Two pipes between a child that stops at a point and the test that lets it go."""

    def __init__(self) -> None:
        self._here, self._there = os.pipe(), os.pipe()

    def hold(self) -> None:
        """In the child: say that the point is reached, and wait."""
        os.write(self._here[1], b"x")
        os.read(self._there[0], 1)

    def wait_until_held(self) -> None:
        """In the test."""
        assert os.read(self._here[0], 1) == b"x"

    def open(self) -> None:
        """In the test: let the child go on."""
        os.write(self._there[1], b"x")

    def close(self) -> None:
        for end in (*self._here, *self._there):
            os.close(end)


def holding_hook(gate: Gate, point: str) -> Any:
    """A hook class that stops at a point of a commit."""
    from airflow_parallel_provider.hooks.sink_table import SinkTableHook

    class HoldingHook(SinkTableHook):
        def reached(self, here: str) -> None:
            if here == point:
                gate.hold()

    return HoldingHook


def broken_off(hook: Any, write: Callable[[], object], busy: threading.Event) -> BaseException:
    """Open a load in another thread, write, and interrupt that until it ends; the error it ends with.

    :param busy: set when the statement that is to be broken off is about to run.
    """
    errors: list[BaseException] = []

    def attempt() -> None:
        with hook:
            try:
                hook.open(SPEC)
                write()
            except BaseException as error:
                errors.append(error)

    thread = threading.Thread(target=attempt)
    thread.start()
    assert busy.wait(20)
    for _ in range(300):
        hook.interrupt()
        thread.join(0.1)
        if not thread.is_alive():
            break

    assert not thread.is_alive()
    return errors[0]
