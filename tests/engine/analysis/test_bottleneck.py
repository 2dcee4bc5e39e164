"""Which stage limits a run, and the sentence that says what to change. On a machine of four CPUs."""

from __future__ import annotations

import pytest

from airflow_parallel_provider import ListSink, Pipeline, Stage
from airflow_parallel_provider.engine.analysis import bottleneck
from airflow_parallel_provider.engine.analysis.bottleneck import Advice, BusyTime, RunTimes, advise

SOURCE, SINK = BusyTime("source", "source", 1, 0.5, 0.05), BusyTime("sink", "sink", 1, 1.0, 0.1)


@pytest.fixture(autouse=True)
def _four_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bottleneck, "usable_cpus", lambda: 4)


def part(name: str, kind: str, workers: int, busy: float, *, cpu: float = 0.0, seconds: float = 10.0) -> BusyTime:
    return BusyTime(name, kind, workers, busy, min(1.0, busy / max(1, workers) / seconds), cpu)


def advised(*parts: BusyTime, seconds: float = 10.0, **times: float) -> Advice:
    return advise([SOURCE, *parts, SINK], RunTimes(**{"working": seconds, "total": seconds, **times}))


def test_more_threads_where_a_stage_of_threads_limits() -> None:
    advice = advised(part("fetch", "thread", 4, 38.0), total=12.5)

    assert advice.bottleneck == "fetch"
    assert advice.text == (
        "fetch is busy 95% of its workers' time; with workers=8 the run would take about 7.8 s if what it waits for "
        "keeps up (3.0 s do not shrink), then fetch limits"
    )
    assert advice.forecast_dict() == {
        "stage": "fetch",
        "workers": 4,
        "more_workers": 8,
        "seconds": 7.75,
        "fixed_seconds": 3.0,
        "gain": 0.38,
        "limit": "fetch",
    }


def test_forecast_is_never_below_what_is_fixed() -> None:
    """Start-up, the source and the commits take their time with any number of workers (issue 17, A2)."""
    forecast = advised(part("fetch", "thread", 2, 32.0, seconds=22.6), seconds=22.6, total=22.6).forecast

    assert forecast is not None
    assert forecast.fixed_seconds == 6.6
    assert forecast.seconds == 14.6
    assert forecast.gain == round(1 - 14.6 / 22.6, 3)


def test_the_next_part_to_limit_is_named() -> None:
    advice = advised(part("fetch", "thread", 2, 19.0), part("parse", "thread", 1, 8.0))

    assert advice.bottleneck == "fetch"
    assert advice.text.endswith("(0.5 s do not shrink), then parse limits")
    assert advice.forecast is not None
    assert advice.forecast.seconds == 8.5


def test_more_processes_up_to_the_cpus() -> None:
    advice = advised(part("score", "process", 3, 29.0))

    assert advice.bottleneck == "score"
    assert "with workers=4 the run would take about 7.6 s (0.3 s do not shrink), then score limits" in advice.text


def test_threads_gain_nothing_beyond_the_interpreter_lock() -> None:
    advice = advised(part("parse", "thread", 2, 19.0), task_cpu=8.0)

    assert "then Python's interpreter lock limits" in advice.text
    assert advice.forecast is not None
    assert advice.forecast.limit == "interpreter"
    assert advice.forecast.seconds == 8.5


def test_advice_when_processes_use_all_cpus() -> None:
    assert advised(part("score", "process", 4, 39.0)).text == (
        "score is busy 98% of its workers' time; its 4 processes use all 4 CPUs of this task: make the function "
        "cheaper (batch_size with vectorized code), give the task more CPUs, or spread it over mapped tasks"
    )


def test_processes_beyond_the_cpus_do_not_hide_the_bottleneck() -> None:
    """Sixteen processes on four CPUs work no faster than four."""
    assert advised(part("score", "process", 16, 38.0), part("fetch", "thread", 10, 60.0)).bottleneck == "score"


def test_a_source_that_limits() -> None:
    advice = advise([part("source", "source", 1, 9.0), part("fetch", "thread", 8, 9.0), SINK], RunTimes(10.0, 10.0))

    assert advice == Advice(
        "source",
        "source is busy 90% of the time; the source limits the run: let it yield cheaper items (names, ids) and fetch "
        "in a stage",
    )


def test_a_source_that_limits_says_itself_what_helps() -> None:
    times = RunTimes(10.0, 10.0, source_advice="more pages at the same time (readers=4)")

    advice = advise([part("source", "source", 1, 9.0), SINK], times)

    assert advice.text == (
        "source is busy 90% of the time; the source limits the run: more pages at the same time (readers=4)"
    )


def test_a_sink_that_limits() -> None:
    advice = advise([SOURCE, part("sink", "sink", 1, 9.9)], RunTimes(10.0, 10.0))

    assert advice.bottleneck == "sink"
    assert "larger chunks, fewer indexes, or a faster table" in advice.text


def test_the_sink_is_not_blamed_for_waiting_for_the_interpreter() -> None:
    """Seen when a table was copied: the sink was busy 87 % by the clock, the reader held the lock (issue 17, A11)."""
    source, sink = part("source", "source", 1, 4.0, cpu=5.2), part("sink", "sink", 1, 8.7, cpu=1.4)

    advice = advise([source, sink], RunTimes(10.0, 10.0, task_cpu=9.7))

    assert advice.bottleneck == "source"
    assert advice.text == (
        "the task process uses 97% of one CPU, and Python runs one of its threads at a time (source 54%, sink 14%, "
        "passing items on 32%): let the source yield cheaper items (names, ids, Arrow tables) and read them in a "
        "process stage"
    )


@pytest.mark.parametrize(
    ("parts", "cure"),
    [
        ([part("parse", "thread", 2, 19.0, cpu=9.0)], 'give it kind="process", or batch_size= with vectorized code'),
        ([part("parse", "thread", 2, 19.0, cpu=1.0)], "fewer and larger items, or batch_size="),
        ([BusyTime("sink", "sink", 1, 9.0, 0.9, cpu=8.0)], "return Arrow tables or data frames instead of rows"),
    ],
)
def test_what_helps_where_the_interpreter_limits(parts: list[BusyTime], cure: str) -> None:
    assert cure in advise([SOURCE, *parts], RunTimes(10.0, 10.0, task_cpu=9.9)).text


def test_compiled_code_that_leaves_the_lock_is_no_interpreter_limit() -> None:
    assert "interpreter" not in (advised(part("fetch", "thread", 4, 38.0), task_cpu=25.0).text.split("then")[0])


def test_other_programs_come_first_where_they_took_the_cpus() -> None:
    advice = advised(part("fetch", "thread", 4, 38.0), other_load=0.45)

    assert advice.text.startswith(
        "other programs used 45% of this machine's CPUs, so all times are longer than they need"
    )


def test_an_inline_stage_that_limits() -> None:
    assert 'kind="thread" if it waits, kind="process" if it computes' in advised(part("clean", "inline", 1, 9.0)).text


def test_a_run_that_is_mostly_start_up_needs_no_workers() -> None:
    assert advised(part("fetch", "thread", 4, 8.0)) == Advice(
        "fetch",
        "fetch is busy 20% of its workers' time: most of the run is start-up and transport, so more workers would not "
        "help",
    )


@pytest.mark.parametrize(("parts", "seconds"), [([], 10.0), ([part("a", "thread", 1, 0.0)], 10.0), ([SOURCE], 0.0)])
def test_nothing_measured_nothing_advised(parts: list[BusyTime], seconds: float) -> None:
    assert advise(parts, RunTimes(seconds, seconds)) == Advice()


def test_few_calls_give_no_forecast() -> None:
    few = BusyTime("fetch", "thread", 4, 38.0, 0.95, calls=3)

    assert advised(few).forecast is None


def test_a_stage_without_workers_has_a_bound() -> None:
    assert BusyTime("fetch", "thread", 0, 3.0).bound() == 3.0


def test_advice_and_report_show_one_share_of_busy_time() -> None:
    """Issue 17, A1: the card said 36 % where the advice said 71 %."""
    report = Pipeline(range(400), [Stage(busy, workers=3)], ListSink(), chunk_size=50).run()

    [stage] = report.stages
    assert report.bottleneck == "busy"
    assert f"busy is busy {stage.busy_fraction:.0%} of its workers' time" in report.advice
    assert report.advice in str(report)


def busy(item: int) -> int:
    from time import sleep

    sleep(0.002)  # the work of this stage is to wait
    return item


def test_a_busy_machine_does_not_hide_the_interpreter_lock() -> None:
    """The task process used what others left of one CPU: its threads waited for each other, not for items."""
    burn = part("burn", "thread", 4, 9.6, cpu=6.6)
    left = {"other_load": 0.81, "task_cpu": 6.9}  # others left 0.76 of four CPUs

    advice = advised(burn, **left)

    assert advice.text.startswith("other programs used 81% of this machine's CPUs")
    assert "the task process uses 69% of one CPU, and Python runs one of its threads at a time (burn 96%" in advice.text
    assert "most of the run is start-up" in advised(burn, other_load=0.5, task_cpu=6.9).text
    assert "most of the run is start-up" in advised(part("burn", "process", 4, 9.6), **left).text
