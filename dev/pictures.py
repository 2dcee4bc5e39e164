"""``make pictures``: take the screenshots of the Pipeline tab that the README shows.

It runs ``nyc_flights`` three times in its own Airflow, so that the page has runs to compare, and takes screenshots in a
headless Chromium: of the last run while it runs, on a light page, and of the complete run, on a dark one.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from playwright.sync_api import sync_playwright

from dev.local_airflow import LocalAirflow

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

REPOSITORY = Path(__file__).resolve().parent.parent
PICTURES = REPOSITORY / "docs" / "pictures"
DAG, TASK = "nyc_flights", "score_flights"
RUNS = 3
OPTIONS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")


def main() -> int:
    """Take the screenshots; return the exit code."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        print("No Chromium: run `make browser`", file=sys.stderr)
        return 1
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        connection = json.dumps({"conn_type": "sqlite", "host": str(home / "demo.db")})
        with (
            LocalAirflow(home, REPOSITORY / "dags_examples", connections={"flights_db": connection}) as airflow,
            sync_playwright() as playwright,
            playwright.chromium.launch(executable_path=chromium, args=list(OPTIONS)) as browser,
        ):
            for number in range(1, RUNS + 1):
                run_id = airflow.client.trigger(DAG)
                path = f"/dags/{DAG}/runs/{quote(run_id, safe='')}/tasks/{TASK}/plugin/pipeline"
                airflow.client.wait_for_task(DAG, run_id, TASK, {"running"}, timeout=90)
                if number == RUNS:
                    live(open_page(browser, airflow.url + path, "light"))
                airflow.client.wait_for_run(DAG, run_id, timeout=300)
            complete(open_page(browser, airflow.url + path, "dark"))
    return 0


def open_page(browser: Browser, url: str, theme: str) -> Page:
    """Open the tab in a new window."""
    page = browser.new_page(viewport={"width": 1440, "height": 1320}, color_scheme=theme)  # type: ignore[arg-type]
    page.goto(url)
    return page


def live(page: Page) -> None:
    """Take the screenshot when more than a third is done."""
    done = "Number(document.querySelector('[data-figure=items_done]')?.dataset.value) >= 130"
    page.wait_for_function(done, timeout=120_000)
    page.screenshot(path=PICTURES / "pipeline_tab_live.png", animations="disabled")


def complete(page: Page) -> None:
    """Take the screenshot when the earlier runs have been fetched."""
    page.wait_for_selector(".pp-trend .pp-current", state="attached", timeout=60_000)
    page.screenshot(path=PICTURES / "pipeline_tab_dark.png", animations="disabled")


if __name__ == "__main__":
    sys.exit(main())
