"""Flow: whatever the order in which things settle, every chunk completes once and whole."""

from __future__ import annotations

import itertools
import random
import threading

from hypothesis import given
from hypothesis import strategies as st

from airflow_parallel_provider.engine.dataflow.bundle import Bundle
from airflow_parallel_provider.engine.dataflow.keys import sort_key
from tests.engine.dataflow.test_router import Gathering, Line
from tests.support.given import quick

STAGE = st.tuples(st.sampled_from([None, 1, 2, 3, 7]), st.booleans(), st.integers(0, 3))


@quick
@given(
    st.lists(STAGE, max_size=4),
    st.lists(st.integers(1, 12), min_size=1, max_size=4),
    st.randoms(use_true_random=False),
)
def test_every_chunk_completes_once_and_whole_in_whatever_order_things_settle(
    stages: list[tuple[int | None, bool, int]], sizes: list[int], dice: random.Random
) -> None:
    """The source, and every stage, go on in random order; results per item differ from stage to stage."""
    line = Line(*[Gathering(batch, in_order=ordered and batch is not None) for batch, ordered, _ in stages])
    chunks = [line.chunk(index) for index in range(len(sizes))]
    to_feed = [(at, number) for at, size in enumerate(sizes) for number in range(size)]
    unfinished = set(range(len(sizes)))

    while to_feed or unfinished or any(stage_input.waiting for stage_input in line.stage_inputs):
        step = dice.randrange(len(stages) + 2)
        if step < len(stages):
            waiting = line.stage_inputs[step].waiting
            if waiting:
                line.settle(step, waiting.pop(dice.randrange(len(waiting))), stages[step][2])
        elif to_feed and step == len(stages):
            at, number = to_feed.pop(0)
            line.flow.route(0, chunks[at], [number], [(at, number)])
        else:
            fed = {at for at in unfinished if all(each != at for each, _ in to_feed)}
            for at in fed:
                unfinished.discard(at)
                line.flow.source_done(chunks[at], sizes[at])
    line.flow.end(len(sizes))

    assert sorted(chunk.index for chunk in line.complete) == list(range(len(sizes)))
    per_item = 1
    for _, _, results in stages:
        per_item *= results
    for chunk, size in zip(chunks, sizes, strict=True):
        assert len(chunk.rows) == size * per_item
        places = [key for run in chunk.row_keys for key in run]
        assert len(set(places)) == len(places) == len(chunk.rows), "no two rows have one place"
        assert chunk.open == [0] * len(stages)
    assert all(stage_input.closed == 1 for stage_input in line.stage_inputs)
    for stage_input in line.stage_inputs:
        check_batches(stage_input)


def check_batches(stage_input: Gathering) -> None:
    if stage_input.batch_size is None:
        return
    assert all(1 <= len(batch) <= stage_input.batch_size for bundle in stage_input.seen for batch in bundle.values)
    per_chunk: dict[int, list[int]] = {}
    for bundle in stage_input.seen:
        per_chunk.setdefault(bundle.chunk.index, []).extend(len(batch) for batch in bundle.values)
        if stage_input.in_order:
            keys = [sort_key(key) for batch in bundle.keys for key in batch]
            assert keys == sorted(keys)
    for lengths in per_chunk.values():
        assert all(length == stage_input.batch_size for length in lengths[:-1]), "as full as can be"


def test_settled_from_many_threads_a_chunk_completes_once() -> None:
    line = Line(Gathering(), Gathering(3))
    chunks = [line.chunk(index) for index in range(20)]
    for chunk in chunks:
        for number in range(10):
            line.flow.route(0, chunk, [number], [number])
        line.flow.source_done(chunk, 10)
    bundles = list(line.stage_inputs[0].waiting)

    def work(part: list[Bundle]) -> None:
        for bundle in part:
            line.settle(0, bundle)

    threads = [threading.Thread(target=work, args=(bundles[at::4],)) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for bundle in list(line.stage_inputs[1].waiting):
        line.settle(1, bundle)

    assert sorted(chunk.index for chunk in line.complete) == list(range(20))
    assert all(sorted(itertools.chain(*chunk.row_keys), key=sort_key) == list(range(10)) for chunk in chunks)
