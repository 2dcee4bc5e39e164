"""The sums that the Pipeline tab makes of shards; its JavaScript runs in the Node that Playwright brings."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.javascript import call


def shard(seconds: float, state: str = "success", **snapshot: Any) -> dict[str, Any]:
    return {"state": state, "snapshot": {"seconds": seconds, "updated_at": "2026-11-30T12:00:00Z", **snapshot}}


pytest.importorskip("playwright")


def test_the_end_of_a_sharded_load_is_not_counted_again() -> None:
    tasks = [
        ["load.shard", [shard(2, part="shard", items_read=30), shard(3, part="shard", items_read=20)]],
        ["load.finish", [shard(1, part="finish", items_read=50)]],
        ["other", [shard(1, items_read=7)]],
        ["alone.finish", [shard(1, part="finish", items_read=100)]],
    ]
    assert call("sums", "sums.sumOf(sums.withoutEnds(new Map(tasks))).items_read", tasks=tasks) == 157


@pytest.mark.parametrize(
    ("shards", "slowest"),
    [
        ([shard(10), shard(11), shard(30)], 2),
        ([shard(10), shard(11), shard(12)], None),
        ([shard(30), shard(8, "running", seconds_left=60), shard(31)], 1),
        ([shard(30)], None),
    ],
)
def test_the_shard_that_holds_up_the_others_is_marked(shards: list[Any], slowest: int | None) -> None:
    found = call("sums", "shards.indexOf(sums.slowestOf(shards))", shards=shards)
    assert found == (-1 if slowest is None else slowest)


def test_tasks_stand_as_they_ran() -> None:
    """The end of a load is not before its shards, whatever order Airflow answers in."""
    begun = {"load.finish": "12:00:30", "second": "12:00:20", "first": "12:00:10"}
    found: list[dict[str, Any]] = [
        {"taskId": name, "mapIndex": -1, "snapshot": {"seconds": 5, "updated_at": f"2026-11-30T{time}Z", "part": part}}
        for (name, time), part in zip(begun.items(), ("finish", "shard", None), strict=True)
    ]
    found[0]["snapshot"]["seconds"] = 40  # those of the whole load

    assert call("sums", "sums.inOrder(found).map((each) => each.taskId)", found=found) == [
        "first",
        "second",
        "load.finish",
    ]


def test_the_sum_of_one_end_of_a_load_is_one() -> None:
    """So that the page says the same of its time and memory as the page of the task does."""
    shards = [shard(2, part="shard"), shard(3, part="shard")]
    assert call("sums", "sums.sumOf(shards).part", shards=[shard(1, part="finish")]) == "finish"
    assert call("sums", "sums.sumOf(shards).part", shards=[*shards, shard(1)]) is None


def test_the_rate_counts_what_is_finished() -> None:
    shards = [shard(10, "running", items_read=300, items_skipped=50, items_unfinished=150)]
    assert call("sums", "sums.sumOf(shards).items_per_second", shards=shards) == 10
