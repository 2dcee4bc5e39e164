# SPDX-License-Identifier: Apache-2.0
"""The calls of an async stage's function: awaiting what they return, and recording it."""

from __future__ import annotations

import inspect
from typing import Any

from airflow_parallel_provider.engine.functions.calls import record_item, record_results
from airflow_parallel_provider.engine.functions.outcome import Outcome


class YieldedResults(list[Any]):
    """What an async generator yielded."""


async def await_call(result: Any) -> Any:
    """The result of a coroutine; for an async generator all that it yields."""
    if inspect.isasyncgen(result):
        return YieldedResults([each async for each in result])
    return await result


async def await_if_needed(result: Any) -> Any:
    """The result of ``setup`` or ``teardown``, which may be plain functions or coroutine functions."""
    return await result if inspect.isawaitable(result) else result


def record_async_item(outcome: Outcome, result: Any) -> None:
    """Record that the only call of ``outcome`` returned ``result``, in a stage without ``batch_size``."""
    if type(result) is not YieldedResults:
        record_item(outcome, 0, result)
        return
    record_results(outcome, 0, result)
