# SPDX-License-Identifier: Apache-2.0
"""One page of an HTTP API, and what ``HttpPagesSource`` reads from it."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

from airflow_parallel_provider.checks import name_of
from airflow_parallel_provider.errors import SourceError
from airflow_parallel_provider.foreign.fork_guard import guarded


class NothingThere(SourceError):
    """A page has nothing at the place that the author named."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of the API."""

    content: Any
    """Its JSON; None: there is no such page."""
    next_link: str | None
    address: str
    display_name: str
    """``page 3`` or ``offset 200``, for error texts; without the query, which may contain a secret."""
    status: int | None = None
    """The status in place of a page that the server does not have; None: it has."""


def status_text(code: int) -> str:
    """A status for people; the words of the server itself may be anything."""
    return f"{code} {http.client.responses.get(code, '')}".rstrip()


def value_at(page: Page, place: str | Callable[[Any], Any], *, absent_is_none: bool = False) -> Any:
    """The value at a place in a page.

    :param place: names with dots, or a function of the page's JSON.
    :param absent_is_none: return None when the page has nothing at that place.
    :raises NothingThere: when the page has nothing at that place.
    :raises SourceError: when the function fails.
    """
    if callable(place):
        try:
            return guarded(place)(page.content)
        except Exception as error:
            text = f"{page.display_name}: {name_of(place)} failed ({type(error).__name__}: {error})"
            raise SourceError(text) from error
    found = page.content
    if found is None:
        return None
    names = place.split(".")
    for at, name in enumerate(names):
        rest = ".".join(names[at:])
        if isinstance(found, Mapping) and rest in found:  # a name may have dots in it: @odata.nextLink
            return found[rest]
        if not isinstance(found, Mapping) or name not in found:
            if absent_is_none:
                return None
            raise NothingThere(f"{page.display_name} has nothing at {place!r}")
        found = found[name]
    return found


def is_absolute(text: str) -> bool:
    """Whether a text is an address with its server."""
    return text.lower().startswith(("http://", "https://"))


def is_address(text: str, page: Page) -> bool:
    """Whether a cursor is the address of the next page. A cursor in base64 may also begin with a slash."""
    own_path = urlsplit(page.address).path
    return is_absolute(text) or (text.startswith("/") and ("?" in text or text.startswith(own_path)))


def next_of(page: Page, place: str | Callable[[Any], Any] | None, pagination: str, source: str) -> str:
    """The cursor or address of the page behind one; empty: there is none.

    :param place: where a page holds it; None: in its header ``Link``.
    :param source: identity of the source, for error texts.
    :raises SourceError: for an address that is none.
    """
    found: Any = page.next_link if place is None else value_at(page, place, absent_is_none=True)
    if isinstance(found, Mapping):  # JSON:API allows an object in the place of an address
        found = found.get("href")
    text = "" if found is None or found is False else str(found)
    if pagination == "cursor" and not is_address(text, page):
        return text
    try:
        return urljoin(page.address, text) if text else ""
    except ValueError:
        raise SourceError(f"{source}: {page.display_name}: names a next page whose address is none") from None


def require_no_errors(page: Page, source: str) -> None:
    """Check a page of GraphQL, which names errors with status 200, and may give a part of the items beside them.

    :raises SourceError: if there are some.
    """
    errors = page.content.get("errors") if isinstance(page.content, Mapping) else None
    if errors:
        count = len(errors) if isinstance(errors, list) else 1
        raise SourceError(f"{source}: {page.display_name}: the response has {count} errors")


def items_of(
    page: Page, place: str | Callable[[Any], Any] | None, source: str, *, may_lack: bool, first: bool
) -> list[Any]:
    """The items of a page.

    :param place: where it has them; None: the page is the list.
    :param source: identity of the source, for error texts.
    :param may_lack: whether a page without them is an empty one.
    :param first: whether it is the first page.
    :raises SourceError: if there is anything else than a list.
    """
    if page.content is None:  # no such page, or one without content
        return []
    try:
        found = page.content if place is None else value_at(page, place, absent_is_none=may_lack)
    except NothingThere as error:
        cure = "" if first else ": if that means the end of the pages, give missing_items='end'"
        raise SourceError(f"{source}: {error}{cure}") from None
    if found is None:  # many servers return null for an empty list
        return []
    if not isinstance(found, list):
        where = "the response" if place is None else f"items={place!r}"
        kind = type(found).__name__
        raise SourceError(f"{source}: {page.display_name}: {where} is a {kind}, not a list of items")
    return found
