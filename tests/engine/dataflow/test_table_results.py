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
    assert [(stage.items_out, stage.rows_out) for stage in report.stages] == [(4, 16), (8, 16)]
    assert "4 (16 rows)" in str(report)


def test_rows_are_counted_where_a_table_stays_pickled_between_two_processes() -> None:
    stages = [
        Stage(
            lambda numbers: pa.table({"text": ["x" * 10_000] * len(numbers)}), batch_size=8, kind="process", workers=1
        ),
        Stage(lambda table: table.num_rows, kind="process", workers=1),
    ]

    report = Pipeline(range(64), stages, ListSink(), chunk_size=8).run()

    assert [(stage.items_out, stage.rows_out) for stage in report.stages] == [(8, 64), (8, 0)]


def test_what_is_no_table_has_no_rows() -> None:
    report = Pipeline(range(4), [Stage(lambda number: [number])], ListSink()).run()

    assert (report.stages[0].items_out, report.stages[0].rows_out) == (4, 0)
