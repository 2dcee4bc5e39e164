# SPDX-License-Identifier: Apache-2.0
"""Reads the pages of an HTTP API: retries where they help, whole bodies only, JSON as it is meant."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import SourceError
from airflow_parallel_provider.sources.http.body import (
    ACCEPTED,
    CutOff,
    TooLarge,
    UnknownEncoding,
    charset_of,
    is_framed,
    read_body,
)
from airflow_parallel_provider.sources.http.page import Page, is_absolute, status_text
from airflow_parallel_provider.sources.http.sessions import Reply, Sessions, discard
from airflow_parallel_provider.sources.http.throttle import Throttle, retry_after
from airflow_parallel_provider.sources.read_ahead import ReadingStopped, StopReading
from airflow_parallel_provider.values import json_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_parallel_provider.sources.http.auth import Credentials
    from airflow_parallel_provider.sources.http.request_counts import RequestCounts
    from airflow_parallel_provider.sources.http.request_policy import RequestPolicy

_PASSING = frozenset({408, 425, 429})
_LASTING = frozenset({501, 505, 506, 508, 510, 511})
"""Statuses of a server's error that another request will get, too."""
_UNAUTHORIZED, _FORBIDDEN = 401, 403

_WITHOUT_CONTENT = frozenset({204, 205})

FIRST_WAIT, LONGEST_BACKOFF = 0.5, 30.0
"""Seconds between two requests for a page, if the server sends no ``Retry-After``."""


class PageReader:
    """Reads pages, one after the other.

    :param optional_behind: pages with a higher number need not exist; None: all must exist.
    """

    def __init__(
        self,
        policy: RequestPolicy,
        sessions: Sessions,
        halt: StopReading,
        throttle: Throttle,
        optional_behind: int | None,
        *,
        counts: RequestCounts,
        credentials: Credentials | None = None,
    ) -> None:
        self._policy = policy
        self._sessions = sessions
        self._halt = halt
        self._throttle = throttle
        self._optional_behind = optional_behind
        self._counts = counts
        self._credentials = credentials
        self._headers: Mapping[str, str] | None = None

    def __call__(self, place: int) -> Page:
        """The page with a number, or at an offset."""
        optional = self._optional_behind is not None and place > self._optional_behind
        name = f"{self._policy.pagination} {place}"
        query, body = self._policy.query_of(place), self._policy.body_of(place)
        return self._read(self._sessions.url, query, body, name, optional=optional)

    def follow(self, cursor: str | None, number: int) -> Page:
        """A page of a chain.

        :param cursor: as the page before it names it, or an address; None: the first page.
        :param number: its place in the chain, from 1, for error texts.
        :raises SourceError: if it is on another server, which must not see the credentials.
        """
        name = f"page {number}"
        is_place = self._policy.pagination == "cursor" and not is_absolute(cursor or "")
        if cursor is None or is_place:
            query, body = self._policy.query_of(cursor), self._policy.body_of(cursor)
            return self._read(self._sessions.url, query, body, name, optional=False)
        try:
            other = self._sessions.withheld_from(cursor)
        except ValueError:
            raise self._error(f"page {number - 1}", "names a next page whose address is none") from None
        if other is not None:
            raise self._error(
                f"page {number - 1}",
                f"names a next page on another server, {other}, which must not get the connection's login and headers: "
                f"give a connection with that address, or trusted_origins=['{other}'] if it may have them",
            )
        return self._read(cursor, {}, self._policy.body_of(None), name, optional=False)  # the address is complete

    def _error(self, name: str, problem: str) -> SourceError:
        return SourceError(f"{self._policy.source}: {name}: {problem}")

    def _authorize(self, name: str, *, again: bool = False) -> None:
        """Send the credentials of the moment.

        :param again: the server has refused those that were sent.
        """
        if self._credentials is None:
            return
        try:
            found = self._credentials.headers(self._headers if again else None)
        except SourceError as error:
            raise self._error(name, str(error)) from error
        if found is not self._headers:
            self._sessions.authorize(found)
            self._headers = found

    def _read(self, address: str, query: dict[str, Any], body: Any, name: str, *, optional: bool) -> Page:
        policy = self._policy
        problem, refused = "", False
        self._counts.page()
        for attempt in range(1, policy.attempts + 1):
            wait, status = None, None
            try:
                self._authorize(name)
                reply = self._request(address, query, body, name)
                status = reply.response.status_code
                if status == _UNAUTHORIZED and self._credentials is not None and not refused:
                    discard(reply.response)
                    refused = True
                    self._authorize(name, again=True)
                    reply = self._request(address, query, body, name)
                    status = reply.response.status_code
                if status not in _WITHOUT_CONTENT and 200 <= status < 300:
                    return self._page(reply, name)
                discard(reply.response)
                if status in _WITHOUT_CONTENT:
                    return Page(None, None, reply.address, name)
                if optional and status in policy.end_statuses:
                    return Page(None, None, reply.address, name, status)
                problem = status_text(status)
                wait = retry_after(reply.response.headers.get("Retry-After"))
                if not (may_pass(status) or (status == _FORBIDDEN and wait is not None)):
                    raise self._error(name, f"the server responded with {problem}{_without_credentials(reply)}")
            except CutOff as error:
                problem, status = str(error), None
            if attempt < policy.attempts:
                self._counts.repeat(status)
                self._back_off(wait, attempt, f"{name}: {problem}")
        raise self._error(name, f"still {problem} after {policy.attempts} attempts")

    def _request(self, address: str, query: dict[str, Any], body: Any, name: str) -> Reply:
        import requests

        try:
            return self._sessions.request(address, query, body)
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            raise CutOff(_cause_of(error)) from None
        except ReadingStopped:
            raise
        except SourceError as error:
            raise self._error(name, str(error)) from None
        except (requests.exceptions.InvalidHeader, requests.exceptions.ContentDecodingError) as error:
            raise self._error(name, f"the response cannot be read ({type(error).__name__})") from None
        except (requests.RequestException, ValueError) as error:  # its text contains the address with the query
            raise self._error(name, f"its address cannot be requested ({type(error).__name__})") from None

    def _back_off(self, wait: float | None, attempt: int, problem: str) -> None:
        policy = self._policy
        if wait is None:
            # With jitter: readers that failed together must not retry together.
            seconds = random.uniform(0.5, 1.0) * min(LONGEST_BACKOFF, FIRST_WAIT * 2 ** (attempt - 1))  # noqa: S311
            self._counts.wait(seconds)
            self._halt.pause(seconds)
            return
        if wait > policy.longest_wait:
            raise SourceError(
                f"{policy.source}: {problem}: the server asks for a wait of {wait:.0f} s, longest_wait is "
                f"{policy.longest_wait:g} s. Run the task again later, or raise longest_wait"
            )
        self._throttle.hold(wait)

    def _page(self, reply: Reply, name: str) -> Page:
        """The page of a response.

        :raises CutOff: if its body is not whole.
        """
        response, most = reply.response, self._policy.largest_page
        try:
            body = read_body(response, most)
        except TooLarge:
            cure = "request smaller pages (page_size=), or give largest_page= more bytes"
            raise self._error(name, f"it unpacks to more than largest_page={most:,} bytes: {cure}") from None
        except UnknownEncoding as error:
            cure = "leave Accept-Encoding out of the headers"
            raise self._error(name, f"it is packed with {str(error)!r:.40}, not with {ACCEPTED}: {cure}") from None
        finally:
            response.close()
        return Page(self._content(body, response, name), _next_link(response), reply.address, name)

    def _content(self, body: bytes, response: Any, name: str) -> Any:
        kind = _shown(response.headers.get("Content-Type", "no type"))
        framed = is_framed(response.headers)
        text = ""
        try:
            text = json_text.text_of(body, charset_of(response.headers))
            return json_text.loads(text)
        except json.JSONDecodeError as error:
            early = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
            where = f"{error.msg} in line {error.lineno}, column {error.colno}"
        except UnicodeDecodeError as error:
            early = error.end >= len(body)
            where = f"byte 0x{body[error.start]:02x} at {error.start} is not {error.encoding}"
        except RecursionError:
            raise self._error(name, "its JSON is nested too deeply") from None
        except ValueError as error:
            raise self._error(name, str(error)) from None
        if early and not framed:
            raise CutOff("the response ends within its JSON")
        raise self._error(name, f"the response is not JSON ({kind}): {where}")


def _next_link(response: Any) -> str | None:
    link: str | None = response.links.get("next", {}).get("url")
    return link


def _shown(header: str) -> str:
    """A header for people, whatever the server has written there."""
    return "".join(each if each.isprintable() else "?" for each in header[:60])


def may_pass(status: int) -> bool:
    """Whether another request may succeed later."""
    return status in _PASSING or (500 <= status < 600 and status not in _LASTING)


def _without_credentials(reply: Reply) -> str:
    if reply.withheld_from is None:
        return ""
    return (
        f". It was redirected to {reply.withheld_from}, another origin than that of the connection, so login and "
        f"headers were not sent: name that address in the connection, or give trusted_origins=['{reply.withheld_from}']"
    )


def _cause_of(error: BaseException) -> str:
    """The classes of an error and of the one at its root, whose texts contain the address with the query."""
    root: Any = error
    for _ in range(10):
        inner = [getattr(root, "reason", None), *reversed(getattr(root, "args", ())), root.__cause__]
        found = next((each for each in inner if isinstance(each, BaseException)), None)
        if found is None:
            break
        root = found
    names = [type(error).__name__, type(root).__name__]
    return names[0] if names[0] == names[1] else f"{names[0]} ({names[1]})"
