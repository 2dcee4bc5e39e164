"""Figures and warnings of a source are in the report, whatever the code of its class does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from airflow_parallel_provider import ListSink, Pipeline
from airflow_parallel_provider.engine.interfaces.source import Source
from airflow_parallel_provider.engine.interfaces.wrapped_source import WrappedSource


class Told(Source):
    figures: ClassVar[Any] = {
        "asked": 3,
        "by kind": {"a": 1, "deep": {"b": 2}},
        "odd": object(),
        "nan": float("nan"),
    }
    warnings = ("one reader",)

    def __iter__(self) -> Iterator[int]:
        return iter(range(5))


class Hostile(Told):
    @property
    def figures(self) -> Any:  # type: ignore[override]
        raise RuntimeError("my own mistake")

    @property
    def warnings(self) -> Any:  # type: ignore[override]
        return 7


@pytest.mark.parametrize("source", [Told(), WrappedSource(Told())], ids=["plain", "wrapped"])
def test_what_a_source_says_is_in_the_report(source: Source) -> None:
    report = Pipeline(source, [], ListSink()).run()

    assert report.source == {"asked": 3, "by kind": {"a": 1}}
    assert report.warnings == ["one reader"]
    assert "  source: asked: 3, by kind: a: 1\n" in str(report)
    assert "warning: one reader" in str(report)


def test_a_source_that_cannot_say_it_fails_no_run() -> None:
    report = Pipeline(Hostile(), [], ListSink()).run()

    assert (report.state, report.items_committed, report.source, report.warnings) == ("success", 5, {}, [])
