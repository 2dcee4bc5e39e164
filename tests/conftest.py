"""Guards around every test: nothing is left behind. A hang is ended by pytest-timeout, with the stacks of all threads.

Airflow is not imported here: engine tests must start in milliseconds.
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from tests.support import airflow_env, databases, leftovers, memory_disk, turns
from tests.support.airflow_fixtures import context_of, metadata_database
from tests.support.database_fixtures import database, sqlite

__all__ = ["context_of", "database", "metadata_database", "sqlite"]

memory_disk.use()
airflow_env.isolate()  # for all tests alike: the first one that imports Airflow fixes its settings

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A shell has the jobs in its background ignore Ctrl-C, and children inherit that; here some are to be interrupted.
    signal.signal(signal.SIGINT, signal.default_int_handler)

_GRACE_SECONDS = 3.0


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """``pytest -n 3 --dist loadscope``, which is what ``make test`` does, has three lanes."""
    from tests.support.lanes import Lanes

    return Lanes(config, log) if config.getvalue("dist") == "loadscope" else None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """Look for garbage only among what tests make: the modules and thousands of tests found here stay to the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_unconfigure() -> None:
    """At the end everything is garbage: libraries complain about what they find then."""
    gc.unfreeze()


@pytest.hookimpl(tryfirst=True)  # before those that are slow are left out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In a lane, the longest tests come first."""
    turns.leave_out(items)
    if "PYTEST_XDIST_WORKER" in os.environ:
        from tests.support.lanes import place_of

        items.sort(key=lambda item: place_of(item.nodeid))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Report a failure without garbage collection in between.

    Python 3.11 raises SystemError (CPython issue 106905) when a finalizer formats a traceback while another one is
    being formatted: the first test that hung then ended the whole session.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _children_are_watched() -> Iterator[None]:
    leftovers.adopt_orphans()
    with leftovers.watching_children():
        yield


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest, _children_are_watched: None) -> Iterator[None]:
    """Fail a test that leaves a thread, a process, a descriptor or a shared-memory segment behind.

    Tests with a real scheduler (``system``) have fixtures that outlive them and look after their own processes; tests
    that import Airflow (``airflow``) may leave its database connections and its API threads open.
    """
    if request.node.get_closest_marker("system"):
        yield
        databases.close_kept()
        return
    before = leftovers.Snapshot.take()
    yield
    databases.close_kept()
    left = leftovers.wait_until_gone(before, 0.0)
    if request.node.get_closest_marker("airflow"):
        left = _without_airflow(left)
    if left:
        left = leftovers.wait_until_gone(before, _GRACE_SECONDS)
        if request.node.get_closest_marker("airflow"):
            left = _without_airflow(left)
    if left:
        text = left.describe()
        garbage = leftovers.only_garbage(left, before)
        leftovers.end_processes(left.processes)
        note = "left until the garbage collector came" if garbage else "left behind"
        pytest.fail(f"{note}:\n{text}", pytrace=False)
    undead = leftovers.zombies(before)
    if undead:
        pytest.fail("\n".join(undead), pytrace=False)


def _without_airflow(left: leftovers.Leftovers) -> leftovers.Leftovers:
    """Only what must be ours: threads the engine named, processes, shared memory."""
    ours = [thread for thread in left.threads if thread.name.startswith(("pipeline", "parallel"))]
    return leftovers.Leftovers(threads=ours, processes=left.processes, segments=left.segments)
