# SPDX-License-Identifier: Apache-2.0
"""``HttpPagesSource``: the items of an HTTP API that returns them page by page."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_parallel_provider.checks import check_choice, check_mapping, check_seconds, check_text, check_whole
from airflow_parallel_provider.engine.interfaces.records import STREAM, EarlierLoads, Narrow
from airflow_parallel_provider.engine.interfaces.sink import Sink
from airflow_parallel_provider.errors import PlanError
from airflow_parallel_provider.sources.changed_since import ChangedSince, window
from airflow_parallel_provider.sources.declared_source import DeclaredSource
from airflow_parallel_provider.sources.http.auth import OAuthClientCredentials, check_auth
from airflow_parallel_provider.sources.http.origins import check_trusted
from airflow_parallel_provider.sources.http.page import Page, items_of, require_no_errors
from airflow_parallel_provider.sources.http.page_order import PageOrder, chain, check_step
from airflow_parallel_provider.sources.http.request_counts import RequestCounts
from airflow_parallel_provider.sources.http.request_policy import (
    check_body,
    check_end_statuses,
    check_ends,
    check_paging,
    check_places,
    identity_of,
    policy_of,
)
from airflow_parallel_provider.sources.places import Places
from airflow_parallel_provider.sources.read_ahead import StopReading, read_ahead

if TYPE_CHECKING:
    from airflow_parallel_provider.sources.http.http_client import HttpClient

PAGINATIONS = ("page", "offset", "cursor", "link", "json_api", "odata")

_STYLES = {"json_api": ("data", "links.next"), "odata": ("value", "@odata.nextLink")}
"""Where the pages of some kinds of APIs have their items, and the address of the next page."""

LARGEST_PAGE = 100 << 20
"""Bytes of an unpacked page."""


class HttpPagesSource(DeclaredSource):
    """The items of an HTTP API, page after page, over an Airflow connection of type ``http``.

    ::

        HttpPagesSource("/v1/orders", conn_id="shop_api", items="data", parameters={"day": "{{ ds }}"}, page_size=200)

    ``pagination="page"`` (page 1, 2, 3 ...) and ``"offset"`` (items 0, 200, 400 ...) request ``readers`` pages at the
    same time, until a page is empty or, after the first one, has one of ``end_statuses``. A short page does not end the
    source, since a server may cap the size of its pages. With offsets a capped page fails the run. ``"cursor"`` and
    ``"link"`` request one page after the other, since each page names the next one; a page that names itself is the
    last one.

    After a 408, 425, 429 or 5xx, a 403 with ``Retry-After``, a failed connection, and when a response is cut off, the
    page is requested again, at most ``attempts`` times in all. ``Retry-After`` delays all readers; without it the wait
    doubles, with jitter. Any other status than 2xx fails the run.

    Login, headers and cookies go to the origin only (scheme, host and port) that the connection names, and to
    ``trusted_origins``. A redirect to another one is followed without them; a next page on another one fails the run,
    unless there are none.

    :param endpoint: path on the connection's host. (templated)
    :param conn_id: Airflow connection: host, login, headers in its extra. (templated)
    :param items: where a page's list of items is: names with dots (``"data.orders"``), or a function of the page's
        JSON; None: the page is the list.
    :param pagination: ``"page"``, ``"offset"``, ``"cursor"`` or ``"link"`` (the header ``Link: <...>; rel="next"``);
        ``"json_api"`` and ``"odata"``: items and address of the next page are where these standards have them.
    :param parameters: query parameters of every page. (templated)
    :param headers: headers of every request. (templated)
    :param page_size: items to request per page; None: the parameter is not sent (``"offset"`` needs it).
    :param page_parameter: query parameter for the page number, the offset or the cursor; None: ``"page"``,
        ``"offset"``, ``"cursor"``.
    :param size_parameter: query parameter for the page size.
    :param first_page: number of the first page.
    :param next_cursor: where a page holds the next cursor: names with dots, or a function of its JSON. A missing or
        empty cursor ends the source; an address on the same server is requested as it is.
    :param has_more: where a page says whether there is a next one, if its cursor does not: as ``next_cursor``.
    :param json: body of a POST, in the place of a GET. Number, offset or cursor and the page size are put into it, at
        names with dots: ``page_parameter="variables.after"``. A page of GraphQL with ``errors`` fails the run.
        (templated)
    :param auth: a function that returns headers, or :class:`OAuthClientCredentials`: for tokens that expire. They are
        made again after a 401.
    :param end_statuses: statuses of numbered pages that mean that there is no such page, and so the end, if it is not
        the first one; None: 400, 404, 410, 416 and 422. But for 404 the page behind must not exist either.
    :param repeated_page: what it means when the same page comes three times in a row: ``"end"``: the server repeats its
        last page; ``"error"``, also for two equal pages; ``"read"``: they are read as they are; ``"auto"``: the end, or
        an error if it is the first page, since a server that ignores ``page_parameter`` gives that one forever.
    :param missing_items: what it means when a page other than the first has nothing at ``items``: ``"error"``, or
        ``"end"``: the page is empty.
    :param readers: pages that are requested at the same time, 1 to 64.
    :param rate_limit: most requests per second, of all readers together; None: no limit.
    :param attempts: how often a page is requested before the run fails.
    :param longest_wait: seconds; a longer ``Retry-After`` fails the run at once, so that Airflow can retry later.
    :param timeout: seconds to wait for a response, and between two parts of it.
    :param largest_page: bytes of an unpacked page; a larger one fails the run. A page is held in memory as a whole, and
        as many as ``2 * readers`` at a time.
    :param trusted_origins: other origins than the connection's own that may get its login, headers and cookies
        (``["https://eu.example.com", "https://example.com:8443"]``).
    :param since: query parameter (of a POST: name with dots in ``json``) for the moment from which on the server gives
        what has changed: that when the last complete load into the same table began. The first load does not send it.
        Needs a ``SinkTable`` that merges, whose ledger keeps the moment.
    :param until: parameter for the moment when this load began: a retry then asks for the same period.
    :param since_lag: how much earlier to begin: clocks differ.
    :param since_format: ``"iso"``: ``2026-11-01T10:00:00Z``; ``"epoch"``: seconds; or a format of strftime. All in UTC.
    :raises PlanError: when the DAG is parsed, for a wrong argument; when the run begins, for a missing connection.

    What it does not do: keep the state of the server. A retry that resumes needs the same items in the same order:
    request a closed period (``{{ data_interval_end }}``) in a stable order.
    """

    template_fields: ClassVar[tuple[str, ...]] = ("endpoint", "conn_id", "parameters", "headers", "json")

    def __init__(
        self,
        endpoint: str,
        *,
        conn_id: str,
        items: str | Callable[[Any], Any] | None = None,
        pagination: Literal["page", "offset", "cursor", "link", "json_api", "odata"] = "page",
        parameters: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        page_size: int | None = None,
        page_parameter: str | None = None,
        size_parameter: str = "per_page",
        first_page: int = 1,
        next_cursor: str | Callable[[Any], Any] | None = None,
        has_more: str | Callable[[Any], Any] | None = None,
        json: Mapping[str, Any] | None = None,
        auth: Callable[[], Mapping[str, str]] | OAuthClientCredentials | None = None,
        end_statuses: Iterable[int] | None = None,
        repeated_page: Literal["auto", "end", "error", "read"] = "auto",
        missing_items: Literal["error", "end"] = "error",
        readers: int = 4,
        rate_limit: float | None = None,
        attempts: int = 5,
        longest_wait: float = 300.0,
        timeout: float = 60.0,
        largest_page: int = LARGEST_PAGE,
        trusted_origins: Iterable[str] | None = None,
        since: str | None = None,
        until: str | None = None,
        since_lag: timedelta = timedelta(minutes=1),
        since_format: str = "iso",
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
        check_whole("HttpPagesSource.largest_page", largest_page, 1_000, unit="bytes")
        self.trusted_origins = check_trusted("HttpPagesSource.trusted_origins", trusted_origins)
        check_places(items=items, next_cursor=next_cursor, has_more=has_more)
        check_auth(auth)
        check_ends(pagination, items, repeated_page, missing_items)
        self.end_statuses = check_end_statuses(end_statuses, pagination)
        self.repeated_page = repeated_page
        self.missing_items = missing_items
        check_paging(pagination, page_size, next_cursor, has_more, rate_limit)
        if pagination in _STYLES:
            places = _STYLES[pagination]
            pagination, items, next_cursor = "link", places[0] if items is None else items, places[1]
        self.endpoint = endpoint
        self.conn_id = conn_id
        self.items = items
        self.pagination = pagination
        self.parameters = parameters
        self.headers = headers
        self.page_size = page_size
        self.page_parameter = page_parameter or {"link": "page"}.get(pagination, pagination)
        self.size_parameter = size_parameter
        check_body(json, self.page_parameter, size_parameter, page_size)
        self.json = json
        self.has_more = has_more
        self.auth = auth
        self.first_page = first_page
        self.next_cursor = next_cursor
        self.readers = readers
        self.rate_limit = rate_limit
        self.attempts = attempts
        self.longest_wait = longest_wait
        self.timeout = timeout
        self.largest_page = largest_page
        self.changed = ChangedSince.checked("HttpPagesSource", since, until, since_lag, since_format)
        self._client: HttpClient | None = None
        self._counts = RequestCounts()
        self._places = Places()
        self._halt = StopReading()

    def prepare(self) -> None:
        """Get the connection from Airflow.

        :raises PlanError: when it does not exist, or Airflow's HTTP provider is not installed.
        """
        from airflow_parallel_provider.sources.http.http_client import HttpClient

        self._halt, self._counts = StopReading(), RequestCounts()
        self._client = HttpClient(policy_of(self), self._halt, self.auth, self._counts)

    @property
    def narrow(self) -> Narrow | None:
        """With ``since``: asks for what has changed since the last load."""
        return None if self.changed is None else self._since_last

    def check_sink(self, sink: Sink) -> None:
        """With ``since``: the sink must know the last load, and merge, since items come again."""
        if self.changed is not None:
            field, value = "HttpPagesSource.since", self.changed.since
            sink.check_narrow(field, value, f"{field}={value!r}")

    def _since_last(self, earlier: EarlierLoads) -> Mapping[str, Any]:
        return {STREAM: self.identity(), "window": window(earlier, self.identity())}

    def get_state(self) -> Mapping[str, Any] | None:
        """With ``since``: which loads belong together."""
        return None if self.changed is None else {STREAM: self.identity()}

    def restore_state(self, state: Mapping[str, Any]) -> None:
        """Ask for the period of the first try."""
        if self.changed is not None and self._client is not None:
            self._client.add(self.changed.values(state["window"]))

    def check_shards(self) -> None:
        """Each shard would request all pages.

        :raises PlanError: always.
        """
        cure = "each shard would request every page: run without shards, or map the task over a parameter (day, tenant)"
        raise PlanError("Pipeline.source", self, cure)

    def place_of(self, position: int) -> str:
        """The page of an item, and its number there, from 0."""
        found = self._places.of(position)
        return "" if found is None else f"{found[0]}, item {found[1]}"

    def interrupt(self) -> None:
        """Stop waiting for pages."""
        self._halt.set()

    @property
    def figures(self) -> Mapping[str, Any]:
        """Pages requested, retries by status, and seconds waited."""
        return self._counts.as_dict()

    @property
    def advice(self) -> str:
        """Larger pages, more readers, or a higher rate; nothing of that where the server has said 429."""
        if self._counts.is_throttled:
            return "the server answers 429, too many requests: more of them at the same time would not help"
        larger = "larger pages (page_size=)" if self.page_size is None else f"larger pages (page_size={self.page_size})"
        rate = "" if self.rate_limit is None else f", and at most {self.rate_limit:g} requests per second (rate_limit=)"
        if self.pagination in ("cursor", "link"):
            return f"{larger}; each page names the next one, so no more of them can be requested at the same time{rate}"
        return f"{larger}, or more pages at the same time (readers={self.readers}){rate}"

    def identity(self) -> str:
        """Connection, endpoint and a digest of the other arguments; the items are not part of it."""
        return identity_of(self)

    def __iter__(self) -> Iterator[Any]:
        """Yield the items.

        :raises SourceError: naming the page that cannot be read.
        """
        if self._client is None:
            self.prepare()
        assert self._client is not None
        self._places = Places()
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
        read = self._items_of
        order = PageOrder(
            self.identity(), self.page_parameter, self.repeated_page, lambda page, first: not read(page, first=first)
        )
        short = False
        count = 0
        for page in order.read(pages):
            items = self._items_of(page, first=not count)
            check_step(self, page, len(items), short=short)
            short = len(items) < step
            self._places.begin(page.display_name, count)
            count += len(items)
            yield from items

    def _chained(self, client: HttpClient) -> Iterator[Any]:
        count = 0
        with client.reader(optional_behind=None) as reader:
            for page, items in chain(self, reader.follow, lambda page, first: self._items_of(page, first=first)):
                self._places.begin(page.display_name, count)
                count += len(items)
                yield from items

    def _items_of(self, page: Page, *, first: bool) -> list[Any]:
        if self.json is not None and "query" in self.json and page.content is not None:
            require_no_errors(page, self.identity())
        may_lack = self.missing_items == "end" and not first
        return items_of(page, self.items, self.identity(), may_lack=may_lack, first=first)
