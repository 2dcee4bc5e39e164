# SPDX-License-Identifier: Apache-2.0
"""pytest fixtures for pipelines. Opt in, in the top ``conftest.py``::

pytest_plugins = ["airflow_parallel_provider.testing.fixtures"]
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from airflow_parallel_provider.testing import checks, clock, inline
from airflow_parallel_provider.testing.fault_plan import Fault, FaultPlan

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.pipeline import Pipeline

_GRACE = 5.0


@pytest.fixture
def run_inline() -> Callable[..., inline.InlineResult]:
    """:func:`airflow_parallel_provider.testing.run_inline`, which also asserts that no item was lost."""

    def run(pipeline: Pipeline, items: Any = None, **options: Any) -> inline.InlineResult:
        result = inline.run_inline(pipeline, items, **options)
        checks.assert_conserved(result.report)
        return result

    return run


@pytest.fixture
def fast_retries() -> Iterator[clock.VirtualClock]:
    """No :class:`Retry` waits during the test; the value is the clock that records the pauses."""
    with clock.fast_retries() as virtual:
        yield virtual


@pytest.fixture
def fault_plan() -> Iterator[Callable[..., FaultPlan]]:
    """Creates :class:`FaultPlan` objects. The test fails at its end unless all its faults struck."""
    made: list[FaultPlan] = []
    with ExitStack() as plans:

        def make(*faults: Fault, seed: int = 0) -> FaultPlan:
            plan = plans.enter_context(FaultPlan(*faults, seed=seed))
            made.append(plan)
            return plan

        yield make
        for plan in made:
            plan.assert_fired()


@pytest.fixture
def nothing_left_behind() -> Iterator[None]:
    """The test fails if it leaves a thread or a worker process of a pipeline behind."""
    import psutil

    process = psutil.Process()
    threads, children = set(threading.enumerate()), set(process.children(recursive=True))
    yield
    left = [each for each in set(threading.enumerate()) - threads if each.name.startswith("parallel-")]
    for thread in left:
        thread.join(_GRACE)
    names = [thread.name for thread in left if thread.is_alive()]
    _, alive = psutil.wait_procs(list(set(process.children(recursive=True)) - children), timeout=_GRACE)
    names += [f"process {each.pid}" for each in alive]
    if names:
        pytest.fail(f"left behind: {', '.join(sorted(names))}", pytrace=False)
