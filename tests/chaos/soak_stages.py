"""The stages of the soak: a thread, a process and a coroutine stage that fail, hang and are killed at random.

A module of its own, because each fork server imports it. Which items are bad for ever is known beforehand; what else
happens to an item is drawn anew in each call.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

from airflow_parallel_provider import Retry, Stage

Row = dict[str, int]

ALWAYS_HANGS = 1234
"""The one item that no process ever finishes: it is found by timeouts and by halving its batch."""

TIMEOUT = 1.0
RETRY = Retry(8, backoff=0.01, max_backoff=0.2)


class Refused(Exception):
    """What the stages raise."""


def always_bad(item: int) -> bool:
    """Whether one of the stages gives up on it, whatever happens."""
    return item % 997 == 5 or item % 991 == 7 or item % 983 == 3 or item == ALWAYS_HANGS


def value_of(item: int) -> int:
    """What a row has to hold."""
    return item * 7 % 1009


def fetch(item: int) -> Row:
    """On a thread. One call in ten thousand takes too long: its thread is left behind until it returns."""
    chance = random.random()
    if item % 997 == 5 or chance < 0.01:
        raise Refused("not fetched")
    if chance > 0.9999:
        time.sleep(2 * TIMEOUT)
    return {"id": item}


def score(rows: list[Row]) -> list[Row]:
    """In a process, a batch at a time. One call in a thousand hangs."""
    chance = random.random()
    if any(row["id"] == ALWAYS_HANGS for row in rows) or chance > 0.999:
        time.sleep(3600)
    if chance < 0.005 or any(row["id"] % 991 == 7 for row in rows):
        raise Refused("not scored")
    time.sleep(0.002)
    return [{**row, "value": value_of(row["id"])} for row in rows]


async def enrich(row: Row) -> Row:
    """In a coroutine."""
    chance = random.random()
    await asyncio.sleep(3600 if chance > 0.9995 else 0.005)
    if row["id"] % 983 == 3 or chance < 0.005:
        raise Refused("not enriched")
    return {**row, "doubled": 2 * row["id"]}


def stages(rate: float) -> list[Stage]:
    """The three stages; ``rate`` items enter per second."""
    common: dict[str, Any] = {"timeout": TIMEOUT, "retry": RETRY}
    return [
        Stage(fetch, workers=8, rate_limit=rate, **common),
        Stage(score, kind="process", workers=2, batch_size=20, worker_lifespan=200, **common),
        Stage(enrich, kind="async", workers=50, **common),
    ]
