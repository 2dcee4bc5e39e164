"""Flow: every chunk completes exactly once, in whatever order its bundles settle; batches never mix chunks."""

from __future__ import annotations

import random
from typing import Any

from airflow_parallel_provider.engine.dataflow.bundle import Bundle
from airflow_parallel_provider.engine.dataflow.chunk import Chunk, chunk_id
from airflow_parallel_provider.engine.dataflow.keys import batch_keys, child_keys
from airflow_parallel_provider.engine.dataflow.router import Router


class Gathering:
    """A stage that keeps the bundles it gets until the test settles them."""

    def __init__(self, batch_size: int | None = None, *, in_order: bool = False) -> None:
        self.batch_size = batch_size
        self.in_order = in_order
        self.waiting: list[Bundle] = []
        self.seen: list[Bundle] = []
        self.items = 0
        self.closed = 0

    def accept(self, bundle: Bundle) -> float:
        assert not self.closed, "nothing may come after the close"
        self.waiting.append(bundle)
        self.seen.append(bundle)
        return 0.25

    def arrived(self, items: int) -> None:
        self.items += items

    def close(self) -> None:
        self.closed += 1


class Line:
    """A flow with its stages and what has completed."""

    def __init__(self, *stage_inputs: Gathering) -> None:
        self.stage_inputs = list(stage_inputs)
        self.complete: list[Chunk] = []
        self.flow = Router(list(stage_inputs), self.complete.append)

    def chunk(self, index: int = 0) -> Chunk:
        return Chunk(index, index * 100, len(self.stage_inputs))

    def feed(self, index: int, *values: Any) -> Chunk:
        """A whole chunk from the source."""
        chunk = self.chunk(index)
        self.flow.route(0, chunk, list(range(len(values))), list(values))
        self.flow.source_done(chunk, len(values))
        return chunk

    def settle(self, stage: int, bundle: Bundle, results: int = 1) -> None:
        """Every call of a bundle gives so many results per item."""
        batched = self.stage_inputs[stage].batch_size is not None
        keys: list[Any] = []
        values: list[Any] = []
        for key, value in zip(bundle.keys, bundle.values, strict=True):
            made = (
                batch_keys(key, results * len(key)) if batched else child_keys(key, results) if results != 1 else [key]
            )
            keys += made
            values += [value[0] if batched else value] * len(made)
        self.flow.route(stage + 1, bundle.chunk, keys, values)
        self.flow.complete_items(stage, bundle.chunk, bundle.size)


def test_a_chunk_completes_when_sealed_and_nothing_of_it_is_open() -> None:
    line = Line(Gathering())
    chunk = line.chunk()
    line.flow.route(0, chunk, [0, 1], ["a", "b"])
    line.settle(0, line.stage_inputs[0].waiting.pop())
    assert line.complete == [], "the source may have more of it"

    line.flow.source_done(chunk, 2)

    assert line.complete == [chunk]
    assert (chunk.size, chunk.rows, chunk.row_keys) == (2, ["a", "b"], [[0, 1]])


def test_a_sealed_chunk_waits_for_its_last_item() -> None:
    line = Line(Gathering())
    chunk = line.chunk()
    line.flow.route(0, chunk, [0], ["a"])
    line.flow.route(0, chunk, [1], ["b"])
    line.flow.source_done(chunk, 2)

    line.settle(0, line.stage_inputs[0].waiting.pop(0))
    assert line.complete == []
    line.settle(0, line.stage_inputs[0].waiting.pop(0))

    assert line.complete == [chunk]


def test_without_stages_items_go_straight_to_the_sink() -> None:
    line = Line()

    chunk = line.feed(3, "a", "b")

    assert line.complete == [chunk]
    assert chunk.rows == ["a", "b"]


def test_an_item_that_gives_nothing_ends_too() -> None:
    line = Line(Gathering(), Gathering())

    chunk = line.feed(0, "a", "b")
    line.settle(0, line.stage_inputs[0].waiting.pop(), results=0)

    assert line.complete == [chunk]
    assert chunk.rows == []
    assert line.stage_inputs[1].seen == []


def test_full_batches_go_on_at_once_the_rest_when_the_stage_before_is_finished() -> None:
    line = Line(Gathering(), Gathering(4))
    chunk = line.chunk()
    for number in range(6):
        line.flow.route(0, chunk, [number], [number])
    line.flow.source_done(chunk, 6)

    for _ in range(5):
        line.settle(0, line.stage_inputs[0].waiting.pop(0))
    assert [bundle.values for bundle in line.stage_inputs[1].seen] == [[[0, 1, 2, 3]]]
    line.settle(0, line.stage_inputs[0].waiting.pop(0))

    assert [bundle.values for bundle in line.stage_inputs[1].seen] == [[[0, 1, 2, 3]], [[4, 5]]]


def test_many_full_batches_travel_in_one_bundle() -> None:
    line = Line(Gathering(3))

    line.feed(0, *range(10))

    assert [bundle.values for bundle in line.stage_inputs[0].seen] == [[[0, 1, 2], [3, 4, 5], [6, 7, 8]], [[9]]]
    assert [bundle.size for bundle in line.stage_inputs[0].seen] == [9, 1]


def test_batches_never_mix_chunks() -> None:
    line = Line(Gathering(4))

    line.feed(0, "a", "b", "c")
    line.feed(1, "d", "e")

    assert [bundle.values for bundle in line.stage_inputs[0].seen] == [[["a", "b", "c"]], [["d", "e"]]]


def test_in_order_a_batch_holds_neighbors_whatever_came_first() -> None:
    line = Line(Gathering(), Gathering(3, in_order=True))
    chunk = line.chunk()
    for number in range(8):
        line.flow.route(0, chunk, [number], [number])
    line.flow.source_done(chunk, 8)
    bundles = list(line.stage_inputs[0].waiting)
    random.Random(5).shuffle(bundles)

    for bundle in bundles[:-1]:
        line.settle(0, bundle)
    assert line.stage_inputs[1].seen == [], "a whole chunk only can be put in order"
    line.settle(0, bundles[-1])

    assert [bundle.values for bundle in line.stage_inputs[1].seen] == [[[0, 1, 2], [3, 4, 5], [6, 7]]]


def test_a_stage_closes_when_the_one_before_is_finished_with_all_chunks() -> None:
    line = Line(Gathering(), Gathering())
    line.feed(0, "a")
    line.feed(1, "b")
    first, second = line.stage_inputs[0].waiting

    line.settle(0, first)
    line.flow.end(2)
    assert [stage_input.closed for stage_input in line.stage_inputs] == [1, 0]
    line.settle(0, second)

    assert [stage_input.closed for stage_input in line.stage_inputs] == [1, 1]


def test_an_end_that_comes_last_closes_everything() -> None:
    line = Line(Gathering(), Gathering(), Gathering())
    line.feed(0, "a")
    for stage in range(3):
        line.settle(stage, line.stage_inputs[stage].waiting.pop())

    line.flow.end(1)

    assert [stage_input.closed for stage_input in line.stage_inputs] == [1, 1, 1]


def test_no_chunk_at_all_closes_everything() -> None:
    line = Line(Gathering(), Gathering())

    line.flow.end(0)

    assert [stage_input.closed for stage_input in line.stage_inputs] == [1, 1]


class Immediate(Gathering):
    """A stage that is done with a bundle before it has returned, as an inline stage is."""

    line: Line

    def accept(self, bundle: Bundle) -> float:
        self.line.settle(1, bundle)
        return 0.0


def test_a_last_batch_that_is_done_at_once_does_not_complete_the_chunk_twice() -> None:
    stage_input = Immediate(5)
    line = stage_input.line = Line(Gathering(), stage_input)
    chunk = line.feed(0, "a", "b")

    line.settle(0, line.stage_inputs[0].waiting.pop())

    assert line.complete == [chunk]


def test_time_spent_waiting_for_room_is_reported() -> None:
    line = Line(Gathering(), Gathering(5))
    chunk = line.chunk()

    assert line.flow.route(0, chunk, [0], ["a"]) == 0.25
    line.flow.source_done(chunk, 1)
    line.flow.route(1, chunk, [0], ["a"])

    assert line.flow.complete_items(0, chunk, 1) == 0.25, "the last batch was flushed"


def test_items_are_counted_on_arrival() -> None:
    line = Line(Gathering(4))

    line.feed(0, *range(6))

    assert line.stage_inputs[0].items == 6


def test_chunk_ids_are_stable_and_sort() -> None:
    texts = {0: "00000000", 41: "00000041", 123_456_789: "123456789"}

    assert {index: chunk_id(index) for index in texts} == texts
    assert {index: Chunk(index, 0, 1).chunk_id for index in texts} == texts
