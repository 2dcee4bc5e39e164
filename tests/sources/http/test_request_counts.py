"""What the report says of an API that is busy: retries by status, and the seconds that were waited."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from airflow_parallel_provider import HttpPagesSource, ListSink, Pipeline, RunFailed
from airflow_parallel_provider.monitoring.summary import summary_of
from airflow_parallel_provider.report import report_text
from airflow_parallel_provider.sources.http.request_counts import NO_ANSWER
from tests.sources.http.conftest import Serve
from tests.support.pages import Answer

pytestmark = pytest.mark.airflow


def failing(*answers: Answer | None) -> Any:
    """A server of three pages, which gives these answers first, one each."""
    left, lock = list(answers), threading.Lock()

    def answer(_path: str, query: dict[str, str]) -> Answer | None:
        with lock:
            if left:
                return left.pop(0)
        page = int(query["page"])
        return 200, {}, [page] if page <= 3 else []

    return answer


def source(**options: Any) -> HttpPagesSource:
    return HttpPagesSource("/items", **{"conn_id": "api", "readers": 1, **options})


def test_retries_and_waits_are_in_report_text_and_summary(serve: Serve) -> None:
    serve(failing((429, {"Retry-After": "0"}, {}), (503, {}, {}), None, (503, {}, {})))

    report = Pipeline(source(), [], ListSink()).run()

    assert report.items_committed == 3
    found = report.source
    assert found["pages_requested"] >= 4  # it reads ahead
    assert found["retries"] == 4
    assert found["retries_by_status"] == {"429": 1, "503": 2, NO_ANSWER: 1}
    assert found["seconds_waited"] > 0
    line = next(line for line in report_text(report).splitlines() if line.startswith("  source: "))
    assert ", retries: 4, retries by status: 429: 1, 503: 2, no answer: 1, seconds waited: 0." in line
    assert summary_of(report, {})["source"] == found


def test_a_calm_server_has_short_figures(serve: Serve) -> None:
    serve(failing())

    report = Pipeline(source(rate_limit=1000), [], ListSink()).run()

    assert report.source.keys() <= {"pages_requested", "retries", "seconds_rate_limited"}
    assert report.source["retries"] == 0


def test_a_run_that_fails_says_so_too(serve: Serve) -> None:
    serve(failing(*[(500, {}, {})] * 9))

    with pytest.raises(RunFailed, match="after 2 attempts") as caught:
        Pipeline(source(attempts=2), [], ListSink()).run()

    report = caught.value.report
    assert report is not None
    assert report.source["retries_by_status"].keys() == {"500"}  # perhaps of the next page, too: it reads ahead


def test_advice_asks_for_no_more_requests_of_a_busy_server(serve: Serve) -> None:
    serve(failing((429, {"Retry-After": "0"}, {})))
    busy = source(page_size=3)
    assert "readers=" in busy.advice
    Pipeline(busy, [], ListSink()).run()

    assert busy.advice.startswith("the server answers 429")
    assert "readers=" not in busy.advice
    assert "page_size=" not in busy.advice


def test_a_second_run_counts_anew(serve: Serve) -> None:
    serve(failing((503, {}, {})))
    one = source()

    assert [Pipeline(one, [], ListSink()).run().source["retries"] for _ in range(2)] == [1, 0]
