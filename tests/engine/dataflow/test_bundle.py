"""Bundles are cut and copied without losing anything; keys name the item of each result and sort in source order."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_parallel_provider.engine.dataflow.bundle import Bundle
from airflow_parallel_provider.engine.dataflow.keys import (
    TABLE,
    Key,
    Keys,
    ResultShape,
    TableKey,
    batch_keys,
    batch_splits,
    child_keys,
    concat_batches,
    concat_keys,
    item_positions,
    share_of,
    sort_key,
)
from tests.support.fakes import Sized, batches, calls, chunk
from tests.support.given import quick

PLAIN = st.lists(st.integers(0, 10_000), min_size=1, max_size=30, unique=True).map(sorted)
DEEP = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5)), min_size=1, max_size=30, unique=True).map(sorted)
KEYS: st.SearchStrategy[list[Key]] = st.one_of(PLAIN, DEEP)


def owners(key: Key) -> list[int]:
    return list(item_positions(key))


# -- keys -------------------------------------------------------------------------------------------------------------


@quick
@given(KEYS, st.integers(0, 8))
def test_results_below_a_key_belong_to_its_item_and_stay_in_order(keys: list[Key], count: int) -> None:
    made = [child_keys(key, count) for key in keys]

    assert all(len(results) == count for results in made)
    assert all(owners(result) == owners(key) for key, results in zip(keys, made, strict=True) for result in results)
    flat = [sort_key(result) for results in made for result in results]
    assert flat == sorted(flat)
    assert len(set(flat)) == len(flat)


@quick
@given(KEYS, st.integers(0, 100))
def test_every_result_of_a_batch_has_one_of_its_items_as_owner(keys: list[Key], count: int) -> None:
    made = batch_keys(keys, count)

    assert len(made) == count
    batch = {owner for key in keys for owner in owners(key)}
    assert all(set(owners(key)) <= batch for key in made)


@quick
@given(KEYS, st.integers(1, 100))
def test_results_of_a_batch_sort_as_they_were_returned(keys: list[Key], count: int) -> None:
    made = [sort_key(key) for key in batch_keys(keys, count)]

    assert made == sorted(made)
    assert len(set(made)) == len(made)


@quick
@given(KEYS)
def test_as_many_results_as_items_are_one_to_one(keys: list[Key]) -> None:
    assert batch_keys(keys, len(keys)) == keys


@quick
@given(KEYS, st.integers(1, 4))
def test_more_results_than_items_leave_nobody_out(keys: list[Key], times: int) -> None:
    made = batch_keys(keys, times * len(keys) + 1)

    assert {owner for key in made for owner in owners(key)} == {owner for key in keys for owner in owners(key)}


@quick
@given(KEYS, st.data())
def test_kept_items_keep_their_keys(keys: list[Key], data: st.DataObject) -> None:
    kept: ResultShape = sorted(data.draw(st.sets(st.sampled_from(range(len(keys))))))
    assert isinstance(kept, list)

    assert batch_keys(keys, kept) == [keys[at] for at in kept]


@quick
@given(KEYS)
def test_a_table_stands_for_all_items_of_its_batch(keys: list[Key]) -> None:
    (joint,) = batch_keys(keys, TABLE)

    assert set(owners(joint)) == {owner for key in keys for owner in owners(key)}
    assert owners(joint) == sorted(set(owners(joint)))


@quick
@given(st.lists(PLAIN, min_size=1, max_size=5))
def test_a_table_of_tables_stands_for_all_of_them(groups: list[list[int]]) -> None:
    first = [key for group in groups for key in batch_keys(group, TABLE)]

    (joint,) = batch_keys(first, TABLE)

    assert owners(joint) == sorted({number for group in groups for number in group})


@quick
@given(st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_tables_of_neighboring_batches_sort_like_the_batches(sizes: list[int]) -> None:
    ends = list(itertools.accumulate(sizes, initial=0))
    groups = [list(range(begin, end)) for begin, end in itertools.pairwise(ends)]

    joints = [batch_keys(group, TABLE)[0] for group in groups]

    mixed = joints[::-1]
    assert sorted(mixed, key=sort_key) == joints


def test_results_are_shared_out_evenly_among_the_items() -> None:
    assert batch_keys([10, 11, 12], 6) == [(10, 0), (10, 1), (11, 2), (11, 3), (12, 4), (12, 5)]
    assert batch_keys([10, 11, 12, 13], 2) == [10, 12]


def test_no_result_at_all() -> None:
    assert batch_keys([1, 2, 3], 0) == []
    assert child_keys(4, 0) == []


def test_a_result_made_of_a_table_belongs_to_all_its_items() -> None:
    """A table stands for its items together; which row belongs to which item is unknown."""
    joint = TableKey((3, 4, 5))

    assert child_keys(joint, 2) == [(3, 0), (3, 1)]
    assert [owners(key) for key in child_keys(joint, 2)] == [[3, 4, 5]] * 2


@quick
@given(st.integers(2, 6), st.lists(st.sampled_from(["each", "double", "yield", "halve"]), max_size=4))
def test_order_survives_any_row_of_stages(items: int, stages: list[str]) -> None:
    """Keys of the rows sort as one worker alone would have made them."""
    keys: Keys = range(items)
    for stage in stages:
        if stage == "yield":
            keys = [made for key in keys for made in child_keys(key, 2)]
        elif stage == "double":
            keys = batch_keys(keys, 2 * len(keys))
        elif stage == "halve":
            keys = batch_keys(keys, (len(keys) + 1) // 2)

    ordered = [sort_key(key) for key in keys]

    assert ordered == sorted(ordered)
    assert len(set(ordered)) == len(ordered)


@quick
@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=6), st.booleans())
def test_joined_keys_are_those_of_the_parts(parts: list[tuple[int, bool]], gap: bool) -> None:
    """Whether they are ranges or lists, touch or not."""
    batches_: list[Keys] = []
    at = 0
    for size, as_range in parts:
        batches_.append(range(at, at + size) if as_range else list(range(at, at + size)))
        at += size + gap
    expected = [key for keys in batches_ for key in keys]

    one_by_one: Keys = ()
    for keys in batches_:
        one_by_one = concat_keys(one_by_one, keys)

    assert list(concat_batches(batches_)) == list(one_by_one) == expected


def test_neighbors_stay_a_range() -> None:
    assert concat_keys(range(2), range(2, 5)) == range(5)
    assert concat_batches([range(2), range(2, 5), range(5, 6)]) == range(6)


# -- bundles ----------------------------------------------------------------------------------------------------------


@quick
@given(st.lists(st.integers(1, 5), min_size=1, max_size=20), st.data(), st.booleans())
def test_cutting_loses_nothing(sizes: list[int], data: st.DataObject, batched: bool) -> None:
    values = [[Sized(10)] * size for size in sizes]
    bundle = batches(*values) if batched else calls(*[Sized(10) for _ in sizes])
    before = (list(bundle.keys), list(bundle.values), bundle.size, bundle.bytes)
    bundle.attempt, bundle.splitting, bundle.alone = 3, True, True
    count = data.draw(st.integers(0, len(sizes)))

    head = bundle.cut(count, sum(sizes[:count]) if batched else count)

    assert [*head.keys, *bundle.keys] == before[0]
    assert head.values + bundle.values == before[1]
    assert head.size + bundle.size == before[2]
    assert head.bytes + bundle.bytes == before[3]
    assert len(head.values) == count
    assert (head.attempt, head.splitting, head.alone, head.chunk) == (3, True, True, bundle.chunk)


@pytest.mark.parametrize("batched", [False, True])
def test_one_call_is_copied_and_stays(batched: bool) -> None:
    bundle = batches([1, 2], [3]) if batched else calls(1, 2)
    bundle.attempt = 2

    call = bundle.one(0, batched=batched)

    assert (call.values, call.size) == (([[1, 2]], 2) if batched else ([1], 1))
    assert call.keys == [bundle.keys[0]]
    assert call.attempt == 2
    assert len(bundle.values) == 2


def test_a_bundle_knows_its_chunk_and_size_in_bytes() -> None:
    of = chunk(7)

    bundle = Bundle(of, [0, 1], [Sized(100), Sized(100)], 2)

    assert (bundle.chunk, bundle.bytes) == (of, 200)


@given(st.lists(st.integers(1, 4), max_size=4), st.sampled_from(["item", "batch", "table"]))
def test_the_shares_of_all_results_of_an_item_add_up_to_one(counts: list[int], last: str) -> None:
    splits: dict[Key, int] = {}
    keys: list[Key] = [7]
    for count in counts:
        if count > 1:
            splits.update(dict.fromkeys(keys, count))
            keys = [made for key in keys for made in child_keys(key, count)]
    if last == "batch":
        splits.update(batch_splits(keys, 2 * len(keys) + 1))
        keys = list(batch_keys(keys, 2 * len(keys) + 1))
    elif last == "table":
        (table,) = batch_keys(keys, TABLE, splits)
        keys = child_keys(table, 3)

    assert sum(share_of(key, splits) for key in keys) == pytest.approx(1.0)


def test_a_table_counts_as_all_the_items_it_was_made_of() -> None:
    (joint,) = batch_keys(range(3, 8), TABLE)

    assert share_of(joint, {}) == 5.0
    assert [share_of(key, {}) for key in child_keys(joint, 2)] == [2.5, 2.5]
