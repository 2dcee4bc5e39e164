"""Parts of the Pipeline tab, drawn by a real browser from made-up snapshots, without an Airflow."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_parallel_provider import DROP, ListSink, Pipeline, Retry, Stage
from airflow_parallel_provider.formats import cut_middle, format_share
from airflow_parallel_provider.monitoring.json_values import to_json_value
from tests.support.javascript import STATIC, call
from tests.support.shown_figures import of_page, of_report, of_text
from tests.system.browser import OPTIONS, chromium

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page, Route

pytest.importorskip("playwright")

ORIGIN = "http://pipeline.test"
SHEET = '<!doctype html><link rel="stylesheet" href="/pipeline.css">'
HEADER = '<header class="pp-header"><span class="pp-state"></span></header>'
PAGE = f'{SHEET}<body><div class="pp">{HEADER}<div class="pp-body"></div></div>'
DASH = "\N{EN DASH}"
TYPES = {".js": "text/javascript", ".css": "text/css"}


@pytest.fixture(scope="module")
def _page() -> Iterator[Page]:
    from playwright.sync_api import sync_playwright

    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=chromium(), args=list(OPTIONS)) as browser,
    ):
        page = browser.new_page()
        page.route(f"{ORIGIN}/**", _answer)
        yield page


def _answer(route: Route) -> None:
    name = Path(route.request.url.partition("?")[0]).name
    if (STATIC / name).is_file():
        route.fulfill(body=(STATIC / name).read_text(encoding="utf-8"), content_type=TYPES[Path(name).suffix])
    else:
        route.fulfill(body=PAGE, content_type="text/html")


@pytest.fixture
def page(_page: Page) -> Iterator[Page]:
    errors: list[str] = []
    _page.on("pageerror", lambda error: errors.append(str(error)))
    _page.set_viewport_size({"width": 1200, "height": 1000})
    _page.goto(f"{ORIGIN}/page")
    yield _page
    assert errors == []


def draw(page: Page, snapshot: dict[str, Any]) -> None:
    """Put all sections of the page of a try into it."""
    page.evaluate(
        """async (snapshot) => {
            document.querySelector(".pp-state").textContent = snapshot.state;
            const [{ swap }, { flow }, parts, { curves }] = await Promise.all(
                ["dom", "flow", "sections", "series"].map((name) => import(`/${name}.js`)));
            const lines = curves(snapshot);
            swap(document.querySelector(".pp-body"),
                parts.progress(snapshot, !snapshot.final), flow(snapshot, lines), parts.advice(snapshot),
                parts.numbers(snapshot), parts.failures(snapshot, {}), parts.overTime(snapshot, lines),
                parts.perStageOverTime(snapshot, lines), parts.workers(snapshot));
            await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
        }""",
        snapshot,
    )


def stage(name: str, **values: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "kind": "thread",
        "workers": 4,
        "workers_now": 4,
        "items_in": 90,
        "items_out": 90,
        "failed": 0,
    }
    made |= {"busy_fraction": 0.9, "starved_fraction": 0.1, "blocked_fraction": 0.0, "queue_now": 3, "queue_size": 16}
    return {"name": name, **made, "queue_peak": 12, "p50_ms": 2.0, "p95_ms": 3.0, "p99_ms": 4.0, **values}


def snapshot(*stages: dict[str, Any], **values: Any) -> dict[str, Any]:
    seconds = [0.0, 2.0, 4.0, 6.0]
    columns = {name: [0, 30, 60, 90] for name in ("items_read", "items_done", "rows_committed", "cpu_seconds")}
    of_stage = {"items_out": [0, 30, 60, 90], "busy_seconds": [0.0, 6.0, 14.0, 21.0], "workers_now": [4, 4, 4, 0]}
    of_stage |= {"queue_now": [3, 9, 5, 0], "p50_ms": [2, 2, 3, 0]}
    history = {"seconds": seconds, **columns, "items_dead_lettered": [0, 0, 0, 0], "rss_bytes": [2**27 + 2**25] * 4}
    history["stages"] = {each["name"]: of_stage for each in stages}
    made: dict[str, Any] = {
        "items_read": 90,
        "items_committed": 90,
        "rows_committed": 90,
        "chunks_committed": 9,
        "cpu_seconds": 1.0,
    }
    made |= {"seconds": 6.0, "items_per_second": 15.0, "peak_rss_bytes": 2**27, "max_in_flight": 40, "sink": "table t"}
    return {**made, "state": "success", "final": True, "stages": list(stages), "history": history, **values}


def test_a_run_without_stages_has_no_empty_chart(page: Page) -> None:
    draw(page, snapshot())

    assert page.locator(".pp-charts > *").count() == page.locator(".pp-charts > .pp-chart").count() == 4
    stray = "[...document.querySelectorAll('.pp-charts')].flatMap((each) => [...each.childNodes])"
    assert page.evaluate(f"{stray}.filter((each) => each.nodeType === Node.TEXT_NODE).length") == 0
    assert page.locator("section[aria-label='Latency'], section[aria-label^='Where']").count() == 0


def test_no_chart_without_anything_in_it(page: Page) -> None:
    """A run of two samples, and a stage inside the others, which has no workers."""
    brief = snapshot(stage("fetch"), stage("tidy", kind="inline"))
    history = brief["history"]
    for columns in (history, *history["stages"].values()):
        columns.update({name: each[:3] for name, each in columns.items() if isinstance(each, list)})
    draw(page, brief)

    empty = [
        each for each in page.locator(".pp-chart").all() if not each.locator("path[d*=L],path[d*=H],path[d*=h]").count()
    ]
    assert [each.locator("figcaption").inner_text() for each in empty] == []


@pytest.mark.parametrize("width", [800, 1100, 1400])
def test_twelve_stages_read_as_one_line(page: Page, width: int) -> None:
    names = [f"score the {number}th model of the northern region by day" for number in range(12)]
    page.set_viewport_size({"width": width, "height": 1000})
    draw(page, snapshot(*map(stage, names)))

    tops = page.evaluate("[...document.querySelectorAll('.pp-flow > li')].map((each) => each.offsetTop)")
    rows = len(set(tops))
    assert rows > 1
    assert tops == sorted(tops)
    assert page.locator(".pp-flow > .pp-turn").count() == page.locator(".pp-flow > .pp-row").count() == rows - 1
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    shown = page.locator(".pp-stage-head [title]")
    assert shown.count() == 12
    assert [each.get_attribute("title") for each in shown.all()] == names
    assert shown.first.inner_text() == "score the 0t…gion by day"
    too_wide = page.evaluate(
        """[...document.querySelectorAll('.pp-stage, .pp-stage *, .pp-channel *, .pp-chart *')]
            .filter((each) => each.clientWidth && each.scrollWidth > each.clientWidth + 1)
            .map((each) => each.className)"""
    )
    assert too_wide == []

    page.set_viewport_size({"width": 600, "height": 1000})
    page.wait_for_function(f"document.querySelectorAll('.pp-flow > .pp-turn').length > {rows - 1}")


def test_back_pressure_is_seen_at_a_glance(page: Page) -> None:
    stages = [stage("fetch", blocked_fraction=0.77), stage("parse", blocked_fraction=0.5), stage("score"), stage("row")]
    draw(page, snapshot(*stages, bottleneck="score"))

    marked = page.locator(".pp-flow > li:has(.pp-waits)")
    assert [each.locator("[data-stage]").get_attribute("data-stage") for each in marked.all()] == ["fetch", "parse"]
    assert [each.inner_text() for each in page.locator(".pp-chip").all()] == [
        "blocked 77%",
        "blocked 50%",
        "bottleneck",
    ]
    into = page.locator(".pp-flow > li:has(.pp-pressed) [data-stage]")
    assert [each.get_attribute("data-stage") for each in into.all()] == ["parse", "score"]


def test_queues_of_an_ended_run_say_how_full_they_were(page: Page) -> None:
    draw(page, snapshot(stage("fetch")))
    assert page.locator("[data-figure='queue:fetch']").inner_text() == "peak 12 / 16"

    draw(page, snapshot(stage("fetch"), final=False, state="running"))
    assert page.locator("[data-figure='queue:fetch']").inner_text() == "3 / 16"


def test_time_between_calls_is_not_left_out(page: Page) -> None:
    """Threads that wait for the interpreter's lock are neither busy nor starved nor blocked."""
    draw(page, snapshot(stage("burn", busy_fraction=0.24, starved_fraction=0.02)))

    assert "busy 24% · starved 2% · blocked 0% · between calls 74%" in page.locator("[data-stage=burn]").inner_text()


def test_what_the_source_has_counted_is_shown(page: Page) -> None:
    counted = {"pages_requested": 1200, "retries": 3, "retries_by_status": {"429": 2, "503": 1}, "seconds_waited": 4.25}
    draw(page, snapshot(source={**counted, "seconds_rate_limited": 0}, rows_rejected=7))

    assert page.locator("[data-figure=source]").inner_text() == (
        "pages requested 1,200 · retries 3 · retries by status 429: 2, 503: 1 · seconds waited 4.3"
    )
    assert "and 7 rows rejected" in page.locator(".pp-figures").inner_text()
    draw(page, snapshot())
    assert page.locator("[data-figure=source]").count() == 0


def test_a_failed_run_marks_what_failed(page: Page) -> None:
    draw(page, snapshot(stage("fetch"), state="failed", failed_at="sink"))

    assert page.locator(".pp-chip").all_inner_texts() == ["failed here"]
    assert page.locator(".pp-broken").get_attribute("data-stage") == "sink"
    assert page.locator(".pp-bottleneck").count() == 0


def test_no_cause_is_left_out_in_silence(page: Page) -> None:
    causes = [{"stage": "fetch", "cause": f"KeyError: {number}", "count": 40 - number} for number in range(20)]
    draw(page, snapshot(stage("fetch"), failures=causes, omitted={"failures": 11, "failed_items": 110}))

    text = page.locator("section[aria-label='Failures by cause']").inner_text()
    assert f"{sum(range(21, 41)) + 110} items" in text
    assert f"10 more causes, {sum(range(21, 31))} items" in text
    assert "And 11 more causes, 110 items" in text
    page.locator("summary", has_text="more causes").click()
    assert page.locator("[data-figure^='failures:']:visible").count() == 20


def test_cards_do_not_touch(page: Page) -> None:
    """As on the page of a run, where progress and figures stand in one section."""
    page.evaluate(
        """async (sum) => {
            const [{ swap, section }, parts] = await Promise.all([import("/dom.js"), import("/sections.js")]);
            const both = [parts.progress(sum, false), parts.numbers(sum)];
            swap(document.querySelector(".pp-body"), section("All", null, both));
        }""",
        snapshot(),
    )
    above, below = (page.locator(each).bounding_box() for each in ("section > .pp-box", "section > .pp-figures"))
    assert above is not None
    assert below is not None
    assert below["y"] - (above["y"] + above["height"]) >= 8


def test_moments_are_those_of_the_zone_chosen_in_airflow(page: Page) -> None:
    def shown(zone: str | None) -> str:
        page.evaluate("(zone) => zone ? localStorage.setItem('timezone', zone) : localStorage.clear()", zone)
        text: str = page.evaluate("import('/dom.js').then((dom) => dom.moment('2026-12-01T23:30:00.123Z'))")
        return text

    assert shown(json.dumps("Asia/Tokyo")) == "2026-12-02 08:30:00"
    assert shown(json.dumps("America/New_York")) == "2026-12-01 18:30:00"
    own = shown(None)
    assert shown(json.dumps("Nowhere/At all")) == shown("not json") == own


TOPS = [0, 0.02, 0.7, 1, 1.4, 3, 17, 99, 12_345, 2**27, 3 * 2**31]


@pytest.mark.parametrize("format_", ["count", "brief", "rate", "percent", "bytes", "milliseconds", "seconds", "short"])
def test_ticks_never_repeat(format_: str) -> None:
    shown = (
        "Promise.all([import(`${base}/dom.js`)]).then(([dom]) => "
        "tops.map((top) => chart.ticks(chart.nice(top), dom[format]).filter(Boolean)))"
    )
    found = call("chart", f"await {shown}", tops=TOPS, format=format_, base=STATIC.as_uri())

    assert [texts for texts in found if len(texts) != len(set(texts))] == []


def test_sizes_have_round_ticks() -> None:
    found = call("chart", "tops.map((top) => chart.nice(top, 1024))", tops=[166 * 2**20, 3 * 2**30, 900])

    assert found == [200 * 2**20, 4 * 2**30, 1000]


def test_a_snapshot_of_an_earlier_version_is_shown(page: Page) -> None:
    """With as little as there can be: what it lacks is left out or a dash."""
    old = snapshot(stage("fetch"))
    for name in ("max_in_flight", "sink", "cpu_seconds", "peak_rss_bytes"):
        del old[name]
    for name in ("queue_peak", "queue_size", "starved_fraction", "p99_ms"):
        del old["stages"][0][name]
    old["history"] = {"seconds": [0, 2, 4], "stages": {"fetch": {"items_out": [0, 1, 2]}}}
    draw(page, old)

    text = page.locator(".pp").inner_text()
    assert "NaN" not in text
    assert "undefined" not in text
    assert page.locator("[data-figure=cpu_seconds]").inner_text() == DASH
    assert page.locator("[data-figure='items_out:fetch']").inner_text() == "90"


def test_log_report_and_page_say_the_same(page: Page) -> None:
    """Figure by figure, of a run that filters, fails, retries and returns tables; with the advice among them."""
    pyarrow = pytest.importorskip("pyarrow")
    again: set[int] = set()

    def fetch(number: int) -> Any:
        if number % 50 == 3:
            raise ValueError(f"no price for {number}")
        if number % 40 == 1 and number not in again:
            again.add(number)
            raise ConnectionError("busy")
        return DROP if number % 20 == 5 else number

    def table(numbers: list[int]) -> Any:
        return pyarrow.table({"number": numbers * 3})

    stages = [
        Stage(
            fetch, workers=2, retry=Retry(2, backoff=0, on=ConnectionError), name="fetch prices of the northern region"
        ),
        Stage(table, batch_size=10, workers=1),
    ]
    report = Pipeline(range(400), stages, ListSink(), chunk_size=50, tolerance=0.1).run()
    names = [each.name for each in stages]

    draw(page, {**snapshot(), **to_json_value(report.as_dict()), "final": True})
    expected = of_report(report.as_dict())
    assert expected[f"stage {cut_middle(names[0], 24)}"]["retried"] == "10"
    assert of_text(str(report), names) == expected
    assert of_page(page.locator(".pp"), names) == expected
    said = re.search(r"is busy (\d+%) of its workers' time", report.advice)
    limiting = [each for each in report.stages if each.name == report.bottleneck]
    assert said is None or said[1] == format_share(limiting[0].busy_fraction)
