"""Which stage limits a run, and the sentence that says what to change. On a machine of four CPUs."""

from __future__ import annotations

import pytest

from airflow_parallel_provider.engine.analysis import bottleneck
from airflow_parallel_provider.engine.analysis.bottleneck import BusyTime, advise

SOURCE, SINK = BusyTime("source", "source", 1, 0.5), BusyTime("sink", "sink", 1, 1.0)


@pytest.fixture(autouse=True)
def _four_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bottleneck, "usable_cpus", lambda: 4)


def advised(*loads: BusyTime, seconds: float = 10.0) -> tuple[str | None, str]:
    return advise([SOURCE, *loads, SINK], seconds)


def test_more_threads_where_a_stage_of_threads_limits() -> None:
    assert advised(BusyTime("fetch", "thread", 4, 38.0)) == (
        "fetch",
        "fetch is busy 95% of the time; with workers=8 the run would take about 4.8 s, then fetch limits",
    )


def test_the_next_stage_to_limit_is_named() -> None:
    name, text = advised(BusyTime("fetch", "thread", 2, 19.0), BusyTime("parse", "thread", 1, 8.0))

    assert name == "fetch"
    assert text.endswith("with workers=4 the run would take about 8.0 s, then parse limits")


def test_more_processes_up_to_the_cpus() -> None:
    name, text = advised(BusyTime("score", "process", 3, 29.0))

    assert name == "score"
    assert "with workers=4 the run would take about 7.2 s, then score limits" in text


def test_advice_when_processes_use_all_cpus() -> None:
    _, text = advised(BusyTime("score", "process", 4, 39.0))

    assert text == (
        "score is busy 98% of the time; its 4 processes use all 4 CPUs of this task: make the function cheaper "
        "(batch_size with vectorized code), give the task more CPUs, or spread it over mapped tasks"
    )


def test_processes_beyond_the_cpus_do_not_hide_the_bottleneck() -> None:
    """Sixteen processes on four CPUs work no faster than four."""
    name, _ = advised(BusyTime("score", "process", 16, 38.0), BusyTime("fetch", "thread", 10, 60.0))

    assert name == "score"


def test_a_source_that_limits() -> None:
    name, text = advise([BusyTime("source", "source", 1, 9.0), BusyTime("fetch", "thread", 8, 9.0), SINK], 10.0)

    assert name == "source"
    assert text == (
        "source is busy 90% of the time; the source limits the run: let it yield cheaper items (names, ids) and fetch "
        "in a stage"
    )


def test_a_sink_that_limits() -> None:
    name, text = advise([SOURCE, BusyTime("sink", "sink", 1, 9.9)], 10.0)

    assert name == "sink"
    assert "larger chunks, fewer indexes, or a faster table" in text


def test_an_inline_stage_that_limits() -> None:
    _, text = advised(BusyTime("clean", "inline", 1, 9.0))

    assert 'kind="thread" if it waits, kind="process" if it computes' in text


def test_a_run_that_is_mostly_start_up_needs_no_workers() -> None:
    assert advised(BusyTime("fetch", "thread", 4, 8.0)) == (
        "fetch",
        "fetch is busy 20% of the time: most of the run is start-up and transport, so more workers would not help",
    )


@pytest.mark.parametrize(("loads", "seconds"), [([], 10.0), ([BusyTime("a", "thread", 1, 0.0)], 10.0), ([SOURCE], 0.0)])
def test_nothing_measured_nothing_advised(loads: list[BusyTime], seconds: float) -> None:
    assert advise(loads, seconds) == (None, "")


def test_busy_is_never_more_than_all_the_time() -> None:
    _, text = advised(BusyTime("fetch", "thread", 1, 99.0))

    assert text.startswith("fetch is busy 100% of the time")


def test_a_stage_without_workers_has_a_bound() -> None:
    assert BusyTime("fetch", "thread", 0, 3.0).bound() == 3.0
