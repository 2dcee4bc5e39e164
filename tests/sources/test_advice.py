"""What a source says that makes it faster, where it limits a run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_parallel_provider import FilesSource, HttpPagesSource, ListSink, Pipeline, SqlSource
from airflow_parallel_provider.engine.interfaces.source import Source


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (HttpPagesSource("/orders", conn_id="shop", page_size=50), ["page_size=50", "readers=4"]),
        (HttpPagesSource("/orders", conn_id="shop", readers=8, rate_limit=5), ["readers=8", "5 requests per second"]),
        (HttpPagesSource("/orders", conn_id="shop", pagination="link"), ["page_size=", "names the next one"]),
        (SqlSource("orders", conn_id="warehouse", key="id", readers=2), ["readers=2", "columns="]),
        (FilesSource("*.txt", items="line"), ['items="file"', "process stage"]),
        (FilesSource("*.parquet", items="row_group"), ["readers=4"]),
    ],
)
def test_it_names_the_setting_and_its_value(source: Any, words: list[str]) -> None:
    assert all(word in source.advice for word in words), source.advice


@pytest.mark.parametrize("said", ["raises", "no text"])
def test_a_source_that_cannot_say_it_fails_no_run(said: str) -> None:
    class Hostile(Source):
        @property
        def advice(self) -> Any:
            if said == "raises":
                raise RuntimeError("my own mistake")
            return 7

        def __iter__(self) -> Iterator[int]:
            return iter(range(5))

    report = Pipeline(Hostile(), [], ListSink()).run()

    assert (report.state, report.items_committed) == ("success", 5)


def test_report_repeats_it() -> None:
    class Waiting(Source):
        advice = "read less"

        def __iter__(self) -> Iterator[int]:
            for number in range(20):
                time.sleep(0.005)  # for a server
                yield number

    report = Pipeline(Waiting(), [], ListSink()).run()

    assert report.advice.endswith("the source limits the run: read less")
