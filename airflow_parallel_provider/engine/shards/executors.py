# SPDX-License-Identifier: Apache-2.0
"""What shards may run on: anything with ``submit(function, *arguments) -> future``, as in ``concurrent.futures``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, Protocol
from urllib.parse import urlsplit

from airflow_parallel_provider.errors import PlanError

FIELD = "shards_on"

MakeExecutor = Callable[[], Any]

_CURE = (
    "give a function without arguments that makes an executor (anything with submit(function, *arguments) -> future): "
    "lambda: ProcessPoolExecutor(4, mp_context=get_context('spawn')), ray_executor, "
    "lambda: Client('tls://...').get_executor(pure=False, retries=0)"
)


class ShardFuture(Protocol):
    """What ``submit`` returns; every future of ``concurrent.futures`` is one."""

    def add_done_callback(self, function: Callable[[Any], object], /) -> object:
        """Call a function when the call has ended, on any thread."""

    def result(self) -> Any:
        """What the call has returned.

        :raises BaseException: if it has not returned.
        """

    def cancel(self) -> object:
        """Do not make the call, if it has not begun."""


def check_factory(make: object) -> None:
    """Check what an author gives as ``shards_on``.

    :raises PlanError: if it is no function, or an executor that exists already.
    """
    if hasattr(make, "submit") and not isinstance(make, type):
        cure = "give a function that makes it (shards_on=lambda: ...): one that breaks is made anew"
        raise PlanError(FIELD, make, cure)
    if not callable(make):
        raise PlanError(FIELD, make, _CURE)


def made_executor(make: MakeExecutor) -> Any:
    """An executor of the author's.

    :raises PlanError: if it is none, or its calls are threads of this process, or forks of it.
    """
    executor = make()
    if not callable(getattr(executor, "submit", None)):
        raise PlanError(FIELD, executor, _CURE)
    if isinstance(executor, ThreadPoolExecutor):
        cure = (
            "its shards would be threads of this process: they share one interpreter, one crash ends all of them, and "
            "each would count the CPU time and memory of all. Use Stage(workers=...), or a ProcessPoolExecutor"
        )
        raise PlanError(FIELD, executor, cure)
    context: Any = getattr(executor, "_mp_context", None)  # of a process pool
    if getattr(context, "get_start_method", str)() == "fork":
        close_executor(executor, kill=True)
        cure = (
            "its processes would be copies of this one, with its locks and open connections (a SQLite file then stays "
            "locked for ever): ProcessPoolExecutor(4, mp_context=multiprocessing.get_context('spawn'))"
        )
        raise PlanError(FIELD, executor, cure)
    return executor


def close_executor(executor: Any, *, kill: bool) -> None:
    """Give an executor up without waiting for its calls.

    :param kill: end the processes of a pool on this machine; at its end the interpreter would wait for their calls.
    """
    processes = getattr(executor, "_processes", None)  # of a process pool; public only from Python 3.14 on
    found = list(processes.values()) if kill and isinstance(processes, Mapping) else []
    with contextlib.suppress(Exception):  # it may be broken, or its cluster gone
        if isinstance(executor, Executor) and hasattr(executor, "_processes"):
            executor.shutdown(wait=False, cancel_futures=True)
        elif callable(getattr(executor, "shutdown", None)):
            executor.shutdown(wait=False)
    for process in found:
        with contextlib.suppress(Exception):
            process.kill()


def plain_address(executor: Any) -> str | None:
    """The address of a Dask scheduler to which everything travels in the clear; None: there is none, or not known."""
    client = getattr(executor, "_client", None)
    address = getattr(getattr(client, "scheduler", None), "address", None)
    if not isinstance(address, str) or not address.startswith("tcp://"):
        return None
    host = urlsplit(address).hostname or ""
    return None if host in ("localhost", "::1") or host.startswith("127.") else address
