# SPDX-License-Identifier: Apache-2.0
"""Keeps a process that a user's function forks from going on in the place of its parent.

A function may start processes of its own, with ``os.fork`` or ``multiprocessing``. A child that *returns* from the
function, or raises, is a copy of its parent: it would make the calls that follow a second time, read the source or
commit a second time, over the same connections. It ends here instead, with the exit code that an ordinary program
would have.

Guarded are functions of stages (:func:`watch`, :func:`watch_loop`), ``setup``, ``teardown``, sub-tasks, functions and
classes of a source (:func:`watch_reader`) and of a sink, ``validate`` (:func:`guarded`), and tasks of a pool of threads
that such a function has made (:func:`_end_with_task`). A plain thread needs no guard: after a fork no other thread
exists, so the child ends with it.

Known limitations: a child that a source forks while the first stage wants batches reads on to the end of that batch;
one that a ``ThreadPool`` forks in a task of several items (``map``) makes the calls of that task.
"""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
    import asyncio

Item = TypeVar("Item")

_current = threading.local()
"""Of the thread that makes the calls: what :func:`_in_child` disables. After a fork only this thread exists."""

_forks = 0
"""Counted up in each forked child. To read it costs a fiftieth of a look at the process id."""

_runs = 0
"""Runs of this process that have not ended; a worker process is one. Only they guard pools."""

_POOLS = {
    "concurrent.futures.thread": ("_WorkItem", "run"),
    "multiprocessing.pool": ("worker",),
}
"""By module: the function of a pool of threads that runs a task."""


def run_begins() -> None:
    """From now on a child that is forked in a pool of threads ends with its task."""
    global _runs
    _runs += 1


def run_ended() -> None:
    """The opposite, once no run is left."""
    global _runs
    _runs -= 1


def watch(page: Any) -> int:
    """From now on a fork on this thread ends the loop that writes this status page, in the child.

    :return: process id of this process, for :func:`end_child`.
    """
    _current.page = page
    return os.getpid()


def watch_loop(loop: asyncio.AbstractEventLoop) -> int:
    """The same for the event loop of this thread: in the child it runs nothing but the callback that has forked."""
    _current.loop = loop
    return os.getpid()


def watch_reader(disable: Callable[[], None]) -> None:
    """The same for what reads a source on this thread.

    :param disable: called in the child; lets the reader take a :class:`LastLock` before long.
    """
    _current.disable = disable


class LastLock:
    """A lock that ends the process instead of being taken: at the fork another thread may have held the real one."""

    def __enter__(self) -> None:
        """End the process."""
        _exit(None)

    def __exit__(self, *_: object) -> None:
        """Never called."""


def _in_child() -> None:
    """After a fork, in the child, on the thread that forked.

    The loop over the calls has no look at the process id of its own, which would cost as much as a trivial call.
    Without its page it raises an error before the next call.
    """
    global _forks
    _forks += 1
    page, _current.page = getattr(_current, "page", None), None
    if isinstance(page, memoryview):
        page.release()  # shared with the task process, which believes what is written there
    elif page is not None:
        page.clear()
    loop, _current.loop = getattr(_current, "loop", None), None
    if loop is not None:
        ready = getattr(loop, "_ready", None)  # the callbacks of this round, of other coroutines; of asyncio's own loop
        if ready is not None:
            ready.clear()
        loop.stop()
    getattr(_current, "disable", lambda: None)()
    if _runs:
        with contextlib.suppress(Exception):  # another Python may have other pools
            _end_with_task()


def _end_with_task() -> None:
    """In a child that a task of a pool of threads has forked: let it end with this task.

    It would take the tasks that wait for the pool, and make them a second time.
    """
    runs = [_code_of(module, names) for module, names in _POOLS.items()]
    frame = sys._getframe()
    while (frame := frame.f_back) is not None:  # type: ignore[assignment]  # mypy takes it for the first one's type
        if frame.f_code not in runs:
            continue
        found = frame.f_locals
        if "inqueue" in found:  # multiprocessing.pool.ThreadPool
            _replace_tasks(found["inqueue"])
        else:
            future = found["self"].future
            future.set_result, future.set_exception = (lambda _: _exit(None)), _exit


def _code_of(module: str, names: Iterable[str]) -> Any:
    found: Any = sys.modules.get(module)
    for name in names:
        found = getattr(found, name, None)
    return getattr(found, "__code__", None)


def _replace_tasks(tasks: Any) -> None:
    with contextlib.suppress(queue.Empty):
        while True:
            tasks.get_nowait()
    tasks.put((None, None, partial(_exit, None), (), {}))


os.register_at_fork(after_in_child=_in_child)


def end_child(pid: int, error: BaseException | None = None) -> None:
    """End this process unless it is the one with this id.

    :param error: what the function raised.
    """
    if os.getpid() != pid:
        _exit(error)


def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, from which a forked child does not return."""

    def call(*args: Any) -> Any:
        forks = _forks
        try:
            result = function(*args)
        except BaseException as error:
            if _forks != forks:
                _exit(error)
            raise
        if _forks != forks:
            _exit(None)
        return result

    return call


def guarded_items(items: Iterable[Item]) -> Iterator[Item]:
    """The items, of which a child that is forked while one is made gets none."""
    forks = _forks
    try:
        for item in items:
            if _forks != forks:
                _exit(None)
            yield item
    except BaseException as error:
        if _forks != forks:
            _exit(error)
        raise
    if _forks != forks:
        _exit(None)


def _exit(error: BaseException | None) -> NoReturn:
    code = 1
    try:
        code = _exit_code(error)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
    finally:
        os._exit(code)  # without the worker's own end, such as its threads' and connections'


def _exit_code(error: BaseException | None) -> int:
    """As the interpreter does it at the end of a program."""
    if error is None:
        return 0
    if not isinstance(error, SystemExit):
        import traceback

        traceback.print_exception(error)
        return 1
    if error.code is None or isinstance(error.code, int):
        return (error.code or 0) & 0xFF
    sys.stderr.write(f"{error.code}\n")
    return 1
