"""A headless Chromium for the tests of the Pipeline tab, driven by Playwright, and pictures of what it showed."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest
from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from types import TracebackType

    from playwright.sync_api import BrowserContext, Locator, Page

PICTURES = Path(__file__).parents[2] / "build" / "pictures"
"""Where the screenshots of a test run are left."""

NOT_OURS = "signal is aborted without reason"
"""How Airflow's own pages give up requests, and complain of it themselves; our scripts give up none."""

OPTIONS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


def chromium() -> str:
    """Path of the installed browser; where there is none the test is skipped, but not in CI."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        assert not os.environ.get("CI"), "no Chromium: run `make browser`"
        pytest.skip("no Chromium: run `make browser`")
    return found


class Browser:
    """One Chromium; every page has a session of its own and complains about every error in the page.

    :param url: of the Airflow to look at.
    :param token: the session of the reader: before 3.2 a reader without one gets Airflow's first page for any address.
    """

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self._token = token
        self._errors: list[str] = []

    def __enter__(self) -> Self:
        self._playwright = sync_playwright().start()
        self._chromium = self._playwright.chromium.launch(executable_path=chromium(), args=list(OPTIONS))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._chromium.close()
        self._playwright.stop()

    def open(self, path: str, *, theme: str = "light", token: str | None = None, url: str | None = None) -> Tab:
        """Open a page of Airflow in a session of its own.

        :param url: of another Airflow than the browser's own.
        :param token: the session of the reader; None: an admin, or an unknown user on another Airflow.
        """
        context = self._chromium.new_context(color_scheme=theme, viewport={"width": 1440, "height": 1000})  # type: ignore[arg-type]
        context.set_default_timeout(60_000)
        base = url or self.url
        token = token or (self._token if url is None else None)
        if token is not None:
            context.add_cookies([{"name": "_token", "value": token, "url": base}])
        page = context.new_page()
        page.on("pageerror", lambda error: self._errors.append(f"{path}: {error}"))
        page.goto(base + path)
        return Tab(context, page)

    def errors(self) -> list[str]:
        """Exceptions in pages since this was asked last."""
        errors, self._errors = [each for each in self._errors if NOT_OURS not in each], []
        return errors


class Tab:
    """An open page with our tab on it."""

    def __init__(self, context: BrowserContext, page: Page) -> None:
        self.context = context
        self.page = page

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def wait(self, selector: str, timeout: float = 60) -> Locator:
        """Wait until something that matches is visible."""
        found = self.page.locator(selector).first
        found.wait_for(timeout=timeout * 1000)
        return found

    def figure(self, name: str) -> Any:
        """The raw value behind a figure on the page."""
        text = self.page.locator(f'[data-figure="{name}"]').first.get_attribute("data-value")
        assert text is not None
        return float(text) if re.fullmatch(r"-?[\d.]+(e[+-]?\d+)?", text) else text

    def shown(self, name: str) -> str:
        """A figure as people read it."""
        return self.page.locator(f'[data-figure="{name}"]').first.inner_text()

    def text(self) -> str:
        """All text of our part of the page."""
        return self.page.locator(".pp").inner_text()

    def picture(self, name: str, height: int | None = None) -> Path:
        """Keep a screenshot for people to look at."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        if height is not None:
            self.page.set_viewport_size({"width": 1440, "height": height})
        file = PICTURES / f"{name}.png"
        self.page.screenshot(path=file, animations="disabled")
        return file


def frame_of(tab: Tab) -> Any:
    """The page inside Airflow's frame, for the tab that comes as one."""
    return tab.page.frame_locator("iframe")
