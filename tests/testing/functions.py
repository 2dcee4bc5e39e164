"""Stage functions for the tests of the test kit, where any process can import them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

from airflow_parallel_provider import DROP


def same(item: Any) -> Any:
    return item


def tenfold(item: int) -> int:
    return item * 10


def only_even(item: int) -> Any:
    return item if item % 2 == 0 else DROP


def twice(item: int) -> Iterator[int]:
    yield item
    yield item + 1000


def tenfold_all(items: list[int]) -> list[int]:
    return [item * 10 for item in items]


def total(items: list[int]) -> list[int]:
    return [sum(items)]


def not_seven(items: list[int]) -> list[int]:
    if 7 in items:
        raise ValueError("seven is bad")
    return items


async def plus_one(item: int) -> int:
    return item + 1


async def twice_async(item: int) -> AsyncIterator[int]:
    yield item
    yield item + 1000


async def drop_nothing_all(items: list[int]) -> AsyncIterator[int]:
    for item in items:
        yield item


def process_id(_: Any) -> int:
    return os.getpid()


class Adder:
    """A stage object; an instance or the class itself."""

    def __init__(self, amount: int = 5) -> None:
        self.amount = amount
        self.ready = False

    def setup(self) -> None:
        self.ready = True

    def process(self, item: int) -> int:
        assert self.ready
        return item + self.amount


class AsyncAdder(Adder):
    async def setup(self) -> None:  # type: ignore[override]
        self.ready = True

    async def process(self, item: int) -> int:  # type: ignore[override]
        assert self.ready
        return item + self.amount


class AsyncTwice(AsyncAdder):
    async def process(self, item: int) -> AsyncIterator[int]:  # type: ignore[override]
        yield item
        yield item + self.amount


class Table:
    """As little as makes something a table of rows in the eyes of the engine."""

    def __init__(self, values: list[int]) -> None:
        self.columns = ["value"]
        self.values = values

    def __dataframe__(self) -> None:
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.values)


def as_table(items: list[int]) -> Table:
    return Table(items)


def table_sum(item: Any) -> int:
    return sum(item.values)
