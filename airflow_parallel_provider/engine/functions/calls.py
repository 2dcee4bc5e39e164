# SPDX-License-Identifier: Apache-2.0
"""Makes the calls of a stage's function, the same way in threads, processes and inline, and records how each ended.

This module runs inside worker processes: it imports only the standard library and light modules of this package.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.engine.dataflow.keys import TABLE, ResultShape
from airflow_parallel_provider.engine.functions.outcome import (
    CallFailure,
    InvalidReturn,
    Outcome,
    failure_of,
    failure_of_parts,
)
from airflow_parallel_provider.engine.functions.status_page import BEGAN_NS, CALL, LIMIT, Page, limit_word
from airflow_parallel_provider.engine.interfaces.drop import DROP
from airflow_parallel_provider.engine.interfaces.failed_part import FailedPart
from airflow_parallel_provider.foreign.calls import type_name
from airflow_parallel_provider.foreign.fork_guard import end_child, watch

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.plan.retry import Retry

_DROPS = type(DROP)

_NO_RESULTS = frozenset({_DROPS, FailedPart})

_SPECIAL = frozenset({type(DROP), GeneratorType, CoroutineType})


def run_calls(
    call: Callable[[Any], Any],
    values: Sequence[Any],
    *,
    batched: bool,
    retry: Retry,
    page: Page,
    outcome: Outcome | None = None,
    sequence: int = 0,
    own_values: bool = False,
) -> Outcome:
    """Call the function once per element of ``values`` and record how each call ended.

    :param batched: whether each value is a batch.
    :param page: the status page. It shows the watching thread or process which call is running and since when, so that
        the item of a lost or stuck worker is known without a message per item.
    :param outcome: given where the watching thread must see the calls made so far.
    :param own_values: no other part of the engine has these lists. Otherwise the function gets copies: one that empties
        or sorts its batch must not change what is tried again.
    :param sequence: number of the message. The watcher may stop the calls early by writing LIMIT for it; then there are
        fewer durations than values.
    """
    limit_from = limit_word(sequence, 0)
    outcome = outcome or Outcome()
    outcome.shapes = [] if batched else None
    results, durations, clock = outcome.results, outcome.nanoseconds, time.monotonic_ns
    sizes = list(map(len, values)) if batched else []  # before the calls: a function may empty its list
    copied = batched and not own_values
    pid = watch(page)
    began = clock()
    try:
        for number, value in enumerate(values):
            page[BEGAN_NS] = began  # first, so that this call is never seen with the age of the one before
            page[CALL] = number
            if page[LIMIT] > limit_from and number >= page[LIMIT] - limit_from:
                break
            try:
                result = call(value[:] if copied else value)
                if batched:
                    record_batch(outcome, sizes[number], result)
                elif type(result) in _SPECIAL or outcome.shapes is not None:
                    record_item(outcome, number, result)
                else:
                    results.append(result)
            except BaseException as error:  # noqa: BLE001 - SystemExit and friends fail the item, not the worker
                end_child(pid, error)
                record_failure(outcome, number, failure_of(error, retry))
            ended = clock()
            durations.append(ended - began)
            began = ended
    finally:
        end_child(pid)
    return outcome


def record_failure(outcome: Outcome, number: int, failure: CallFailure) -> None:
    """Record that call ``number`` failed: it has no results."""
    if outcome.shapes is None:
        outcome.shapes = [1] * number
    outcome.shapes.append(0)
    outcome.failures[number] = failure


def record_item(outcome: Outcome, number: int, result: Any) -> None:
    """Record that call ``number`` of a stage without ``batch_size`` returned ``result``.

    :raises InvalidReturn: when it is a coroutine.
    """
    kind = type(result)  # not isinstance: an object may lie about its class
    if kind is CoroutineType:
        result.close()
        raise InvalidReturn('the function returned a coroutine: declare the stage with kind="async"')
    record_results(outcome, number, list(result) if kind is GeneratorType else [result])


def record_results(outcome: Outcome, number: int, made: list[Any]) -> None:
    """Record what call ``number`` made of its item: any number of results, failed parts and ``DROP``."""
    if not _NO_RESULTS.isdisjoint(map(type, made)):
        parts = [each for each in made if type(each) is FailedPart]
        made = [each for each in made if type(each) not in _NO_RESULTS]
        if parts:
            outcome.failures[number] = failure_of_parts(parts)
    if outcome.shapes is None:
        outcome.shapes = [1] * number
    outcome.results.extend(made)
    outcome.shapes.append(len(made))


def record_batch(outcome: Outcome, size: int, result: Any) -> None:
    """Record that the next call, of a batch of ``size`` items, returned ``result``.

    :raises InvalidReturn: when it is not an iterable of results.
    """
    made, shape = batch_results(result, size)
    outcome.results.extend(made)
    assert outcome.shapes is not None
    outcome.shapes.append(shape)


def is_table(value: object) -> bool:
    """Whether a value is a table of rows (Arrow, pandas, polars): iterating one would give columns, not rows."""
    return hasattr(value, "columns") and any(
        hasattr(value, name) for name in ("__dataframe__", "__arrow_c_stream__", "__arrow_c_array__")
    )


def rows_of_tables(results: Sequence[Any]) -> int:
    """Rows of the tables in a list of results; the first one tells whether there are any.

    Asks the classes, as code of the values may hang.
    """
    if not is_table(type(results[0])):
        return 0
    return sum(len(each) for each in results if is_table(type(each)) and hasattr(type(each), "__len__"))


def batch_results(result: Any, size: int) -> tuple[list[Any], ResultShape]:
    """Check and list what a batch function returned for ``size`` items.

    :raises InvalidReturn: when it is not an iterable of results.
    """
    if is_table(result):
        return [result], TABLE
    if result is None or isinstance(result, (str, bytes, Mapping, CoroutineType)) or not isinstance(result, Iterable):
        if type(result) is CoroutineType:
            result.close()
        raise InvalidReturn(
            f"the function returned {type_name(result)} for a batch of {size} items; with batch_size it must "
            "return an iterable of results (return [] to drop them all)"
        )
    # By iteration: the length of a list's subclass may not be that of its content, and list() would ask for it.
    made = result if type(result) is list else [each for each in result]  # noqa: C416
    if _DROPS not in set(map(type, made)):  # not "DROP in made": arrays define == differently
        return made, len(made)
    kept = [index for index, each in enumerate(made) if each is not DROP]
    remaining = [made[index] for index in kept]
    return remaining, (kept if len(made) == size else len(remaining))
