"""What a report says of a run beyond its counts."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_parallel_provider import ListSink, Pipeline, Source, Stage
from airflow_parallel_provider.engine.interfaces.source import IterableSource, place_text
from airflow_parallel_provider.engine.plan.worker_hooks import WorkerHooks
from airflow_parallel_provider.engine.run import report_builder
from airflow_parallel_provider.engine.stages import setup_retry
from airflow_parallel_provider.errors import RunFailed
from airflow_parallel_provider.foreign import calls
from airflow_parallel_provider.report import RunReport


class FullDisk(ListSink):
    def commit(self, chunk: Any) -> int:
        raise OSError("No space left on device")


def broken_source() -> Iterator[int]:
    yield 1
    raise ValueError("no more")


def reject(item: int) -> int:
    raise ValueError(item)


def without_result(items: list[int]) -> None:
    """Returns nothing, which a stage of batches may not."""


def failed(pipeline: Pipeline) -> RunReport:
    with pytest.raises(RunFailed) as caught:
        pipeline.run()
    assert caught.value.report is not None
    return caught.value.report


@pytest.mark.parametrize(
    ("declare", "at"),
    [
        (lambda: Pipeline(range(9), [Stage(abs)], FullDisk()), "sink"),
        (lambda: Pipeline(broken_source(), [Stage(abs)], ListSink()), "source"),
        (lambda: Pipeline(range(9), [Stage(abs), Stage(reject)], ListSink()), "reject"),
        (lambda: Pipeline(range(9), [Stage(abs), Stage(without_result, batch_size=3)], ListSink()), "without_result"),
    ],
)
def test_failed_run_says_what_failed_and_has_no_bottleneck(declare: Callable[[], Pipeline], at: str) -> None:
    """A run whose sink failed was shown as "bottleneck: source, busy 0 %" (issue 17, A9)."""
    report = failed(declare())

    assert (report.failed_at, report.bottleneck, report.advice, report.forecast) == (at, None, "", None)


def test_speedup_below_one_is_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_builder, "other_load", lambda before, own: 0.0)

    report = Pipeline(range(3), [Stage(abs)], ListSink()).run()

    assert report.speedup is None
    assert "not compared with one worker: start-up and transport took longer than the work itself" in str(report)


def test_speedup_on_a_busy_machine_is_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_builder, "other_load", lambda before, own: 0.4)

    report = Pipeline(range(3), [Stage(abs)], ListSink()).run()

    assert (report.speedup, report.other_load) == (None, 0.4)
    assert report.no_speedup == "other programs used 40% of this machine's CPUs"


def test_pipeline_without_stages_has_no_table_of_stages() -> None:
    assert "starved" not in str(Pipeline(range(3), [], ListSink()).run())


class Pages(Source):
    """Items that know where they come from."""

    def __init__(self, place: Callable[[int], str]) -> None:
        self.place = place

    def __iter__(self) -> Iterator[int]:
        return iter(range(3))

    def place_of(self, position: int) -> str:
        return self.place(position)


@pytest.mark.parametrize(
    ("place", "message", "named"),
    [
        ("page 1", "no", "item 0 (page 1)"),
        ("a.csv", "a.csv, line 7: 1 field", "item 0 (a.csv, line 7)"),
        ("a.zip", "a.zip!b c.csv, line 7: 1 field", "item 0 (a.zip!b c.csv, line 7)"),
        ("a.csv", "a.csv is empty", "item 0 (a.csv)"),
        ("", "no", "item 0"),
    ],
)
def test_place_of_an_item_is_named(place: str, message: str, named: str) -> None:
    def fail(item: int) -> int:
        raise ValueError(message)

    with pytest.raises(RunFailed) as caught:
        Pipeline(Pages(lambda _position: place), [Stage(fail, workers=1)], ListSink()).run()

    assert str(caught.value).endswith(named)


def test_place_that_cannot_be_said_leaves_the_report_as_it_is() -> None:
    with pytest.raises(RunFailed, match=r"item \d(: \d)?$"):
        Pipeline(Pages(lambda position: "abc"[position + 9]), [Stage(reject)], ListSink()).run()
    with pytest.raises(RunFailed, match=r"failed: OSError: No space left on device$"):
        Pipeline(Pages(lambda position: "abc"[position + 9]), [], FullDisk()).run()
    with pytest.raises(RunFailed, match=r"No space left on device\. The chunk holds page 0 to page 2$"):
        Pipeline(Pages(lambda position: f"page {position}"), [], FullDisk()).run()


def test_place_of_a_source_that_hangs_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each cause of each snapshot once waited for it again."""
    monkeypatch.setattr(calls, "SECONDS", 0.1)
    monkeypatch.setattr(calls, "_hung", {})
    asked, never = [], threading.Event()

    class Hanging(Pages):
        def place_of(self, position: int) -> str:
            asked.append(position)
            never.wait(30.0)
            return ""

    def fail(item: int) -> int:
        raise (ValueError, LookupError, TypeError)[item]("no")

    Pipeline(Hanging(str), [Stage(fail)], ListSink(), tolerance=3).run(observe=lambda _: None)

    never.set()
    assert len(asked) == 1


def test_place_of_an_item_is_asked_for_once() -> None:
    asked = []

    def place(position: int) -> str:
        asked.append(position)
        return "page 1"

    Pipeline(Pages(place), [Stage(reject)], ListSink(), tolerance=3).run(observe=lambda _: None)

    assert len(asked) == len(set(asked))


def test_source_without_places_is_not_asked_on_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "_in_time", lambda *_: pytest.fail("a thread was started"))

    assert place_text(IterableSource(range(3)), 0) == ""


def test_secret_in_the_error_of_a_run_is_redacted_in_its_report() -> None:
    """The error was, the report that goes to XCom and to the page was not."""

    def source() -> Iterator[int]:
        yield 1
        raise ValueError("password hunter2")

    snapshots: list[dict[str, Any]] = []
    hooks = WorkerHooks(redact=lambda text: text.replace("hunter2", "***"))
    with pytest.raises(RunFailed) as caught:
        Pipeline(source, [], ListSink(), worker_hooks=hooks).run(observe=snapshots.append)

    assert "password ***" in str(caught.value)
    assert "hunter2" not in str(caught.value.report)
    assert "hunter2" not in str(snapshots)


@pytest.mark.parametrize("broken", ["load", "load more"])
def test_stage_whose_name_begins_with_that_of_another_is_told_apart(
    broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup_retry, "SETUP_ATTEMPTS", 1)

    def fail() -> int:
        raise ValueError("no")

    stages = [
        Stage(lambda item, _: item, name=name, setup=fail if name == broken else int) for name in ("load", "load more")
    ]

    assert failed(Pipeline(range(3), stages, ListSink())).failed_at == broken


def test_cpu_of_programs_that_a_stage_starts_is_not_that_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread stage that starts programs was told that other programs used the machine."""
    own: list[float] = []
    monkeypatch.setattr(report_builder, "other_load", lambda _before, seconds: own.append(seconds) or 0.0)
    burn = "import time\nwhile time.process_time() < 0.2: pass"

    def start(item: int) -> int:
        return subprocess.run([sys.executable, "-S", "-c", burn], check=True).returncode

    Pipeline(range(1), [Stage(start)], ListSink()).run()

    assert own[-1] >= 0.2


def test_rate_counts_what_is_finished_and_not_what_is_only_read() -> None:
    """A live page showed 26 items per second beside the 17 that were finished: the others were on their way."""

    def breaks(item: int) -> int:
        if item == 90:
            raise ValueError("here")
        return item

    report = failed(Pipeline(range(100), [Stage(breaks, workers=1)], ListSink(), chunk_size=10, max_in_flight=10))

    assert report.items_unfinished > 0
    finished = report.items_read - report.items_unfinished
    assert report.items_per_second == pytest.approx(finished / report.seconds, rel=0.02)
