"""``HttpPagesSource`` against a real server on this machine."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from airflow_parallel_provider import (
    HttpPagesSource,
    ListSink,
    Pipeline,
    PlanError,
    RunFailed,
    RunReport,
    Stage,
    StopToken,
)
from airflow_parallel_provider.engine.dataflow.rate_limit import RateLimit
from airflow_parallel_provider.errors import RunStopped, SourceError
from airflow_parallel_provider.sources.http.page_reader import PageReader
from airflow_parallel_provider.sources.http.throttle import Throttle, retry_after
from tests.sources.http.conftest import Serve
from tests.support.pages import Answer

pytestmark = pytest.mark.airflow


def numbered(total: int, size: int = 10, *, beyond: int = 200) -> Callable[[str, dict[str, str]], Answer]:
    """Pages 1, 2, 3 ... of ``size`` items; what comes behind the last one is empty, or 404."""

    def answer(path: str, query: dict[str, str]) -> Answer:
        start = (int(query.get("page", 1)) - 1) * size
        if start >= total:
            return beyond, {}, {"data": {"rows": []}}
        return 200, {}, {"data": {"rows": list(range(start, min(start + size, total)))}}

    return answer


def source(**options: Any) -> HttpPagesSource:
    return HttpPagesSource("/v1/numbers", **{"conn_id": "api", "items": "data.rows", **options})


@pytest.mark.parametrize("beyond", [200, 404])
@pytest.mark.parametrize("total", [0, 1, 10, 95, 100])
def test_pages_until_an_empty_one(serve: Serve, total: int, beyond: int) -> None:
    pages = serve(numbered(total, beyond=beyond if total else 200))

    assert list(source()) == list(range(total))
    assert {path for path, _ in pages.asked} == {"/v1/numbers"}


def test_short_page_is_not_taken_for_the_last(serve: Serve) -> None:
    """A server may give fewer items than it was asked for."""
    pages = serve(numbered(35, size=5))

    assert list(source(page_size=100, parameters={"day": "today"}, readers=1)) == list(range(35))
    assert pages.asked[0][1] == {"day": "today", "per_page": "100", "page": "1"}


def test_offsets(serve: Serve) -> None:
    def answer(path: str, query: dict[str, str]) -> Answer:
        start, size = int(query["skip"]), int(query["limit"])
        return 200, {}, list(range(start, min(start + size, 25)))

    serve(answer)
    numbers = source(pagination="offset", page_size=10, page_parameter="skip", size_parameter="limit", items=None)

    assert list(numbers) == list(range(25))


@pytest.mark.parametrize("given", [5, 20])
def test_offsets_that_leave_items_out_are_refused(serve: Serve, given: int) -> None:
    """The server caps a page's size, or knows ``per_page`` by another name and gives what it always gives."""

    def answer(path: str, query: dict[str, str]) -> Answer:
        start = int(query["offset"])
        return 200, {}, list(range(start, min(start + given, 45)))

    serve(answer)

    with pytest.raises(SourceError, match=r"do not have page_size=10 items.*size_parameter= \(now 'per_page'\)"):
        list(source(pagination="offset", page_size=10, items=None, readers=1))


def test_page_that_comes_again_is_refused(serve: Serve) -> None:
    """The server knows ``page`` by another name, and would return its first page forever."""
    serve(lambda path, query: (200, {}, [1, 2, 3]))

    with pytest.raises(SourceError, match=r"page 2 is the same as the page before: set page_parameter= \(now 'page'\)"):
        list(source(items=None, readers=1))


@pytest.mark.parametrize("last", [(404, {}, {"error": "none"}), (200, {}, None), (200, {}, {"rows": None})])
@pytest.mark.parametrize("items", ["rows", lambda page: page["rows"]], ids=["name", "function"])
def test_last_page_without_items(serve: Serve, last: Answer, items: Any) -> None:
    serve(lambda path, query: (200, {}, {"rows": [1, 2]}) if query["page"] == "1" else last)

    assert list(source(items=items, readers=1)) == [1, 2]


def test_page_without_content_is_the_last(serve: Serve) -> None:
    serve(lambda path, query: (200, {}, {"rows": [1, 2]}) if query["page"] == "1" else (204, {}, b""))

    assert list(source(items="rows", readers=1)) == [1, 2]


def test_function_that_fails_is_named_with_its_page(serve: Serve) -> None:
    serve(lambda path, query: (200, {}, {"error": "no"}))

    def rows(page: Any) -> Any:
        return page["rows"]

    with pytest.raises(SourceError, match=r"page 1: .*rows failed \(KeyError: 'rows'\)"):
        list(source(items=rows, readers=1))


def test_cursor_may_begin_with_a_slash(serve: Serve) -> None:
    """As texts in base64 do now and then."""
    following = {None: "/9j/4AAQ==", "/9j/4AAQ==": "/+8=", "/+8=": None}

    def answer(path: str, query: dict[str, str]) -> Answer:
        assert path == "/v1/numbers"
        return 200, {}, {"rows": [query.get("cursor")], "next": following[query.get("cursor")]}

    serve(answer)

    numbers = source(pagination="cursor", items="rows", next_cursor="next")
    assert list(numbers) == [None, "/9j/4AAQ==", "/+8="]


def test_pages_are_asked_for_at_the_same_time(serve: Serve) -> None:
    together = threading.Barrier(3)
    plain = numbered(60)

    def answer(path: str, query: dict[str, str]) -> Answer:
        if int(query["page"]) <= 3:
            together.wait(20)  # breaks, and the answer fails, unless three requests are in it at once
        return plain(path, query)

    pages = serve(answer)

    assert list(source(readers=3)) == list(range(60))
    assert pages.most_at_once == 3


def chained(query: dict[str, str], total: int = 45) -> tuple[list[int], int | None]:
    start = int(query.get("cursor", 0))
    following = start + 10
    return list(range(start, min(following, total))), following if following < total else None


def test_cursor_is_followed_one_by_one(serve: Serve) -> None:
    def answer(path: str, query: dict[str, str]) -> Answer:
        rows, following = chained(query)
        return 200, {}, {"rows": rows, **({"meta": {"next": following}} if following else {})}

    pages = serve(answer)

    assert list(source(pagination="cursor", items="rows", next_cursor="meta.next")) == list(range(45))
    assert [query.get("cursor") for _, query in pages.asked] == [None, "10", "20", "30", "40"]


def test_cursor_may_be_a_function_and_an_address(serve: Serve) -> None:
    def answer(path: str, query: dict[str, str]) -> Answer:
        rows, following = chained(query)
        return 200, {}, {"rows": rows, "next": following and f"{path}?cursor={following}"}

    serve(answer)
    numbers = source(pagination="cursor", items=lambda page: page["rows"], next_cursor=lambda page: page["next"])

    assert list(numbers) == list(range(45))


def test_link_header_is_followed(serve: Serve) -> None:
    def answer(path: str, query: dict[str, str]) -> Answer:
        rows, following = chained(query)
        link = {"Link": f'<{path}?cursor={following}>; rel="next"'} if following else {}
        return 200, link, rows

    serve(answer)

    assert list(source(pagination="link", items=None)) == list(range(45))


def test_cursor_that_goes_round_is_refused(serve: Serve) -> None:
    serve(lambda path, query: (200, {}, {"rows": [1], "next": "same"}))

    with pytest.raises(SourceError, match="has already been read"):
        list(source(pagination="cursor", items="rows", next_cursor="next"))


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, None])
def test_what_may_pass_is_asked_for_again(serve: Serve, status: int | None) -> None:
    plain = numbered(30)
    failed: set[str] = set()

    def answer(path: str, query: dict[str, str]) -> Answer | None:
        if query["page"] == "2" and len(failed) < 1:
            failed.add(query["page"])
            return None if status is None else (status, {}, {})
        return plain(path, query)

    pages = serve(answer)

    assert list(source(readers=2)) == list(range(30))
    assert sum(query["page"] == "2" for _, query in pages.asked) == 2


def test_retry_after_holds_for_all_readers(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at where requests are let go: one that was on its way already may reach the server at any time."""
    plain = numbered(40)
    told, lock = list[bool](), threading.Lock()
    held: list[tuple[Throttle, float, float]] = []
    let_go: list[tuple[Throttle, float, float]] = []
    hold, take = Throttle.hold, Throttle._acquire

    def noting_hold(throttle: Throttle, seconds: float) -> None:
        until = time.monotonic() + seconds
        hold(throttle, seconds)
        held.append((throttle, time.monotonic(), until))

    def noting_take(throttle: Throttle) -> tuple[float, bool]:
        before = time.monotonic()
        wait, for_rate = take(throttle)
        if wait <= 0:
            let_go.append((throttle, before, time.monotonic()))
        return wait, for_rate

    def answer(path: str, query: dict[str, str]) -> Answer:
        with lock:
            if not told:
                told.append(True)
                return 429, {"Retry-After": "1"}, {}
        return plain(path, query)

    monkeypatch.setattr(Throttle, "hold", noting_hold)
    monkeypatch.setattr(Throttle, "_acquire", noting_take)
    serve(answer)

    assert list(source(readers=4)) == list(range(40))
    ((held_throttle, since, until),) = held
    # Readers of an earlier test may still be running, with a throttle of their own.
    ours = [(before, after) for throttle, before, after in let_go if throttle is held_throttle]
    assert until < max(after for _, after in ours)
    assert not [(before, after) for before, after in ours if since < before and after < until]


def test_nothing_is_asked_for_again_behind_the_last_page(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers are ahead of it, and the server is busy: that must not go on for minutes when all items are there."""
    over = threading.Event()
    held: list[threading.Event] = []
    hold_back = PageReader._back_off

    def noting(client: PageReader, *args: Any) -> None:
        held.append(threading.Event())
        assert over.wait(60)
        hold_back(client, *args)
        held[-1].set()

    def answer(path: str, query: dict[str, str]) -> Answer:
        return (503, {}, {}) if query["page"] == "3" else numbered(10)(path, query)

    monkeypatch.setattr(PageReader, "_back_off", noting)
    pages = serve(answer)
    items = iter(source(readers=4))

    assert list(itertools.islice(items, 10)) == list(range(10))
    deadline = time.monotonic() + 60
    while not held and time.monotonic() < deadline:
        time.sleep(0.001)
    assert list(items) == []
    over.set()
    assert held[0].wait(60)
    for thread in [each for each in threading.enumerate() if each.name.startswith("http-source")]:
        thread.join(60)

    assert [query["page"] for _, query in pages.asked].count("3") == 1


def test_retry_after_may_be_a_date() -> None:
    assert retry_after(None) is None
    assert retry_after("17") == 17.0
    assert retry_after("soon") is None
    assert retry_after("Mon, 01 Jan 99999999999999999999 00:00:00 GMT") is None  # beyond what C has as a year
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    wait = retry_after(format_datetime(datetime.now(UTC) + timedelta(seconds=100)))
    assert wait is not None
    assert 95 < wait <= 100


def test_wait_that_is_too_long_fails_at_once(serve: Serve) -> None:
    serve(lambda path, query: (503, {"Retry-After": "7200"}, {}))

    with pytest.raises(SourceError, match="asks for a wait of 7200 s, longest_wait is 300 s"):
        list(source())


def test_server_that_keeps_failing_fails_the_run(serve: Serve) -> None:
    pages = serve(lambda path, query: (500, {}, {}))

    with pytest.raises(SourceError, match="page 1: still 500 Internal Server Error after 3 attempts"):
        list(source(attempts=3, readers=1))
    assert sum(query["page"] == "1" for _, query in pages.asked) == 3


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ((403, {}, {}), "page 1: the server responded with 403 Forbidden"),
        ((404, {}, {}), "page 1: the server responded with 404 Not Found"),
        ((200, {}, b"<html>"), r"page 1: the response is not JSON"),
        ((200, {}, {"data": {}}), "page 1 has nothing at 'data.rows'"),
        ((200, {}, {"data": {"rows": {}}}), "items='data.rows' is a dict, not a list"),
    ],
)
def test_answer_that_is_no_page_says_so(serve: Serve, answer: Answer, complaint: str) -> None:
    serve(lambda path, query: answer)

    with pytest.raises(SourceError, match=complaint):
        list(source(readers=1, parameters={"api_key": "secret"}))


def test_no_error_shows_the_query(serve: Serve) -> None:
    pages = serve(lambda path, query: None)

    with pytest.raises(SourceError) as caught:
        list(source(attempts=2, parameters={"api_key": "hunter2"}))

    assert "hunter2" not in str(caught.value)
    assert pages.asked[0][1]["api_key"] == "hunter2"


def test_rate_is_that_of_all_readers(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the clock of the limit itself: a request may take any time from there to the server."""
    times: list[float] = []
    spend = RateLimit.spend

    def noting(rate: RateLimit, items: int) -> None:
        assert rate._last is not None
        times.append(rate._last)
        spend(rate, items)

    monkeypatch.setattr(RateLimit, "spend", noting)
    pages = serve(numbered(80))

    assert list(source(readers=8, rate_limit=20)) == list(range(80))
    assert len(times) == len(pages.asked) >= 9
    assert max(times) - min(times) >= (len(times) - 2) / 20


def test_headers_and_login_are_sent(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    import json

    pages = serve(numbered(5))
    connection = {**json.loads(pages.connection), "login": "me", "password": "pw", "extra": {"X-Team": "data"}}
    monkeypatch.setenv("AIRFLOW_CONN_API", json.dumps(connection))

    list(source(headers={"Accept-Language": "de"}))

    sent = pages.headers[0]
    assert (sent["X-Team"], sent["Accept-Language"]) == ("data", "de")
    assert sent["Authorization"].startswith("Basic ")


def test_stop_does_not_wait_for_the_server(serve: Serve) -> None:
    stop = StopToken()
    asked: list[float] = []

    def enough() -> None:
        asked.append(time.monotonic())
        stop.stop("enough")

    def answer(path: str, query: dict[str, str]) -> Answer:
        threading.Timer(0.1, enough).start()
        return 429, {"Retry-After": "100"}, {}

    serve(answer)

    with pytest.raises(RunStopped) as caught:
        Pipeline(source(), [Stage(abs)], ListSink()).run(stop=stop)

    assert time.monotonic() - asked[0] < 5
    assert isinstance(caught.value.report, RunReport)
    assert not [warning for warning in caught.value.report.warnings if "left behind" in warning]


def test_pages_go_through_a_pipeline(serve: Serve) -> None:
    serve(numbered(300))
    sink = ListSink()

    Pipeline(source(), [Stage(lambda number: number * 2, workers=2)], sink, ordered=True, chunk_size=50).run()

    assert sink.rows == list(range(0, 600, 2))


def test_error_of_a_page_ends_the_run(serve: Serve) -> None:
    serve(lambda path, query: (401, {}, {}))

    with pytest.raises(RunFailed, match="401 Unauthorized"):
        Pipeline(source(), [Stage(abs)], ListSink()).run()


@pytest.mark.parametrize(
    ("pagination", "place"),
    [("page", "page 2, item 4"), ("offset", "offset 10, item 4"), ("cursor", "page 2, item 4")],
)
def test_item_that_fails_is_named_with_its_page(serve: Serve, pagination: Any, place: str) -> None:
    def answer(path: str, query: dict[str, str]) -> Answer:
        start = 10 * int(query.get("page", 1)) - 10 + int(query.get("offset", 0)) + int(query.get("cursor", 0))
        return 200, {}, {"rows": list(range(start, min(start + 10, 30))), "next": start + 10 if start < 20 else None}

    def checked(number: int) -> int:
        if number == 14:
            raise ValueError("no good")
        return number

    serve(answer)
    every: dict[str, dict[str, Any]] = {"cursor": {"next_cursor": "next"}, "offset": {"page_size": 10}}
    more = every.get(pagination, {})

    with pytest.raises(RunFailed, match=rf"checked: ValueError: no good.*, item 14 \({place}\)"):
        Pipeline(source(items="rows", pagination=pagination, **more), [Stage(checked)], ListSink()).run()


def test_place_of_an_item(serve: Serve) -> None:
    serve(numbered(25))
    pages = source()

    assert pages.place_of(0) == ""
    assert list(pages) == list(range(25))
    assert [pages.place_of(at) for at in (0, 9, 10, 24)] == [
        "page 1, item 0", "page 1, item 9", "page 2, item 0", "page 3, item 4",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"endpoint": ""}, "endpoint"),
        ({"pagination": "pages"}, "pagination"),
        ({"pagination": "offset"}, "page_size"),
        ({"pagination": "cursor"}, "next_cursor"),
        ({"next_cursor": "meta.next"}, "next_cursor"),
        ({"rate_limit": 0}, "rate_limit"),
        ({"readers": 0}, "readers"),
        ({"attempts": 0}, "attempts"),
        ({"items": 7}, "items"),
        ({"parameters": "a=b"}, "parameters"),
    ],
)
def test_declaration_is_checked(options: dict[str, Any], field: str) -> None:
    with pytest.raises(PlanError, match=rf"HttpPagesSource\.{field}"):
        HttpPagesSource(**{"endpoint": "/v1", "conn_id": "api", **options})


def test_missing_connection_says_so() -> None:
    with pytest.raises(PlanError, match=r"HttpPagesSource\.conn_id='absent': there is no such connection in Airflow"):
        HttpPagesSource("/v1", conn_id="absent").prepare()


def test_identity_is_what_is_asked() -> None:
    assert repr(source()) == repr(source()) != repr(source(parameters={"day": 1}))
    assert repr(source()).startswith("pages of api/v1/numbers ")
