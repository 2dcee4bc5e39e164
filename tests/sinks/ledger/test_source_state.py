"""What a source froze at the first try stays what it was, from the first committed chunk on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from airflow_parallel_provider import ListSink, Pipeline, RunFailed, Source, Stage
from airflow_parallel_provider.engine.interfaces.records import LoadSpec
from airflow_parallel_provider.errors import LoadMismatch
from tests.support.databases import SPEC, TestDatabase, on_each_backend

pytestmark = pytest.mark.airflow

LISTING = {"files": [[f"s3://bucket/day-{number:05}.json", f"etag {number}"] for number in range(3000)]}
"""More than the 64 KB that a MySQL TEXT holds."""


def tried(state: Mapping[str, Any] | None, attempt: int) -> LoadSpec:
    return dataclasses.replace(SPEC, source_state=state, attempt=attempt)


@on_each_backend
def test_state_is_that_of_the_try_that_committed_first(database: TestDatabase) -> None:
    found: list[Any] = []
    for attempt, state in enumerate([{"until": 1}, LISTING, {"until": 3}, None], start=1):
        with database.hook() as hook:
            hook.open(tried(state, attempt))
            found.append(hook.load.source_state)
            if attempt > 1:
                hook.write_chunk("00000000", [{"id": 1}])

    assert found == [None, None, LISTING, LISTING]


class Upto(Source):
    """Numbers below a bound that is frozen."""

    def __init__(self, bound: int) -> None:
        self.bound = bound

    def get_state(self) -> Mapping[str, Any]:
        return {"bound": self.bound}

    def restore_state(self, state: Mapping[str, Any]) -> None:
        if state["bound"] > 99:
            raise LoadMismatch("number 99 is gone")
        self.bound = state["bound"]

    def __iter__(self) -> Any:
        return iter(range(self.bound))


class Remembering(ListSink):
    """A sink that remembers a state."""

    def __init__(self, state: Mapping[str, Any] | None) -> None:
        super().__init__()
        self.state = state
        self.spec: LoadSpec | None = None

    def prepare(self, spec: LoadSpec) -> None:
        self.spec = spec

    def source_state(self) -> Mapping[str, Any] | None:
        return self.state


@pytest.mark.parametrize(("kept", "rows"), [(None, 5), ({"bound": 3}, 3), ({"bound": 7}, 7)])
def test_source_goes_on_with_what_the_sink_kept(kept: Mapping[str, Any] | None, rows: int) -> None:
    sink = Remembering(kept)

    Pipeline(Upto(5), [Stage(abs)], sink).run()

    assert sorted(sink.rows) == list(range(rows))
    assert sink.spec is not None
    assert sink.spec.source_state == {"bound": 5}


def test_source_that_cannot_go_on_fails_the_run() -> None:
    with pytest.raises(RunFailed, match="number 99 is gone") as caught:
        Pipeline(Upto(5), [Stage(abs)], Remembering({"bound": 100})).run()

    assert isinstance(caught.value.__cause__, LoadMismatch)
