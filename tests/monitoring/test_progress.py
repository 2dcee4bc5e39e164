"""How a run is getting on: figures over time, and the line in the log."""

from __future__ import annotations

import itertools

from airflow_parallel_provider.monitoring.history import History
from airflow_parallel_provider.monitoring.progress import Progress
from tests.support.airflow_doubles import snapshot

# -- history --------------------------------------------------------------------------------------


def test_history_keeps_the_whole_run_at_even_distances() -> None:
    history = History(points=100)

    for second in range(10_000):
        history.add(snapshot(float(second), committed=second))

    seconds = history.as_dict()["seconds"]
    distances = {later - earlier for earlier, later in itertools.pairwise(seconds[1:])}
    assert 50 <= len(history) <= 100
    assert seconds[-1] >= 9_800
    assert seconds[0] < 300
    assert max(distances) <= 4 * min(distances)


def test_halving_keeps_the_peak_of_a_queue_and_the_end_of_a_sum() -> None:
    history = History()
    for second, waiting in enumerate([0, 9, 0, 1, 5]):
        value = snapshot(float(second), committed=second * 10)
        value["stages"][0]["queue_now"] = waiting
        history.add(value)

    history.halve()

    kept = history.as_dict()
    assert kept["seconds"] == [0, 2, 4]
    assert kept["items_done"] == [0, 20, 40]
    assert kept["stages"]["score"]["queue_now"] == [0, 9, 5]


# -- progress -------------------------------------------------------------------------------------


def test_line_says_how_much_how_fast_and_how_long() -> None:
    progress = Progress()
    for second in range(11):
        now = snapshot(float(second), committed=second * 4_000, items_total=336_776, items_dead_lettered=3)
        progress.add(now)

    assert progress.line(now) == (
        "40,003 of 336,776 items (11%), 4,000/s, about 74 s left, 3 failed; waiting: score 3/64"
    )


def test_rate_is_that_of_the_last_half_minute() -> None:
    progress = Progress()
    for second in range(100):
        progress.add(snapshot(float(second), committed=min(second, 50) * 10))

    assert progress.rate == 0.0
    assert progress.seconds_left(snapshot(100.0, items_total=1000)) is None


def test_rate_after_a_resume_does_not_count_what_was_skipped() -> None:
    progress = Progress()
    progress.add(snapshot(0.0, committed=0))
    now = snapshot(10.0, committed=100, items_skipped=9_000, items_total=10_000)
    progress.add(now)

    assert progress.rate == 10.0
    assert progress.seconds_left(now) == 90.0


def test_chunks_that_were_already_in_are_said() -> None:
    progress = Progress()
    now = snapshot(1.0, committed=0, items_skipped=2_000, items_total=4_000)
    progress.add(now)

    assert progress.line(now) == "2,000 of 4,000 items (50%), 0/s, 2,000 already committed; waiting: score 3/64"
