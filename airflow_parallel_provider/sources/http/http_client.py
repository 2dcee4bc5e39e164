"""Requests of ``HttpPagesSource``: one session per thread, one rate for all of them, patience where it helps."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.connections import get_connection, resolved_copy
from airflow_parallel_provider.engine.dataflow.rate_limit import RateLimit
from airflow_parallel_provider.errors import PlanError, SourceError
from airflow_parallel_provider.sources.read_ahead import ReadingStopped, StopReading

if TYPE_CHECKING:
    from airflow_parallel_provider.sources.http.request_policy import RequestPolicy

AGAIN = frozenset({429, 500, 502, 503, 504})
"""Statuses that may pass."""

NOT_FOUND, NO_CONTENT = 404, 204

FIRST_WAIT, LONGEST_BACKOFF = 0.5, 30.0
"""Seconds between two requests for a page, where the server does not say."""


@dataclass(frozen=True, slots=True)
class Page:
    """One answer."""

    content: Any
    """Its JSON; None: there is no such page."""
    next_link: str | None
    address: str
    shown: str
    """For people; without the query, which may hold a key."""


class Throttle:
    """Holds back all readers together: the rate, and what the server asked for."""

    def __init__(self, per_second: float | None, halt: StopReading) -> None:
        self._rate = None if per_second is None else RateLimit(per_second)
        self._not_before = 0.0
        self._halt = halt
        self._lock = threading.Lock()

    def enter(self) -> None:
        """Wait until a request may go."""
        while (seconds := self._take()) > 0:
            self._halt.pause(seconds)

    def _take(self) -> float:
        with self._lock:
            now = time.monotonic()
            wait = self._not_before - now
            if wait <= 0 and self._rate is not None:
                wait = self._rate.pause(now)
                if wait <= 0:
                    self._rate.spend(1)
            return wait

    def hold(self, seconds: float) -> None:
        """The server wants no request for so many seconds."""
        with self._lock:
            self._not_before = max(self._not_before, time.monotonic() + seconds)


class HttpClient:
    """Asks for pages. The only place that talks to Airflow is the construction."""

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
        """A function that reads a page, over a session of its own.

        :param optional_behind: pages with a higher number need not be there; None: all must be.
        :param ended: set when nobody waits for a page any more: none is asked for again then.
        """
        policy = self._policy
        session = self._hook.get_conn(dict(policy.headers))
        url = self._hook.url_from_endpoint(policy.endpoint)

        def read(place: Any) -> Page:
            optional = optional_behind is not None and place > optional_behind
            address, query, shown = self._request(url, place)
            return self._read(session, address, query, shown, optional=optional, ended=ended)

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
        shown: str,
        *,
        optional: bool,
        ended: threading.Event | None,
    ) -> Page:
        import requests

        policy = self._policy
        trouble = ""
        for attempt in range(1, policy.attempts + 1):
            self._throttle.enter()
            if ended is not None and ended.is_set():
                raise ReadingStopped("the last page has been read")
            wait = None
            try:
                answer = session.get(address, params=query, timeout=policy.timeout)
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                trouble = type(error).__name__  # its text holds the address, with its query
            else:
                if answer.status_code == NO_CONTENT or (optional and answer.status_code == NOT_FOUND):
                    return Page(None, None, address, shown)
                if answer.ok:
                    return self._page(answer, shown)
                trouble = f"{answer.status_code} {answer.reason}"
                if answer.status_code not in AGAIN:
                    raise SourceError(f"{policy.source}: {shown}: the server answered {trouble}")
                wait = _retry_after(answer.headers.get("Retry-After"))
            if attempt < policy.attempts:
                self._hold_back(wait, attempt, f"{shown}: {trouble}")
        raise SourceError(f"{policy.source}: {shown}: still {trouble} after {policy.attempts} attempts")

    def _hold_back(self, asked_for: float | None, attempt: int, trouble: str) -> None:
        policy = self._policy
        if asked_for is None:
            # Readers that failed together must not come back together.
            self._halt.pause(random.uniform(0.5, 1.0) * min(LONGEST_BACKOFF, FIRST_WAIT * 2 ** (attempt - 1)))  # noqa: S311
            return
        if asked_for > policy.longest_wait:
            raise SourceError(
                f"{policy.source}: {trouble}: the server asks for a wait of {asked_for:.0f} s, longest_wait is "
                f"{policy.longest_wait:g} s. Run the task again later, or raise longest_wait"
            )
        self._throttle.hold(asked_for)

    def _page(self, answer: Any, shown: str) -> Page:
        try:
            content = answer.json()
        except ValueError:
            kind = answer.headers.get("Content-Type", "no type")
            raise SourceError(f"{self._policy.source}: {shown}: the answer is no JSON ({kind})") from None
        return Page(content, answer.links.get("next", {}).get("url"), answer.url, shown)


def _retry_after(header: str | None) -> float | None:
    """Seconds that a ``Retry-After`` asks for; it holds a number or a date."""
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
