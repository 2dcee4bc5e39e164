"""``loadtest``: faults are accounted for, leaks are found, and the verdict is the exit code.

Rates on a shared machine are not judged here (wide limits); the statistics have tests of their own.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from airflow_parallel_provider import ListSink, Pipeline, Stage
from airflow_parallel_provider.cli.counting import CountingSink
from airflow_parallel_provider.cli.loadtest.plan import faults_for, prepare
from airflow_parallel_provider.cli.loadtest.result import judge
from airflow_parallel_provider.cli.loadtest.sampling import Sample
from airflow_parallel_provider.cli.loadtest.settings import Injection, LoadTestSettings, parse_injection
from airflow_parallel_provider.cli.loadtest.text import result_text, sparkline
from airflow_parallel_provider.cli.main import main
from airflow_parallel_provider.engine.interfaces.records import ChunkResult, LoadSpec
from airflow_parallel_provider.errors import PlanError, RunStopped
from airflow_parallel_provider.testing.fault_plan import Fail, Kill, Stall
from airflow_parallel_provider.testing.inline import run_inline
from tests.cli import pipelines

HERE = "tests.cli.pipelines"
WIDE = ["--max-variation", "99", "--max-slowdown", "99", "--max-growth", "4000", "--quiet"]


def load_test(capsys: pytest.CaptureFixture[str], target: str, *arguments: str) -> tuple[int, dict[str, Any]]:
    code = main(["loadtest", f"{HERE}:{target}", "--json", *WIDE, *arguments])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, found


def test_every_fault_is_accounted_for(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = load_test(
        capsys, "every_kind", "--items", "400", "--inject", "kill:0.01,stall:0.004,error:0.03", "--stall-timeout", "0.8"
    )

    assert code == 0, found["problems"]
    assert found["passed"]
    assert found["report"]["items_read"] == 400
    assert found["conservation"] == {"ok": True, "problems": []}
    by_place = {(each["stage"], each["kind"]): each for each in found["faults"]}
    assert set(by_place) == {
        *((stage, "error") for stage in ("wait", "compute", "glue")),
        *((stage, "stall") for stage in ("wait", "compute")),
        ("compute", "kill"),
    }
    for each in found["faults"]:
        # What a killed worker had not answered yet is lost with it, an error among it too, and done again.
        killed = (each["stage"], each["kind"]) == ("compute", "error")
        assert each["exact"] != killed
        assert killed or each["accounted"] >= each["injected"], each
        if each["kind"] != "stall" and not killed:  # on a busy machine an honest call may time out, too
            assert each["accounted"] == each["injected"], each
    assert all(each["injected"] for each in found["faults"] if each["kind"] == "error")
    assert found["report"]["items_dead_lettered"] > 0  # compute has no retry, and the tolerance was lifted


def test_the_same_seed_strikes_the_same_items(capsys: pytest.CaptureFixture[str]) -> None:
    def struck(seed: str) -> list[int]:
        options = ("--items", "300", "--inject", "error:0.05", "--seed", seed)
        _, found = load_test(capsys, "threads_only", *options)
        return [each["injected"] for each in found["faults"]] + [found["report"]["stages"][0]["retried"]]

    assert struck("1") == struck("1") != struck("2")


def test_without_faults_for_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = load_test(capsys, "threads_only", "--seconds", "4")

    assert code == 0, found["problems"]
    assert found["rounds"] > 1
    assert found["faults"] == []
    assert len(found["stability"]["windows"]) >= 5
    assert found["memory"]["samples"] >= 8
    assert found["throughput"]["items"] == found["report"]["items_committed"] > 100


def test_a_leak_fails_the_test(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code, found = load_test(capsys, "leaking", "--items", "3000", "--max-growth", "4")
    finally:
        pipelines.LEFT.clear()

    assert code == 1, found["memory"]
    assert any("it is not bounded" in each for each in found["problems"]), found["problems"]


def test_a_run_that_fails(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = load_test(capsys, "failing", "--items", "20")

    assert code == 1
    assert found["problems"] == ["the run failed: 1 of 20 items failed, tolerance is 0 failures"]
    assert found["report"]["state"] == "failed"


def test_the_tolerance_can_be_kept(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--items", "100", "--inject", "error:0.1", "--keep-tolerance")
    code, found = load_test(capsys, "make", *options)

    assert code == 1
    assert "tolerance is 0 failures" in found["problems"][0]


def test_faults_that_never_struck_fail_the_test(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = load_test(capsys, "make", "--items", "20", "--inject", "error:0.000001")

    assert code == 1
    assert found["problems"] == ["no error was injected: give more items, or a higher share (error:0.1)"]


def test_a_source_that_can_be_read_once(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = load_test(capsys, "read_once", "--items", "500")

    assert code == 0, found["problems"]
    assert "the source can be read only once: it gave 50 items and no more" in found["notes"]


def test_ctrl_c(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = load_test(capsys, "interrupted", "--items", "1000000")

    assert code == 130
    assert found["report"]["state"] == "stopped"


def test_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["loadtest", f"{HERE}:threads_only", "--items", "200", "--inject", "error", *WIDE[:-1]])

    out, err = capsys.readouterr()
    assert code == 0, out
    assert out.endswith("\nPASSED\n")
    assert "conservation  all 200 items read are accounted for" in out
    assert "faults        pause: error injected " in out
    assert "items/s: 200 items in " in out
    assert "200 of 200 items (100%)" in err


# -- the parts ---------------------------------------------------------------------------------------------------------


def test_the_sink_is_replaced_unless_asked_for() -> None:
    sink = ListSink()
    pipeline = Pipeline(range(5), [Stage(pipelines.same)], sink, load_key="k")

    counted = prepare(pipeline, LoadTestSettings(items=5))
    run = counted.pipeline.run()
    assert sink.rows == []
    assert (run.rows_committed, counted.sink.rows, counted.sink.items) == (5, 5, 5)

    prepare(pipeline, LoadTestSettings(items=5, real_sink=True)).pipeline.run()
    assert sorted(sink.rows) == [0, 1, 2, 3, 4]
    assert counted.pipeline.load_key is None
    assert pipeline.load_key == "k"


def test_which_fault_strikes_where() -> None:
    settings = LoadTestSettings(inject=parse_injection("kill,stall,error:0.2"), stall_timeout=7)
    stages = prepare(pipelines.every_kind, settings).pipeline.stages

    faults = faults_for(stages, settings)

    assert [(type(each), each.stage, each.rate, each.limit) for each in faults] == [
        (Kill, "compute", 0.001, None),
        (Stall, "wait", 0.0005, 2),
        (Stall, "compute", 0.0005, 1),
        (Fail, "wait", 0.2, None),
        (Fail, "compute", 0.2, None),
        (Fail, "glue", 0.2, None),
    ]
    assert [stage.timeout for stage in stages] == [7, 0.8, None]


def test_with_few_items_more_of_them_are_struck() -> None:
    assert Injection("error", None).rate_for(None) == 0.01
    assert Injection("error", None).rate_for(1_000_000) == 0.01
    assert Injection("error", None).rate_for(100) == 0.05
    assert Injection("kill", None).rate_for(1) == 0.5
    assert Injection("kill", 0.2).rate_for(1) == 0.2


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "'' is unknown: give each of error, kill, stall once"),
        ("error,fire:0.2", "'fire' is unknown"),
        ("kill,kill", "'kill' is given twice"),
        ("error,", "'' is unknown"),
        ("kill:2", "'2' is not a share"),
        ("kill:0", "'0' is not a share"),
        ("kill:x", "'x' is not a share"),
    ],
)
def test_what_cannot_be_injected(text: str, wrong: str) -> None:
    with pytest.raises(PlanError, match=f"--inject.*{wrong}"):
        parse_injection(text)


@pytest.fixture
def judged() -> Any:
    """Judge a run of 40 items after its counts were changed."""
    settings = LoadTestSettings(items=40)
    test = prepare(Pipeline(range(40), [Stage(pipelines.same)], chunk_size=10), settings)
    report = run_inline(test.pipeline, sink=test.sink).report
    assert report.items_read == 40
    test.source.given = 40  # its own source is read once already

    def tamper(
        samples: list[Sample] | None = None, settings: LoadTestSettings = settings, error: Any = None, **changes: Any
    ) -> Any:
        for name in ("items", "rows", "twice", "_ahead"):
            if name in changes:
                setattr(test.sink, name, changes.pop(name))
        if "given" in changes:
            test.source.given = changes.pop("given")
        return judge(test, settings, replace(report, **changes), samples or [], error)

    return tamper


def test_untampered_it_passes(judged: Any) -> None:
    found = judged()

    assert found.passed
    assert found.problems == []
    assert len(found.notes) == 2  # too short to be judged
    assert "stability     not judged" in result_text(found)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"items": 39}, "the sink received chunks of 39 items, the report says 40"),
        ({"rows": 41}, "the sink received 41 rows, the report says 40"),
        ({"twice": 1}, "1 chunks reached the sink twice"),
        ({"_ahead": {6}}, "2 chunks never reached the sink"),
        ({"given": 41}, "the source gave 41 items, the report says 40"),
        ({"items_committed": 39}, "40 items were read, but 39 committed"),
        ({"error": RunStopped("stopped: why")}, "the run failed: stopped: why"),
    ],
)
def test_anything_that_does_not_add_up_fails(judged: Any, changes: dict[str, Any], text: str) -> None:
    found = judged(**changes)

    assert not found.passed
    assert any(text in each for each in found.problems), found.problems
    assert "FAILED" in result_text(found)


def falling(number: int) -> float:
    return 1000.0 - number * 8


@pytest.mark.parametrize(
    ("rate", "settings", "text"),
    [
        (falling, {}, "the rate fell by"),
        (falling, {"max_slowdown": 2.0}, None),
        (lambda number: 3000.0 if number % 10 < 2 else 100.0, {}, "around its mean"),
        (lambda number: 3000.0 if number % 10 < 2 else 100.0, {"max_variation": 3.0}, None),
        (lambda number: 3000.0 if number % 10 < 2 else 100.0, {"inject": (Injection("kill", None),)}, None),
        (lambda _: 1000.0, {}, None),
    ],
)
def test_the_rate_is_judged(judged: Any, rate: Any, settings: dict[str, Any], text: str | None) -> None:
    passed, samples = 0.0, []
    for number in range(101):
        passed += rate(number) * 0.1
        samples.append(Sample(number * 0.1, int(passed) + 1000 + number, int(passed), 1))

    found = judged(samples, LoadTestSettings(items=40, **settings))

    assert [text in each for each in found.problems] == ([True] if text else []), found.problems
    assert "items/s in windows of" in result_text(found)


def test_sparkline() -> None:
    assert sparkline([0, 50, 100]) == "▁▅█"
    assert sparkline([0, 0]) == "▁▁"


def test_a_counting_sink_sees_chunks_that_come_twice_or_never() -> None:
    sink = CountingSink()
    sink.prepare(LoadSpec(None, 2, "list"))
    for index in (1, 0, 3, 3, 1):
        sink.commit(ChunkResult(f"{index:08d}", index, index * 2, 2, 0, ["row"]))

    assert (sink.chunks, sink.rows, sink.twice, sink.missing) == (5, 5, 2, 1)
