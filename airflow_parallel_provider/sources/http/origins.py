# SPDX-License-Identifier: Apache-2.0
"""Where a request goes: scheme, host and port. Credentials go to the origins only that the author named."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from airflow_parallel_provider.errors import PlanError

_DEFAULT_PORTS = {"http": 80, "https": 443}

_HARMLESS = frozenset({"accept", "accept-encoding", "accept-language", "connection", "user-agent"})
"""Headers that name no user: they go to every origin."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port of an address."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        """As an author writes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.port == _DEFAULT_PORTS[self.scheme] else f":{self.port}")


def origin_of(address: str) -> Origin:
    """The origin of an address.

    :raises ValueError: if it has none that HTTP knows.
    """
    parts = urlsplit(address)
    host = (parts.hostname or "").lower()
    port = parts.port
    if parts.scheme not in _DEFAULT_PORTS or not host or "\\" in parts.netloc:
        raise ValueError("an address of HTTP begins with http:// or https:// and a host")
    with suppress(ValueError):
        host = str(ipaddress.ip_address(host))
    if not host.isascii():
        host = host.encode("idna").decode("ascii")
    return Origin(parts.scheme, host, _DEFAULT_PORTS[parts.scheme] if port is None else port)


def check_trusted(field: str, given: object) -> tuple[str, ...]:
    """The origins that an author trusts.

    :raises PlanError: for anything but a list of origins.
    """
    if given is None:
        return ()
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
        raise PlanError(field, given, "give a list of origins, e.g. ['https://eu.example.com']")
    listed = tuple(given)
    for each in listed:
        try:
            origin_of(each)
            parts = urlsplit(each)
        except (ValueError, AttributeError, TypeError):
            parts = None
        if parts is None or parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
            cure = "an origin is a scheme, a host and a port if need be, without path or login: 'https://example.com'"
            raise PlanError(field, each, cure)
    return listed


def has_credentials(session: Any) -> bool:
    """Whether the requests of a session carry what another server must not see."""
    return bool(session.auth or session.cert or any(name.lower() not in _HARMLESS for name in session.headers))


def harmless_headers(headers: Mapping[str, Any]) -> dict[str, Any]:
    """The headers that any server may see."""
    return {name: value for name, value in headers.items() if name.lower() in _HARMLESS}
