"""``Source.chunks``: the wanted chunks of a source, with their numbers in the whole, and how many there are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from airflow_parallel_provider import Source
from airflow_parallel_provider.engine.interfaces.shard import Shard
from airflow_parallel_provider.engine.interfaces.source import ChunkReader, IterableSource


class Reads(Source):
    """Counts what is read of it."""

    def __init__(self, items: int) -> None:
        self.items = items
        self.read = 0

    def __iter__(self) -> Iterator[int]:
        for number in range(self.items):
            self.read += 1
            yield number


def taken(chunks: ChunkReader) -> tuple[list[tuple[int, list[Any]]], int]:
    found: list[tuple[int, list[Any]]] = []
    while True:
        try:
            number, items = next(chunks)
        except StopIteration as end:
            return found, end.value
        found.append((number, list(items)))


@pytest.mark.parametrize("items", [0, 1, 9, 10, 11, 30])
@pytest.mark.parametrize("kind", [list, tuple, lambda items: items, lambda items: lambda: iter(items)])
def test_chunks_are_those_of_the_whole_source(items: int, kind: Any) -> None:
    source = IterableSource(kind(range(items)))
    expected = [(at, list(range(at * 10, min(at * 10 + 10, items)))) for at in range(-(-items // 10))]

    assert taken(source.chunks(10, lambda _: True)) == (expected, len(expected))
    for shard in (Shard(0, 2), Shard(1, 2)):
        mine = [pair for pair in expected if pair[0] % 2 == shard.index]
        assert taken(source.chunks(10, shard.takes(1))) == (mine, len(expected))


def test_items_that_nobody_has_taken_belong_to_their_chunk() -> None:
    source = Reads(30)
    chunks = source.chunks(10, lambda _: True)

    assert [next(iter(items)) for _, items in chunks] == [0, 10, 20]


def test_no_more_is_read_than_is_taken() -> None:
    source = Reads(30)
    _, items = next(source.chunks(10, lambda number: number == 1))

    assert next(iter(items)) == 10
    assert source.read == 11


@pytest.mark.parametrize("neighbors", [1, 3, 7])
@pytest.mark.parametrize("of", [1, 2, 5])
def test_each_chunk_belongs_to_one_shard(neighbors: int, of: int) -> None:
    shards = [Shard(index, of).takes(neighbors) for index in range(of)]
    owners = [[index for index, mine in enumerate(shards) if mine(chunk)] for chunk in range(50)]

    assert all(len(found) == 1 for found in owners)
    assert all(owners[at] == owners[at - at % neighbors] for at in range(50))
