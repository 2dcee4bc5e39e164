# SPDX-License-Identifier: Apache-2.0
"""The sessions of one reader: one with the credentials of the connection, one without for all other servers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit, urlunsplit

from airflow_parallel_provider.errors import PlanError, SourceError
from airflow_parallel_provider.sources.http.body import ACCEPTED
from airflow_parallel_provider.sources.http.origins import Origin, harmless_headers, has_credentials, origin_of

_REDIRECTS = frozenset({300, 301, 302, 303, 307, 308})

_UNREAD = 64 << 10
"""Most bytes of an unwanted body that are read, so that its connection can be used again."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The last response of a chain of redirects; its body is not yet read."""

    response: Any
    address: str
    withheld_from: Origin | None
    """The origin that got no credentials, although there are some."""


class Sessions:
    """Sends requests, and follows redirects.

    :param session: as Airflow's hook makes it: with login, headers and certificate.
    :param url: the address of the endpoint; its origin may see them.
    :param trusted: other origins that may see them.
    :param timeout: seconds to wait for a response.
    :param enter: called before each request.

    A redirect to another origin is followed without login, headers and cookies. What comes behind it in the same chain
    goes without them, too, also back on the first origin: browsers, requests and Go do the same.
    """

    def __init__(
        self, session: Any, url: str, trusted: Iterable[str], timeout: float, enter: Callable[[], None]
    ) -> None:
        import requests
        from requests.utils import get_auth_from_url

        login = get_auth_from_url(url)
        if any(login) and session.auth is None:
            session.auth = login
        self._own = session
        self._foreign = requests.Session()
        _prepare_sessions(self._own, self._foreign)
        self.url = _without_login(url)
        origin = origin_of(_prepared(self.url))
        self._trusted = frozenset({origin, *(origin_of(_prepared(each)) for each in trusted)})
        self._timeout = timeout
        self._enter = enter
        if origin.scheme == "https" and any(each.scheme == "http" for each in self._trusted):
            cure = "the connection is an https one, whose credentials never go over http: leave such origins out"
            raise PlanError("HttpPagesSource.trusted_origins", list(trusted), cure)

    def close(self) -> None:
        """Close all connections."""
        self._own.close()
        self._foreign.close()

    def withheld_from(self, address: str) -> Origin | None:
        """The origin of an address, if the credentials may not go there; None also if there are none.

        :raises ValueError: if it is no address of HTTP.
        """
        origin = origin_of(_prepared(address))
        return origin if origin not in self._trusted and has_credentials(self._own) else None

    def authorize(self, headers: Mapping[str, str]) -> None:
        """Send other headers from now on, in the place of a login if they have one."""
        self._own.headers.update(headers)
        if any(name.lower() == "authorization" for name in headers):
            self._own.auth = _unchanged  # a login would replace the header

    def request(self, address: str, query: Mapping[str, Any], body: Any = None) -> Reply:
        """Request an address.

        :param body: JSON for a POST; None: a GET.
        :raises SourceError: for more redirects than the connection allows, and for a redirect of a POST.
        :raises ValueError: for an address that is none; also the errors of requests.
        """
        trusted = True
        withheld: Origin | None = None
        for _ in range(int(self._own.max_redirects) + 1):
            whole = _without_login(_prepared(address, query))
            trusted = trusted and origin_of(whole) in self._trusted
            session = self._own if trusted else self._foreign
            if not trusted and withheld is None and has_credentials(self._own):
                withheld = origin_of(whole)
            self._enter()
            method = "GET" if body is None else "POST"
            response = session.request(
                method, whole, json=body, timeout=self._timeout, stream=True, allow_redirects=False
            )
            if response.status_code not in _REDIRECTS or "Location" not in response.headers:
                return Reply(response, whole, withheld)
            if body is not None:
                discard(response)
                raise SourceError("a request with a body is redirected: name the address itself in the connection")
            address, query = urljoin(whole, _text_of(response.headers["Location"])), {}
            discard(response)
        raise SourceError(f"more than {self._own.max_redirects} redirects")


def discard(response: Any) -> None:
    """Do without a body, whatever its size."""
    from urllib3.exceptions import HTTPError

    with suppress(HTTPError, OSError, ValueError):
        response.raw.read(_UNREAD, decode_content=False)
    response.close()


def _prepare_sessions(own: Any, foreign: Any) -> None:
    from http.cookiejar import DefaultCookiePolicy

    from requests.utils import DEFAULT_ACCEPT_ENCODING

    if own.headers.get("Accept-Encoding") == DEFAULT_ACCEPT_ENCODING:  # it depends on the installed libraries
        own.headers["Accept-Encoding"] = ACCEPTED
    foreign.headers.update(harmless_headers(own.headers))
    foreign.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
    foreign.auth = _unchanged  # else requests looks for a login in ~/.netrc
    foreign.proxies, foreign.verify, foreign.trust_env = own.proxies, own.verify, own.trust_env
    foreign.adapters = own.adapters
    for session in (own, foreign):
        session.get_redirect_target = lambda _response: None  # requests would read the whole body of each redirect


def _unchanged(request: Any) -> Any:
    return request


def _text_of(location: str) -> str:
    """A header as its server wrote it: Python decodes headers as Latin-1."""
    try:
        return location.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return location


def _prepared(address: str, query: Mapping[str, Any] | None = None) -> str:
    """An address as it is requested: the parser that decides on its host is that of requests."""
    import requests

    prepared = requests.PreparedRequest()
    prepared.prepare_url(address, dict(query or {}))
    return str(prepared.url)


def _without_login(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
