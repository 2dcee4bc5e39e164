# SPDX-License-Identifier: Apache-2.0
"""Credentials that expire: headers made by a function, or by OAuth 2.0 with the credentials of a client."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_parallel_provider.checks import check_choice, check_text
from airflow_parallel_provider.errors import PlanError, SourceError

_EARLY = 30.0
"""Seconds before its end at which a token is replaced."""
_TIMEOUT = 60.0
_OK = 200


@dataclass(frozen=True, slots=True)
class OAuthClientCredentials:
    """Get a token with the credentials of a client (RFC 6749, 4.4), and a new one before it expires.

    Login and password of the Airflow connection are the client's id and secret; they go to ``token_url`` only.

    :param token_url: where a token is requested.
    :param scope: what it is for; None: not sent.
    :param parameters: further fields of the request, e.g. ``{"audience": "..."}``.
    :param send: how the id and secret are sent: ``"basic"``: as a login; ``"body"``: as fields.
    """

    token_url: str
    scope: str | None = None
    parameters: Mapping[str, str] | None = None
    send: str = "basic"

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_text("OAuthClientCredentials.token_url", self.token_url)
        if not self.token_url.lower().startswith(("https://", "http://")):
            raise PlanError("OAuthClientCredentials.token_url", self.token_url, "give an address with https://")
        check_text("OAuthClientCredentials.scope", self.scope, optional=True)
        check_choice("OAuthClientCredentials.send", self.send, ("basic", "body"))


class Credentials:
    """The headers of all readers; they are made anew when they expire, once for all.

    :param make: gives the headers, and after how many seconds they expire; None: unknown.
    """

    def __init__(self, make: Callable[[], tuple[Mapping[str, str], float | None]]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._headers: Mapping[str, str] = {}
        self._ends = float("-inf")

    def headers(self, refused: Mapping[str, str] | None = None) -> Mapping[str, str]:
        """The headers.

        :param refused: those that the server does not accept; unless they have been replaced since, they are now.
        """
        with self._lock:
            if time.monotonic() >= self._ends or (refused is not None and refused is self._headers):
                self._headers, seconds = self._make()
                self._ends = float("inf") if seconds is None else time.monotonic() + max(1.0, seconds - _EARLY)
            return self._headers


def check_auth(given: Any) -> None:
    """Check what an author gave as ``auth``.

    :raises PlanError: for anything but a function or :class:`OAuthClientCredentials`.
    """
    if given is not None and not callable(given) and not isinstance(given, OAuthClientCredentials):
        cure = "give a function that returns headers, or OAuthClientCredentials(...)"
        raise PlanError("HttpPagesSource.auth", type(given).__name__, cure)


def credentials_of(given: Any, login: str | None, password: str | None) -> Credentials | None:
    """The credentials of a source; None: those of the connection do.

    :param given: ``auth``, checked.
    """
    if given is None:
        return None
    if isinstance(given, OAuthClientCredentials):
        return Credentials(lambda: _requested(given, login or "", password or ""))
    return Credentials(lambda: (_called(given), None))


def _called(function: Callable[[], Any]) -> Mapping[str, str]:
    try:
        found = function()
    except Exception as error:
        raise SourceError(f"auth= failed ({type(error).__name__}: {error})") from error
    if not isinstance(found, Mapping):
        raise SourceError(f"auth= returned a {type(found).__name__}, not a dict of headers")
    return dict(found)


def _requested(given: OAuthClientCredentials, login: str, password: str) -> tuple[Mapping[str, str], float | None]:
    import requests

    fields = {"grant_type": "client_credentials", **(given.parameters or {})}
    if given.scope is not None:
        fields["scope"] = given.scope
    in_body = given.send == "body"
    if in_body:
        fields |= {"client_id": login, "client_secret": password}
    auth = None if in_body else (login, password)
    try:
        response = requests.post(given.token_url, fields, auth=auth, timeout=_TIMEOUT, allow_redirects=False)
        found = response.json() if response.status_code == _OK else {}
        token, seconds = found.get("access_token"), found.get("expires_in")
        seconds = None if seconds is None else float(seconds)
    except (requests.RequestException, ValueError, AttributeError, TypeError) as error:
        raise SourceError(f"no token from {given.token_url}: {type(error).__name__}") from None
    if not isinstance(token, str):
        raise SourceError(f"no token from {given.token_url}: status {response.status_code}, no access_token")
    return {"Authorization": f"Bearer {token}"}, seconds
