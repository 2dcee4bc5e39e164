"""``HttpPagesSource``: the items of an HTTP API that returns them page by page."""

from __future__ import annotations

import hashlib
import itertools
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from urllib.parse import urljoin, urlsplit

from airflow_parallel_provider.checks import (
    check_choice,
    check_mapping,
    check_seconds,
    check_text,
    check_whole,
    name_of,
)
from airflow_parallel_provider.errors import PlanError, SourceError
from airflow_parallel_provider.sources.declared_source import DeclaredSource
from airflow_parallel_provider.sources.http.page import Page, is_address, value_at
from airflow_parallel_provider.sources.http.request_policy import RequestPolicy
from airflow_parallel_provider.sources.read_ahead import StopReading, read_ahead

if TYPE_CHECKING:
    from airflow_parallel_provider.sources.http.http_client import HttpClient

PAGINATIONS = ("page", "offset", "cursor", "link")


class HttpPagesSource(DeclaredSource):
    """The items of an HTTP API, page after page, over an Airflow connection of type ``http``.

    ::

        HttpPagesSource("/v1/orders", conn_id="shop_api", items="data", parameters={"day": "{{ ds }}"}, page_size=200)

    ``pagination="page"`` (page 1, 2, 3 ...) and ``"offset"`` (items 0, 200, 400 ...) request ``readers`` pages at the
    same time, until a page is empty or, after the first one, not found (404). A short page does not end the source,
    since a server may cap the size of its pages. With offsets a capped page fails the run; with both, two equal pages
    in a row fail it. ``"cursor"`` and ``"link"`` request one page after the other, since each page names the next one.

    After a 429, 500, 502, 503 or 504, and after a failed connection, the page is requested again, at most ``attempts``
    times in all. ``Retry-After`` delays all readers; without it the wait doubles, with jitter. Any other status than
    2xx fails the run.

    :param endpoint: path on the connection's host. (templated)
    :param conn_id: Airflow connection: host, login, headers in its extra. (templated)
    :param items: where a page's list of items is: names with dots (``"data.orders"``), or a function of the page's
        JSON; None: the page is the list.
    :param pagination: ``"page"``, ``"offset"``, ``"cursor"`` or ``"link"`` (the header ``Link: <...>; rel="next"``).
    :param parameters: query parameters of every page. (templated)
    :param headers: headers of every request. (templated)
    :param page_size: items to request per page; None: the parameter is not sent (``"offset"`` needs it).
    :param page_parameter: query parameter for the page number, the offset or the cursor; None: ``"page"``,
        ``"offset"``, ``"cursor"``.
    :param size_parameter: query parameter for the page size.
    :param first_page: number of the first page.
    :param next_cursor: where a page holds the next cursor: names with dots, or a function of its JSON. A missing or
        empty cursor ends the source; an address on the same server is requested as it is.
    :param readers: pages that are requested at the same time, 1 to 64.
    :param rate_limit: most requests per second, of all readers together; None: no limit.
    :param attempts: how often a page is requested before the run fails.
    :param longest_wait: seconds; a longer ``Retry-After`` fails the run at once, so that Airflow can retry later.
    :param timeout: seconds to wait for a response.
    :raises PlanError: when the DAG is parsed, for a wrong argument; when the run begins, for a missing connection.

    What it does not do: keep the state of the server. A retry that resumes needs the same items in the same order:
    request a closed period (``{{ data_interval_end }}``) in a stable order.
    """

    template_fields: ClassVar[tuple[str, ...]] = ("endpoint", "conn_id", "parameters", "headers")

    def __init__(
        self,
        endpoint: str,
        *,
        conn_id: str,
        items: str | Callable[[Any], Any] | None = None,
        pagination: Literal["page", "offset", "cursor", "link"] = "page",
        parameters: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        page_size: int | None = None,
        page_parameter: str | None = None,
        size_parameter: str = "per_page",
        first_page: int = 1,
        next_cursor: str | Callable[[Any], Any] | None = None,
        readers: int = 4,
        rate_limit: float | None = None,
        attempts: int = 5,
        longest_wait: float = 300.0,
        timeout: float = 60.0,
    ) -> None:
        check_text("HttpPagesSource.endpoint", endpoint)
        check_text("HttpPagesSource.conn_id", conn_id)
        check_text("HttpPagesSource.size_parameter", size_parameter)
        check_choice("HttpPagesSource.pagination", pagination, PAGINATIONS)
        check_mapping("HttpPagesSource.parameters", parameters)
        check_mapping("HttpPagesSource.headers", headers)
        check_whole("HttpPagesSource.first_page", first_page, 0, 1_000_000)
        check_whole("HttpPagesSource.readers", readers, 1, 64)
        check_whole("HttpPagesSource.attempts", attempts, 1, 100)
        check_seconds("HttpPagesSource.longest_wait", longest_wait)
        check_seconds("HttpPagesSource.timeout", timeout, least=0.001)
        self._check_place("items", items)
        self._check_place("next_cursor", next_cursor)
        _check_paging(pagination, page_size, next_cursor, rate_limit)
        self.endpoint = endpoint
        self.conn_id = conn_id
        self.items = items
        self.pagination = pagination
        self.parameters = parameters
        self.headers = headers
        self.page_size = page_size
        self.page_parameter = page_parameter or {"link": "page"}.get(pagination, pagination)
        self.size_parameter = size_parameter
        self.first_page = first_page
        self.next_cursor = next_cursor
        self.readers = readers
        self.rate_limit = rate_limit
        self.attempts = attempts
        self.longest_wait = longest_wait
        self.timeout = timeout
        self._client: HttpClient | None = None
        self._halt = StopReading()

    @staticmethod
    def _check_place(field: str, value: object) -> None:
        if value is not None and not callable(value):
            check_text(f"HttpPagesSource.{field}", value)

    def prepare(self) -> None:
        """Get the connection from Airflow.

        :raises PlanError: when it does not exist, or Airflow's HTTP provider is not installed.
        """
        from airflow_parallel_provider.sources.http.http_client import HttpClient

        self._halt = StopReading()
        self._client = HttpClient(self._policy(), self._halt)

    def _policy(self) -> RequestPolicy:
        return RequestPolicy(
            source=self.identity(),
            conn_id=self.conn_id,
            endpoint=self.endpoint,
            headers=self.headers or {},
            parameters=self.parameters or {},
            pagination=self.pagination,
            page_parameter=self.page_parameter,
            page_size=self.page_size,
            size_parameter=self.size_parameter,
            rate_limit=self.rate_limit,
            attempts=self.attempts,
            longest_wait=self.longest_wait,
            timeout=self.timeout,
        )

    def interrupt(self) -> None:
        """Stop waiting for pages."""
        self._halt.set()

    def identity(self) -> str:
        """Connection, endpoint and a digest of the other arguments; the items are not part of it."""
        places = [each if isinstance(each, str) else name_of(each) for each in (self.items, self.next_cursor)]
        digested = [self.pagination, self.parameters, self.page_size, self.page_parameter, self.first_page, *places]
        digest = hashlib.blake2b(json.dumps(digested, default=str).encode(), digest_size=6).hexdigest()
        return f"pages of {self.conn_id}/{self.endpoint.lstrip('/')} {digest}"

    def __iter__(self) -> Iterator[Any]:
        """Yield the items.

        :raises SourceError: naming the page that cannot be read.
        """
        if self._client is None:
            self.prepare()
        assert self._client is not None
        if self.pagination in ("page", "offset"):
            return self._numbered(self._client)
        return self._chained(self._client)

    def _numbered(self, client: HttpClient) -> Iterator[Any]:
        step = self.page_size or 0
        numbers = itertools.count(0, step) if self.pagination == "offset" else itertools.count(self.first_page)
        first = next(numbers)
        ended = threading.Event()
        pages = read_ahead(
            lambda: client.reader(optional_behind=first, ended=ended),
            itertools.chain([first], numbers),
            readers=self.readers,
            name="http-source",
            halt=self._halt,
        )
        with closing(pages):
            try:
                yield from self._items_in(pages, step)
            finally:
                ended.set()

    def _items_in(self, pages: Iterator[Page], step: int) -> Iterator[Any]:
        last: Page | None = None
        short = False
        for page in pages:
            items = self._items_of(page)
            if not items:
                return
            self._check_step(page, last, len(items), short=short)
            last, short = page, len(items) < step
            yield from items

    def _check_step(self, page: Page, last: Page | None, items: int, *, short: bool) -> None:
        """Check that pages follow each other: a server that ignores or caps a parameter returns wrong pages silently.

        :param last: the page before; None: this is the first.
        :param short: whether that page had fewer items than the step of the offset.
        """
        where = f"{self.identity()}: {page.display_name}"
        if self.pagination == "offset" and (short or items > (self.page_size or items)):
            raise SourceError(
                f"{where}: pages do not have page_size={self.page_size} items, so offsets would skip items or read "
                f"them twice: set size_parameter= (now {self.size_parameter!r}) to the server's name for it, and "
                "page_size= to the size of its pages"
            )
        if last is not None and page.content == last.content:
            raise SourceError(
                f"{where} is the same as the page before: set page_parameter= (now {self.page_parameter!r}) to the "
                "server's name for it"
            )

    def _chained(self, client: HttpClient) -> Iterator[Any]:
        seen: set[str] = set()
        with client.reader(optional_behind=None) as read:
            page: Page | None = read(None)
            while page is not None:
                yield from self._items_of(page)
                cursor = self._next_of(page)
                if not cursor:
                    return
                if cursor in seen:
                    text = f"{self.identity()}: {page.display_name} names a next page that has already been read"
                    raise SourceError(text)
                seen.add(cursor)
                page = read(cursor)

    def _items_of(self, page: Page) -> list[Any]:
        if page.content is None:  # no such page, or one without content
            return []
        found = page.content if self.items is None else value_at(page, self.items)
        if found is None:  # many servers return null for an empty list
            return []
        if not isinstance(found, list):
            place = "the response" if self.items is None else f"items={self.items!r}"
            kind = type(found).__name__
            raise SourceError(f"{self.identity()}: {page.display_name}: {place} is a {kind}, not a list of items")
        return found

    def _next_of(self, page: Page) -> str:
        found: Any = page.next_link
        if self.next_cursor is not None:
            found = value_at(page, self.next_cursor, absent_is_none=True)
        text = "" if found is None or found is False else str(found)
        if self.pagination == "cursor" and not is_address(text, page):
            return text
        if not text:
            return ""
        address = urljoin(page.address, text)
        if urlsplit(address)[:2] != urlsplit(page.address)[:2]:  # that server would receive the credentials
            raise SourceError(f"{self.identity()}: {page.display_name} names a next page on another server")
        return address


def _check_paging(pagination: str, page_size: Any, next_cursor: Any, rate_limit: Any) -> None:
    if page_size is not None:
        check_whole("HttpPagesSource.page_size", page_size, 1, 1_000_000)
    if pagination == "offset" and page_size is None:
        raise PlanError("HttpPagesSource.page_size", None, "give a page size: offsets are its multiples")
    if pagination == "cursor" and next_cursor is None:
        cure = "give the place of the next cursor in a page, e.g. next_cursor='meta.next'"
        raise PlanError("HttpPagesSource.next_cursor", None, cure)
    if pagination != "cursor" and next_cursor is not None:
        cure = "only pagination='cursor' uses it; write that, or leave it out"
        raise PlanError("HttpPagesSource.next_cursor", next_cursor, cure)
    if rate_limit is not None:
        check_seconds("HttpPagesSource.rate_limit", rate_limit, least=0.001)
