# SPDX-License-Identifier: Apache-2.0
"""Parallel sub-tasks of one item, inside a stage's function."""

from __future__ import annotations

import contextvars
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from airflow_parallel_provider.checks import check_whole
from airflow_parallel_provider.foreign.fork_guard import guarded

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def sub_map(function: Callable[[_Item], _Result], items: Iterable[_Item], *, workers: int = 4) -> Iterator[_Result]:
    """Call ``function`` for each of ``items`` on ``workers`` threads; yield the results in the order of the items.

    For use inside a stage's function, where one item has several parts (pages of a document, objects in an image)::

        def enrich(order):
            return {**order, "prices": list(sub_map(look_up, order["articles"], workers=8))}

    At most twice ``workers`` sub-tasks are submitted at a time, so that ``items`` may be long. The first error ends it:
    no further sub-task begins, and a note on the error names the sub-task that raised it.

    :raises PlanError: when ``workers`` is not a whole number from 1.
    """
    check_whole("sub_map(workers)", workers)
    return _results(function, iter(items), workers)


def _results(function: Callable[[Any], Any], items: Iterator[Any], workers: int) -> Iterator[Any]:
    pool = ThreadPoolExecutor(workers, thread_name_prefix="parallel-subtask")
    submitted: deque[Future[Any]] = deque()
    function = guarded(function)
    try:
        for number in itertools.count():
            for item in itertools.islice(items, 2 * workers - len(submitted)):
                submitted.append(pool.submit(contextvars.copy_context().run, function, item))
            if not submitted:
                return
            try:
                result = submitted.popleft().result()
            except BaseException as error:
                error.add_note(f"in sub-task {number}")
                raise
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
