"""The HTTP client of ``HttpPagesSource``: one session per thread, one rate for all threads, retries where they help."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.connections import get_connection, resolved_copy
from airflow_parallel_provider.engine.dataflow.rate_limit import RateLimit
from airflow_parallel_provider.errors import PlanError, SourceError
from airflow_parallel_provider.sources.http.page import Page
from airflow_parallel_provider.sources.read_ahead import ReadingStopped, StopReading

if TYPE_CHECKING:
    from airflow_parallel_provider.sources.http.request_policy import RequestPolicy

RETRIED = frozenset({429, 500, 502, 503, 504})
"""Statuses of requests that may succeed later."""

NOT_FOUND, NO_CONTENT = 404, 204

FIRST_WAIT, LONGEST_BACKOFF = 0.5, 30.0
"""Seconds between two requests for a page, if the server sends no ``Retry-After``."""


class Throttle:
    """Delays the requests of all readers together: for the rate limit, and for ``Retry-After``."""

    def __init__(self, per_second: float | None, halt: StopReading) -> None:
        self._rate = None if per_second is None else RateLimit(per_second)
        self._not_before = 0.0
        self._halt = halt
        self._lock = threading.Lock()

    def enter(self) -> None:
        """Wait until a request is allowed."""
        while (seconds := self._acquire()) > 0:
            self._halt.pause(seconds)

    def _acquire(self) -> float:
        """Seconds to wait; 0 or less: the request is allowed and counted."""
        with self._lock:
            now = time.monotonic()
            wait = self._not_before - now
            if wait <= 0 and self._rate is not None:
                wait = self._rate.pause(now)
                if wait <= 0:
                    self._rate.spend(1)
            return wait

    def hold(self, seconds: float) -> None:
        """Allow no request for a number of seconds."""
        with self._lock:
            self._not_before = max(self._not_before, time.monotonic() + seconds)


class HttpClient:
    """Requests pages. Only the constructor talks to Airflow."""

    def __init__(self, policy: RequestPolicy, halt: StopReading) -> None:
        try:
            from airflow.providers.http.hooks.http import HttpHook
        except ImportError:
            cure = "the HTTP provider is not installed: pip install 'airflow-parallel-provider[http]'"
            raise PlanError("HttpPagesSource.conn_id", policy.conn_id, cure) from None
        connection = resolved_copy(get_connection(policy.conn_id, "HttpPagesSource.conn_id"))
        self._hook: Any = HttpHook(method="GET", http_conn_id=policy.conn_id)
        self._hook.get_connection = lambda _conn_id=None: connection
        self._policy = policy
        self._halt = halt
        self._throttle = Throttle(policy.rate_limit, halt)

    @contextmanager
    def reader(
        self, *, optional_behind: int | None, ended: threading.Event | None = None
    ) -> Iterator[Callable[[Any], Page]]:
        """A function that reads a page, with its own session.

        :param optional_behind: pages with a higher number need not exist; None: all must exist.
        :param ended: set when no further page is needed: then none is requested.
        """
        policy = self._policy
        session = self._hook.get_conn(dict(policy.headers))
        url = self._hook.url_from_endpoint(policy.endpoint)

        def read(place: Any) -> Page:
            optional = optional_behind is not None and place > optional_behind
            address, query, display_name = self._request(url, place)
            return self._read(session, address, query, display_name, optional=optional, ended=ended)

        try:
            yield read
        finally:
            session.close()

    def _request(self, url: str, place: Any) -> tuple[str, dict[str, Any], str]:
        """Address, query and display name of the page at a place."""
        policy = self._policy
        if isinstance(place, str) and place.startswith(("http://", "https://")):
            return place, {}, "the next page"  # the address is complete
        if place is None:
            return url, policy.query_of(None), "the first page"
        return url, policy.query_of(place), f"{policy.pagination} {place if isinstance(place, int) else '...'}"

    def _read(
        self,
        session: Any,
        address: str,
        query: dict[str, Any],
        display_name: str,
        *,
        optional: bool,
        ended: threading.Event | None,
    ) -> Page:
        import requests

        policy = self._policy
        problem = ""
        for attempt in range(1, policy.attempts + 1):
            self._throttle.enter()
            if ended is not None and ended.is_set():
                raise ReadingStopped("the last page has been read")
            wait = None
            try:
                response = session.get(address, params=query, timeout=policy.timeout)
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                problem = type(error).__name__  # its text contains the address with the query
            else:
                if response.status_code == NO_CONTENT or (optional and response.status_code == NOT_FOUND):
                    return Page(None, None, address, display_name)
                if response.ok:
                    return self._page(response, display_name)
                problem = f"{response.status_code} {response.reason}"
                if response.status_code not in RETRIED:
                    raise SourceError(f"{policy.source}: {display_name}: the server responded with {problem}")
                wait = _retry_after(response.headers.get("Retry-After"))
            if attempt < policy.attempts:
                self._back_off(wait, attempt, f"{display_name}: {problem}")
        raise SourceError(f"{policy.source}: {display_name}: still {problem} after {policy.attempts} attempts")

    def _back_off(self, retry_after: float | None, attempt: int, problem: str) -> None:
        policy = self._policy
        if retry_after is None:
            # With jitter: readers that failed together must not retry together.
            self._halt.pause(random.uniform(0.5, 1.0) * min(LONGEST_BACKOFF, FIRST_WAIT * 2 ** (attempt - 1)))  # noqa: S311
            return
        if retry_after > policy.longest_wait:
            raise SourceError(
                f"{policy.source}: {problem}: the server asks for a wait of {retry_after:.0f} s, longest_wait is "
                f"{policy.longest_wait:g} s. Run the task again later, or raise longest_wait"
            )
        self._throttle.hold(retry_after)

    def _page(self, response: Any, display_name: str) -> Page:
        try:
            content = response.json()
        except ValueError:
            kind = response.headers.get("Content-Type", "no type")
            raise SourceError(f"{self._policy.source}: {display_name}: the response is not JSON ({kind})") from None
        return Page(content, response.links.get("next", {}).get("url"), response.url, display_name)


def _retry_after(header: str | None) -> float | None:
    """Seconds to wait according to a ``Retry-After``, which holds a number or a date."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
