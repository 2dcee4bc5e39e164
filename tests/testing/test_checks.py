"""The assertions on reports: each fails when it should, and says why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_parallel_provider import ListSink, Pipeline, RunReport, Stage
from airflow_parallel_provider.testing.checks import (
    assert_all_committed,
    assert_conserved,
    assert_dead_letters,
    conservation_problems,
)
from airflow_parallel_provider.testing.inline import run_inline
from tests.testing import functions


@pytest.fixture(scope="module")
def good() -> RunReport:
    """One item of ten dead, five filtered; the numbers of a real run."""
    stages = [Stage(functions.only_even), Stage(functions.not_seven, batch_size=2, name="second")]
    return run_inline(Pipeline([*range(0, 10, 2), 7, 9, 11, 7, 14], stages)).report


@pytest.fixture(scope="module")
def dead() -> Any:
    stages = [Stage(functions.not_seven, batch_size=2)]
    return run_inline(Pipeline(range(10), stages, tolerance=1))


def test_a_real_report_passes(good: RunReport) -> None:
    assert good.items_filtered == 4
    assert conservation_problems(good) == []
    assert_conserved(good)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"items_read": 11}, "11 items were read, but 6 committed"),
        ({"items_committed": 7}, "7 committed"),
        ({"items_committed": 5, "items_unfinished": 1}, "1 items unfinished"),
        ({"items_committed": 5, "items_dead_lettered": 1}, "no stage has failed items"),
        ({"items_committed": 11, "items_unfinished": -5}, "items_unfinished is negative"),
    ],
)
def test_a_report_that_does_not_add_up(good: RunReport, changes: dict[str, Any], text: str) -> None:
    with pytest.raises(AssertionError, match=text):
        assert_conserved(replace(good, **changes))


@pytest.mark.parametrize(
    ("stage", "changes", "text"),
    [
        (0, {"items_in": 9}, "received 9 items, the source passed on 10"),
        (0, {"items_out": 5}, "second received 6 items, stage only_even passed on 5"),
        (1, {"failed": 1}, "stages have 1 failed items, but there are no dead letters"),
        (1, {"queue_peak": 3, "queue_size": 2}, "3 items waited in a queue of 2"),
    ],
)
def test_a_stage_that_does_not_add_up(good: RunReport, stage: int, changes: dict[str, Any], text: str) -> None:
    stages = list(good.stages)
    stages[stage] = replace(stages[stage], **changes)

    with pytest.raises(AssertionError, match=text):
        assert_conserved(replace(good, stages=stages))


def test_a_run_that_ended_early_may_have_unfinished_items(good: RunReport) -> None:
    assert_conserved(replace(good, state="stopped", items_committed=5, items_unfinished=1))


def test_all_committed(good: RunReport) -> None:
    whole = run_inline(Pipeline(range(3), [Stage(functions.same)])).report

    assert_all_committed(whole)
    assert_all_committed(good, allow_filtered=True)
    with pytest.raises(AssertionError, match="4 of 10 items were not committed"):
        assert_all_committed(good)
    with pytest.raises(AssertionError, match="'failed'"):
        assert_all_committed(replace(whole, state="failed"))


def test_dead_letters_of_a_sink_a_list_and_a_report(dead: Any) -> None:
    sink = ListSink()
    sink.dead_letters = dead.dead_letters

    for where in (sink, dead, dead.dead_letters, dead.report):
        assert_dead_letters(where, [7])
        assert_dead_letters(where, (7,), stage="not_seven", cause="seven is bad")


@pytest.mark.parametrize(
    ("positions", "options", "text"),
    [
        ([], {}, "dead letter"),
        ([6], {}, "7"),
        ([6, 7], {}, "dead letters"),
        ([7], {"stage": "other"}, "expected 'other'"),
        ([7], {"cause": "KeyError"}, "expected 'KeyError'"),
    ],
)
@pytest.mark.parametrize("part", ["dead_letters", "report"])
def test_other_dead_letters_than_expected(
    dead: Any, part: str, positions: list[int], options: dict[str, str], text: str
) -> None:
    with pytest.raises(AssertionError, match=text):
        assert_dead_letters(getattr(dead, part), positions, **options)
