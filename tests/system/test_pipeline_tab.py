"""The Pipeline tab in a real browser, on pipelines that run in a real Airflow."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from tests.system.browser import Browser

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.browser import Tab
    from tests.system.conftest import Run, Site

pytestmark = [pytest.mark.system, pytest.mark.timeout(150)]  # the first test also waits for Airflow to start

ITEMS, THROUGH = 600, 400
"""Items of a watched pipeline, and those that its gate lets through while it is closed."""


@pytest.fixture(scope="module")
def _browser(_airflow: Site) -> Iterator[Browser]:
    with Browser(_airflow.airflow.url) as browser:
        yield browser


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
        assert (card.locator(".pp-chip").count() == 1) is (report["bottleneck"] == stage["name"])
    for cause in report["failures"]:  # type: ignore[attr-defined]
        assert tab.figure(f"failures:{cause['cause']}".replace('"', '\\"')) == cause["count"]


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
        tab.picture("live")

        site.gate.touch()
        run.wait_for("success")
        tab.wait(".pp-state[data-state=success]")

        numbers_are_those_of(run.xcom(), tab)
        assert tab.figure("items_done") == ITEMS
        assert f"{ITEMS} of {ITEMS} items" in tab.shown("items_done")
        assert tab.page.evaluate("window.hacked") is None
        assert tab.page.locator(".pp img").count() == 0
        assert '<img src=x onerror="window.hacked=1">' in tab.text()
        tab.picture("light", height=2600)
