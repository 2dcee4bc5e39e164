"""The Pipeline tab in a real browser, on pipelines that run in a real Airflow."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import httpx
import jwt
import pytest

from dev.airflow_client import poll
from tests.support.shown_figures import of_page, of_report, of_text
from tests.system.browser import Browser, frame_of
from tests.system.conftest import seconds_until_gone

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Locator, Route

    from tests.system.browser import Tab
    from tests.system.conftest import Run, Site

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]  # the first test also waits for Airflow to start

ITEMS, THROUGH = 600, 400
"""Items of a watched pipeline, and those that its gate lets through while it is closed."""


@pytest.fixture(scope="module")
def _browser(_airflow: Site) -> Iterator[Browser]:
    with Browser(_airflow.airflow.url, token_of(_airflow.airflow.url)) as browser:
        yield browser


def token_of(url: str) -> str:
    """The session that the simple auth manager gives to every client."""
    token: str = httpx.get(f"{url}/auth/token", trust_env=False, timeout=60).json()["access_token"]
    return token


@pytest.fixture
def browser(_browser: Browser) -> Iterator[Browser]:
    """The browser; a test during which a page raised an exception has failed."""
    yield _browser
    assert _browser.errors() == []


def tab_of(run: Run, task: str = "pipeline", route: str = "pipeline", index: int | None = None) -> str:
    mapped = "" if index is None else f"/mapped/{index}"
    return f"/dags/{run.dag_id}/runs/{quote(run.run_id, safe='')}/tasks/{task}{mapped}/plugin/{route}"


def numbers_are_those_of(report: dict[str, object], tab: Tab) -> None:
    """Every number the page shows by name is the report's, raw and as it is read."""
    counts = ("rows_committed", "chunks_committed", "items_read", "items_dead_lettered")
    for name in (*counts, "items_per_second", "seconds", "cpu_seconds", "peak_rss_bytes"):
        assert tab.figure(name) == report[name], name
    for name in counts:
        assert tab.shown(name) == f"{report[name]:,}", name
    for stage in report["stages"]:  # type: ignore[attr-defined]
        card = tab.page.locator(f"[data-stage={quoted(stage['name'])}]")
        out = card.locator(f"[data-figure={quoted('items_out:' + stage['name'])}]")
        assert out.inner_text() == f"{stage['items_out']:,}"
        assert (card.locator(".pp-chip-warn").count() == 1) is (report["bottleneck"] == stage["name"])
    for cause in report["failures"]:  # type: ignore[attr-defined]
        assert tab.figure(f"failures:{cause['cause']}".replace('"', '\\"')) == cause["count"]


def everybody_says_the_same(run: Run, tab: Tab, report: dict[str, Any], number: int = 1) -> None:
    """The log of a try, its report, its last snapshot and the page, figure by figure and as people read them."""
    stages = [each["name"] for each in report["stages"]]
    expected = of_report(report)
    assert of_report(run.xcom("pipeline_metrics")) == expected
    assert of_page(tab.page.locator(".pp"), stages) == expected
    run.logged("Pipeline pipeline: ", number)
    assert of_text(run.log(number), stages) == expected


def address(link: Locator) -> str:
    return unquote(link.get_attribute("href") or "")


def ink_of(tab: Tab) -> list[int]:
    """Red, green and blue of the text of our page, whatever way the theme writes its colors in."""
    red_green_blue: list[int] = tab.page.evaluate(
        """() => {
            const canvas = document.createElement('canvas').getContext('2d');
            canvas.fillStyle = getComputedStyle(document.querySelector('.pp')).color;
            canvas.fillRect(0, 0, 1, 1);
            return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
        }"""
    )
    return red_green_blue


def quoted(text: str) -> str:
    """A text as a CSS string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def test_live_then_complete_and_the_numbers_are_those_of_the_report(site: Site, browser: Browser) -> None:
    run = site.start("tab_watched")
    run.wait_for("running")
    with browser.open(tab_of(run)) as tab:
        tab.wait(".pp[data-live=yes]")
        tab.page.wait_for_function(
            f"document.querySelector('[data-figure=items_done]')?.dataset.value >= {THROUGH // 2}"
        )
        assert "live" in tab.wait(".pp-fresh").inner_text()
        assert tab.wait(".pp-state").inner_text() == "running"
        # The gate is closed; but these figures may be of a moment when the first items were still on their way there.
        tab.page.wait_for_function("document.querySelector('[data-figure=\"queue:gate\"]')?.dataset.value > 0")
        tab.wait(".pp-chart path.pp-line")
        tab.picture("live")

        site.gate.touch()
        run.wait_for("success")
        tab.wait(".pp-state[data-state=success]")

        report, metrics = run.xcom(), run.xcom("pipeline_metrics")
        assert len(json.dumps(metrics, ensure_ascii=False).encode()) <= 30_000
        assert 0 < metrics["metrics_cpu_seconds"] <= metrics["cpu_seconds"]
        numbers_are_those_of(report, tab)
        everybody_says_the_same(run, tab, report)
        assert tab.figure("advice") == report["advice"]
        assert tab.figure("items_done") == ITEMS
        assert f"{ITEMS} of {ITEMS} items" in tab.shown("items_done")
        changes = tab.page.locator("[aria-label^='Changes of the number of workers'] tbody tr").all_inner_texts()
        assert len(changes) == len(report["decisions"])
        assert all(f"{each['before']} → {each['after']}" in "".join(changes) for each in report["decisions"])
        assert tab.page.locator(".pp-mark").count() == len(changes)
        assert tab.page.evaluate("window.hacked") is None
        assert tab.page.locator(".pp img").count() == 0
        assert '<img src=x onerror="window.hacked=1">' in tab.text()
        tab.picture("light", height=2600)


def test_task_that_ends_while_the_page_asks_is_not_lost(site: Site, browser: Browser) -> None:
    """The page gets metrics that are not the last ones, and then a task that has succeeded."""
    run = site.start("tab_watched")
    poll("figures", lambda: run.xcom("pipeline_metrics"), timeout=120)
    seen: list[bool] = []

    def answer_late(route: Route) -> None:
        if not seen:
            seen.append(run.xcom("pipeline_metrics")["final"])
            site.gate.touch()
            run.wait_for("success")
        route.continue_()

    with browser.open("/") as tab:
        tab.page.route("**/taskInstances/pipeline", answer_late)
        tab.page.goto(browser.url + tab_of(run))
        assert tab.wait(".pp-state[data-state]").inner_text() == "success"
        numbers_are_those_of(run.xcom(), tab)
    assert seen == [False]


def test_killed_task_leaves_its_last_figures_and_is_compared_with_runs_before(
    site: Site, finished: Run, browser: Browser
) -> None:
    run = site.start("tab_watched")
    processes = run.processes()
    with browser.open(tab_of(run)) as tab:
        tab.wait(".pp[data-live=yes]")
        tab.page.wait_for_function(
            f"document.querySelector('[data-figure=items_done]')?.dataset.value >= {THROUGH // 2}"
        )

        processes[0].kill()
        seconds_until_gone(processes)
        run.wait_for("failed")

        assert tab.wait(".pp-state[data-state=lost]").inner_text() == "ended without a report"
        assert "it was killed, or could not reach Airflow" in tab.text()
        last = run.xcom("pipeline_metrics")
        assert (last["final"], last["state"]) == (False, "running")
        numbers_are_those_of(last, tab)
        assert tab.page.locator(".pp[data-live=no]").count() == 1

        tab.wait(".pp-trend .pp-current")
        links = tab.page.locator(".pp-trend").nth(3).locator("li a").all()  # memory
        label = next(each.get_attribute("aria-label") for each in links if finished.run_id in address(each))
        assert label is not None
        assert label.endswith(f": {finished.xcom()['peak_rss_bytes'] / 2**20:.0f} MiB")


def test_every_try_can_be_chosen_and_failures_are_shown_by_cause(site: Site, browser: Browser) -> None:
    run = site.start("tab_failing")
    run.wait_for("failed", tries=2)
    report = run.xcom("pipeline_report")
    with browser.open(tab_of(run), theme="dark") as tab:
        tab.wait(".pp-state[data-state=failed]")
        numbers_are_those_of(report, tab)
        everybody_says_the_same(run, tab, report, 2)
        assert report["chunks_skipped"] > 0
        assert f"{report['chunks_skipped']} skipped: already committed" in tab.text()
        assert "the source raised OSError: the source went away" in tab.text()
        assert tab.figure("dead_letters") == "tab_failed_rows__dead_letters"
        sample = tab.page.locator(".pp-sample code").first
        assert "'number'" in sample.inner_text()
        assert min(ink_of(tab)) > 200, "light text on a dark page"
        tab.picture("failed-dark")

        options = tab.page.locator("#pp-try option").all_inner_texts()
        assert options == ["2 · failed", "1 · failed"]
        tab.page.select_option("#pp-try", "1")
        if not site.keeps_states:
            tab.wait(".pp-empty")
            assert "No metrics are stored of try 1" in tab.text()
            return
        tab.wait(".pp[data-attempt='1']")
        first = run.metrics_of_try(1)
        numbers_are_those_of(first, tab)
        assert first["chunks_skipped"] == 0
        assert first["chunks_committed"] == report["chunks_skipped"]
        assert sample.count() == 0, "a user without the right to read XComs could read items in the task state store"

        tab.page.select_option("#pp-try", "2")
        tab.wait(".pp[data-attempt='2']")
        numbers_are_those_of(report, tab)


def test_shards_are_added_up_on_the_page_of_the_run(site: Site, browser: Browser) -> None:
    run = site.start("tab_shards")
    assert site.client.wait_for_run(run.dag_id, run.run_id, timeout=300) == "success"
    reports = [site.client.xcom(run.dag_id, run.run_id, "pipeline", map_index=index) for index in range(3)]
    with browser.open(f"/dags/{run.dag_id}/runs/{quote(run.run_id, safe='')}/plugin/pipelines") as tab:
        tab.wait("[data-task=pipeline] .pp-state[data-state=success]")
        for name in ("rows_committed", "chunks_committed", "items_read", "items_dead_lettered", "cpu_seconds"):
            assert tab.figure(name) == pytest.approx(sum(each[name] for each in reports)), name
        assert tab.figure("items_done") == 140
        longest = max(each["seconds"] for each in reports)  # rounded to milliseconds or so, the page's is not
        assert tab.figure("seconds") >= longest - 0.001
        assert tab.figure("items_per_second") == pytest.approx(140 / tab.figure("seconds"))
        assert "3 shards: 3 success" in tab.text()
        assert tab.page.locator("[aria-label='Causes of failures, most frequent first'] tbody tr").count() == 1
        tab.page.get_by_text("Shards one by one (3)").click()
        tab.picture("shards")

        tab.page.get_by_role("link", name="pipeline [2]").click()
        tab.wait(".pp[data-page=task] .pp-state[data-state=success]")
        numbers_are_those_of(reports[2], tab)

    with browser.open(tab_of(run)) as tab:  # the task without an index stands for all its shards
        tab.wait("[data-task=pipeline] .pp-state[data-state=success]")
        assert tab.figure("items_done") == 140


def test_other_tasks_and_the_frame(site: Site, browser: Browser) -> None:
    """One run for both: a task without a pipeline has a calm page, and the frame shows what the tab shows."""
    site.gate.touch()
    run = site.start("tab_watched")
    assert site.client.wait_for_run(run.dag_id, run.run_id, timeout=300) == "success"
    with browser.open(tab_of(run, "no_pipeline")) as tab:
        tab.wait(".pp-empty")
        assert tab.page.locator(".pp-empty").inner_text().startswith("This task has no pipeline")
        assert tab.page.locator(".pp-body > *").count() == 0

    with browser.open(tab_of(run, route="pipeline-frame"), theme="dark") as tab:
        frame = frame_of(tab)
        frame.locator(".pp-state[data-state=success]").wait_for()
        assert frame.locator("[data-figure=rows_committed]").get_attribute("data-value") == str(
            run.xcom()["rows_committed"]
        )
        assert frame.locator("html.dark").count() == 1


# -- for all users --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(_airflow: Site) -> Run:
    """A run that is over, for the tests that only look."""
    _airflow.gate.touch()
    run = _airflow.start("tab_watched")
    run.wait_for("success")
    return run


def test_keyboard_and_screen_reader(finished: Run, browser: Browser) -> None:
    with browser.open(tab_of(finished)) as tab:
        tab.wait(".pp-state[data-state=success]")
        page = tab.page
        nameless = page.evaluate(
            """() => [...document.querySelectorAll('.pp :is(svg[role=img], [role=meter], [role=progressbar], section)')]
                .filter((each) => !each.getAttribute('aria-label')).length"""
        )
        assert nameless == 0
        assert page.evaluate("document.querySelectorAll('.pp th:not([scope])').length") == 0
        assert page.get_by_role("heading", name="Pipeline", exact=True).count() == 1
        assert page.get_by_role("list", name="The stages, with the channel").locator("> li").count() == 5
        assert page.get_by_role("progressbar", name="Items that are done").get_attribute("aria-valuetext") == (
            "600 of 600 items"
        )

        workers = page.locator("summary", has_text="Workers one by one")
        workers.focus()
        page.keyboard.press("Enter")
        assert page.get_by_role("region", name="Metrics of each worker").is_visible()

        chart = page.locator(".pp-chart svg").first
        chart.focus()
        page.keyboard.press("Home")
        first = page.locator(".pp-readout").first.inner_text()
        page.keyboard.press("End")
        last = page.locator(".pp-readout").first.inner_text()
        assert "fetch" in first
        assert "fetch" in last
        assert first != last


# -- who may see what, below a path of its own ----------------------------------------------------


@dataclass
class StrictServer:
    """A second API server of the same Airflow: with log-in, and below a path as behind a proxy of several services."""

    origin: str
    secret: str
    claims: dict[str, Any]

    @property
    def url(self) -> str:
        return f"{self.origin}/af"

    def token(self, role: str | None) -> str:
        """A session of a user with this role: Airflow's own token with another name in it, signed with its key."""
        claims = {**self.claims, "sub": role or "nobody", "role": role and role.upper()}
        return jwt.encode(claims, self.secret, algorithm="HS512")

    def status(self, path: str, token: str | None) -> int:
        """What the REST API answers a user."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.get(f"{self.url}/api/v2{path}", headers=headers, trust_env=False).status_code


@pytest.fixture(scope="module")
def strict(_airflow: Site) -> Iterator[StrictServer]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    airflow = _airflow.airflow
    claims = jwt.decode(token_of(airflow.url), options={"verify_signature": False})
    secret = json.loads((airflow.home / "secrets.json").read_text())["jwt_secret"]
    server = StrictServer(f"http://127.0.0.1:{port}", secret, claims)
    env = airflow.environment() | {
        "AIRFLOW__API__BASE_URL": server.url,
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
    }
    command = [sys.executable, "-m", "airflow", "api-server", "--host", "127.0.0.1", "--port", port, "--workers", "1"]
    with (
        (airflow.logs / "strict-api-server.log").open("wb") as log,
        subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as process,
    ):
        try:
            poll("the strict server", lambda: _answers(f"{server.url}/api/v2/monitor/health"), timeout=300)
            yield server
        finally:
            process.terminate()
            process.wait(20)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False, timeout=2).is_success
    except httpx.HTTPError:
        return False


@pytest.mark.parametrize("role", ["admin", "viewer"])
def test_whoever_may_read_xcoms_sees_the_page(finished: Run, strict: StrictServer, browser: Browser, role: str) -> None:
    with browser.open(tab_of(finished), token=strict.token(role), url=strict.url) as tab:
        tab.wait(".pp-state[data-state=success]")
        numbers_are_those_of(finished.xcom(), tab)


def test_links_know_the_path(finished: Run, strict: StrictServer, browser: Browser) -> None:
    page = f"/dags/{finished.dag_id}/runs/{quote(finished.run_id, safe='')}/plugin/pipelines"
    with browser.open(page, token=strict.token("viewer"), url=strict.url) as tab:
        tab.wait("[data-task=pipeline] .pp-state[data-state=success]").scroll_into_view_if_needed()
        tab.page.locator(".pp").get_by_role("link", name="pipeline", exact=True).click()
        tab.wait(".pp[data-page=task] .pp-state[data-state=success]")
        assert tab.page.url.startswith(f"{strict.url}/dags/")


def test_nobody_else_sees_anything(finished: Run, strict: StrictServer, browser: Browser) -> None:
    """Looked at outside of Airflow's own page, which would not let them in: what counts is what the server answers."""
    ids = "/".join(quote(each, safe="") for each in (finished.dag_id, finished.run_id, "pipeline"))
    page = f"/parallel-pipeline/static/pipeline.html#/{ids}/{{MAP_INDEX}}"
    signed_in = {"no role": strict.token(None), "no token": None}
    answers = {"no role": "You may not read the XComs", "no token": "You are not signed in"}
    for name, token in signed_in.items():
        with browser.open(page, token=token, url=strict.url) as tab:
            assert answers[name] in tab.wait(".pp-empty").inner_text(), name
            assert tab.page.locator("[data-figure]").count() == 0, name


def test_the_server_answers_each_as_airflow_does(finished: Run, strict: StrictServer) -> None:
    entry = f"/dags/{finished.dag_id}/dagRuns/{quote(finished.run_id, safe='')}/taskInstances/pipeline/xcomEntries"
    path = f"{entry}/pipeline_metrics"
    tokens = {"admin": strict.token("admin"), "viewer": strict.token("viewer"), "none": None, "garbage": "a.b.c"}

    assert {name: strict.status(path, token) for name, token in {**tokens, "no role": strict.token(None)}.items()} == {
        "admin": 200,
        "viewer": 200,
        "none": 401,
        "garbage": 403,
        "no role": 403,
    }


def test_our_own_part_of_the_server_has_no_figures(finished: Run, strict: StrictServer) -> None:
    """Whatever one asks below our path without a session: it is a static file or it is not there."""
    with httpx.Client(base_url=f"{strict.url}/parallel-pipeline", trust_env=False) as client:
        assert client.get("/static/react.js").status_code == 200
        for path in ("/", "/api", "/metrics", f"/dags/{finished.dag_id}", "/openapi.json", "/docs"):
            assert client.get(path).status_code == 404, path
