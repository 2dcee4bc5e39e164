"""Attempts at a load in processes of their own, which can be killed at a point of their choice."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.support.databases import TestDatabase

KILLED = -signal.SIGKILL


class Child:
    """A forked process that runs a function and ends."""

    def __init__(self, function: Callable[[], object]) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                function()
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        self._ended: int | None = None

    def wait(self) -> int:
        """Wait for the end; the exit code, negative for a signal."""
        if self._ended is None:
            _, status = os.waitpid(self.pid, 0)
            self._ended = os.waitstatus_to_exitcode(status)
        return self._ended

    def kill(self) -> int:
        """SIGKILL, and wait."""
        os.kill(self.pid, signal.SIGKILL)
        return self.wait()


def killing_hook(visits: int, point: str | None = None) -> Any:
    """A hook class that ends its process with SIGKILL when it is at ``point`` (None: at any) for the nth time."""
    from airflow_parallel_provider.hooks.sink_table import SinkTableHook

    class KillingHook(SinkTableHook):
        seen = 0

        def reached(self, here: str) -> None:
            self.seen += point is None or point == here
            if self.seen == visits and (point is None or point == here):
                os.kill(os.getpid(), signal.SIGKILL)

    return KillingHook


def rows_of(chunk: int, size: int) -> list[dict[str, int | str]]:
    """The rows of a chunk, the same at each attempt."""
    return [{"id": chunk * size + at, "name": f"row {at} of {chunk}"} for at in range(size)]


def attempt(database: TestDatabase, chunks: int, size: int, number: int, cls: Any = None, **options: Any) -> None:
    """One attempt at a load: write the chunks that are not in."""
    from airflow_parallel_provider.engine.interfaces.records import LoadSpec

    spec = LoadSpec("nightly", size, f"range({chunks * size})", attempt=number)
    with database.hook(cls=cls, **options) as hook:
        done = hook.open(spec)
        for chunk in range(chunks):
            if f"{chunk:08d}" not in done:
                hook.write_chunk(f"{chunk:08d}", rows_of(chunk, size), first_position=chunk * size)
        hook.consolidate()


def everything(chunks: int, size: int) -> list[tuple[int, str]]:
    """The table as it must be in the end."""
    return [(row["id"], row["name"]) for chunk in range(chunks) for row in rows_of(chunk, size)]  # type: ignore[misc]
