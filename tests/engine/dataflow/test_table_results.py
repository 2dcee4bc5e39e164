"""Tables as results: one row object for many items, and no item of theirs gets lost in the count."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from airflow_parallel_provider import ListSink, Pipeline, Stage

pa = pytest.importorskip("pyarrow")


def tabulate(numbers: list[int]) -> Any:
    return pa.table({"number": numbers})


def halves(table: Any) -> Iterator[Any]:
    middle = table.num_rows // 2
    yield table.slice(0, middle)
    yield table.slice(middle)


@pytest.mark.parametrize("kind", ["inline", "thread", "process"])
def test_the_items_of_a_table_that_is_taken_apart_are_all_committed(kind: Any) -> None:
    sink = ListSink()
    stages = [Stage(tabulate, batch_size=4, kind=kind), Stage(halves, kind=kind)]

    report = Pipeline(range(16), stages, sink, chunk_size=8, ordered=True).run()

    assert (report.items_committed, report.items_filtered, report.items_dead_lettered) == (16, 0, 0)
    assert [row for table in sink.rows for row in table["number"].to_pylist()] == list(range(16))
    assert [table.num_rows for table in sink.rows] == [2] * 8
