"""Where numbered pages and chains of pages end, as servers say it; and what only looks like an end."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from airflow_parallel_provider import HttpPagesSource
from airflow_parallel_provider.errors import PlanError, SourceError
from airflow_parallel_provider.sources.http.page import Page
from airflow_parallel_provider.sources.http.page_order import PageOrder
from airflow_parallel_provider.sources.http.page_reader import may_pass
from tests.sources.http.conftest import Serve

pytestmark = pytest.mark.airflow


def source(**options: Any) -> HttpPagesSource:
    return HttpPagesSource("/v1/numbers", **{"conn_id": "api", "readers": 1, **options})


def pages(*contents: Any) -> Callable[[], Any]:
    """Pages 1, 2, 3 ...; an int stands for the status of a page that does not exist. The last one comes forever."""

    def read() -> Any:
        for number in range(1, 100):
            content = contents[min(number, len(contents)) - 1]
            status = content if isinstance(content, int) else None
            yield Page(None if status else content, None, "", f"page {number}", status)

    return read


def read(*contents: Any, repeated_page: str = "auto") -> list[Any]:
    order = PageOrder("numbers", "page", repeated_page, lambda page, is_first: not page.content)
    return [page.content for page in order.read(pages(*contents)())]


@pytest.mark.parametrize("status", [400, 404, 410, 416, 422])
def test_status_behind_the_last_page_is_the_end(serve: Serve, status: int) -> None:
    serve(lambda path, query: (200, {}, [1, 2]) if query["page"] == "1" else (status, {}, {"error": "no such page"}))

    assert list(source()) == [1, 2]


def test_end_that_may_be_a_limit_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert read([1], [2], 422) == [[1], [2]]

    assert "page 3: the server responded with 422" in caplog.text
    assert "end_statuses=" in caplog.text


def test_status_before_a_page_is_no_end() -> None:
    with pytest.raises(SourceError, match=r"page 2: the server responded with 400 Bad Request, but page 3 exists"):
        read([1], 400, [3], [])


@pytest.mark.parametrize(
    ("options", "status"), [({"end_statuses": []}, 404), ({"end_statuses": [404]}, 400), ({}, 401)]
)
def test_other_statuses_fail(serve: Serve, options: dict[str, Any], status: int) -> None:
    serve(lambda path, query: (200, {}, [1]) if query["page"] == "1" else (status, {}, {}))

    with pytest.raises(SourceError, match=f"page 2: the server responded with {status}"):
        list(source(**options))


def test_last_page_that_comes_again_is_the_end() -> None:
    assert read([1], [2], [3], [3], [3]) == [[1], [2], [3]]


@pytest.mark.parametrize("contents", [([1], [1], [2], []), ([1], [2], [2], [3], []), ([1], [2], [2], [])])
def test_equal_neighbors_are_pages(contents: tuple[Any, ...]) -> None:
    assert read(*contents) == list(contents[:-1])


def test_first_page_that_comes_again_needs_a_word_of_the_author() -> None:
    with pytest.raises(
        SourceError, match=r"page 2 is the same as the page before: set page_parameter=.*repeated_page="
    ):
        read([1], [1])

    assert read([1], [1], repeated_page="end") == [[1]]
    assert read([1], [1], [1], [], repeated_page="read") == [[1], [1], [1]]
    with pytest.raises(SourceError, match="page 3 is the same"):
        read([1], [2], [2], [3], repeated_page="error")


def test_page_without_the_items_is_an_end_if_the_author_says_so(serve: Serve) -> None:
    serve(lambda path, query: (200, {}, {"rows": [1]} if query["page"] == "1" else {"total": 1}))

    with pytest.raises(SourceError, match=r"page 2 has nothing at 'rows': .* missing_items='end'"):
        list(source(items="rows"))
    assert list(source(items="rows", missing_items="end")) == [1]
    with pytest.raises(SourceError, match="page 1 has nothing at 'data'"):
        list(source(items="data", missing_items="end"))


@pytest.mark.parametrize("pagination", ["cursor", "link"])
@pytest.mark.parametrize("last", [1, 3])
def test_last_page_of_a_chain_may_name_itself(serve: Serve, pagination: str, last: int) -> None:
    def answer(path: str, query: dict[str, str]) -> Any:
        number = int(query.get("c", 1))
        following = f"{path}?c={number + 1}" if number < last else path + ("" if last == 1 else f"?c={number}")
        return 200, {"Link": f'<{following}>; rel="next"'}, {"rows": [number], "next": following}

    serve(answer)
    options = {"next_cursor": "next"} if pagination == "cursor" else {}

    assert list(source(pagination=pagination, items="rows", **options)) == list(range(1, last + 1))


def test_statuses_that_may_pass() -> None:
    assert [status for status in range(400, 600) if may_pass(status)][:5] == [408, 425, 429, 500, 502]
    assert may_pass(520)
    assert not may_pass(501)


def test_forbidden_with_a_wait_is_asked_for_again(serve: Serve) -> None:
    refused: list[Any] = [(403, {"Retry-After": "0"}, {})]
    serve(lambda path, query: refused.pop() if refused else (200, {}, [1] if query["page"] == "1" else []))

    assert list(source()) == [1]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"end_statuses": 404}, "end_statuses"),
        ({"end_statuses": [500]}, "end_statuses"),
        ({"end_statuses": [429]}, "end_statuses"),
        ({"end_statuses": [404], "pagination": "link"}, "end_statuses"),
        ({"repeated_page": "stop"}, "repeated_page"),
        ({"repeated_page": "read", "pagination": "link"}, "repeated_page"),
        ({"missing_items": "end"}, "missing_items"),
        ({"missing_items": "none", "items": "data"}, "missing_items"),
    ],
)
def test_ends_are_checked(options: dict[str, Any], field: str) -> None:
    with pytest.raises(PlanError, match=rf"HttpPagesSource\.{field}"):
        source(**options)
