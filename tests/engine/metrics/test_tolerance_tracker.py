"""A number counts dead letters and a fraction counts items, the same way in the first try and in a retry."""

from __future__ import annotations

import pytest

from airflow_parallel_provider.engine.interfaces.records import CommittedChunk
from airflow_parallel_provider.engine.metrics.tolerance_tracker import ToleranceTracker
from airflow_parallel_provider.engine.plan.tolerance import Tolerance


def tracker_of(tolerance: float, read: int) -> ToleranceTracker:
    tracker = ToleranceTracker(Tolerance(tolerance))
    tracker.items_read = lambda: read
    return tracker


def test_a_second_dead_letter_of_an_item_counts_for_a_number() -> None:
    tracker = tracker_of(1, read=10)

    assert tracker.add(0.5, items=1) is None
    assert str(tracker.add(0.5, items=0)) == "2 failures in 10 items, tolerance is 1 failure"
    assert tracker.given_up == 1


def test_a_dead_letter_of_several_items_is_one_for_a_number_and_all_of_them_for_a_fraction() -> None:
    counted, weighed = tracker_of(1, read=10), tracker_of(0.5, read=10)

    assert counted.add(6.0, items=6) is None
    assert weighed.add(6.0, items=6) is None, "more items may come"
    assert str(weighed.check(final=True)) == (
        "1 failures in 10 items, as much as 6 of them, tolerance is 50% of the items"
    )


def test_a_retry_counts_what_the_tries_before_it_have_counted() -> None:
    earlier = [CommittedChunk("00000000", 10, 20, dead_letters=4, failed_items=2.0)]
    counted, weighed = tracker_of(4, read=10), tracker_of(0.2, read=10)
    counted.resume_after(earlier)
    weighed.resume_after(earlier)

    assert counted.check(final=True) is None
    assert weighed.check(final=True) is None
    assert counted.add(0.5, items=1) is not None
    weighed.add(0.5, items=1)
    assert weighed.check(final=True) is not None


@pytest.mark.parametrize(("items", "rows", "share"), [(1, 998, 0.002), (10, 18, 2.0)])
def test_a_chunk_that_an_earlier_version_has_committed_is_estimated(items: int, rows: int, share: float) -> None:
    tracker = tracker_of(0.0, read=items)
    tracker.resume_after([CommittedChunk("00000000", items, rows, dead_letters=2)])

    assert f"as much as {share:g} of them" in str(tracker.check(final=True)) or share == 2.0


def test_a_retry_is_not_judged_before_it_has_read_what_was_committed() -> None:
    """90 of 9 000 committed items failed; when the retry has read nothing yet, that is not 90 of 1 000."""
    tracker = tracker_of(0.01, read=0)
    tracker.resume_after([CommittedChunk("00000000", 9_000, 8_910, dead_letters=90, failed_items=90.0)])

    assert tracker.check() is None
