"""A server that Airflow knows as ``api``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from airflow_parallel_provider.sources.http import page_reader
from tests.support.pages import Answer, Pages, serving

Serve = Callable[[Callable[[str, dict[str, str]], Answer | None]], Pages]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Starts a server, known to Airflow as ``api``."""
    monkeypatch.setattr(page_reader, "FIRST_WAIT", 0.001)
    with ExitStack() as stack:

        def start(answer: Callable[[str, dict[str, str]], Answer | None]) -> Pages:
            pages = stack.enter_context(serving(answer))
            monkeypatch.setenv("AIRFLOW_CONN_API", pages.connection)
            return pages

        yield start
