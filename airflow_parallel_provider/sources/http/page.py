"""One page of an HTTP API, and what ``HttpPagesSource`` reads from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from airflow_parallel_provider.checks import name_of
from airflow_parallel_provider.errors import SourceError


@dataclass(frozen=True, slots=True)
class Page:
    """One page of the API."""

    content: Any
    """Its JSON; None: there is no such page."""
    next_link: str | None
    address: str
    display_name: str
    """For error texts; without the query, which may contain a secret."""


def value_at(page: Page, place: str | Callable[[Any], Any], *, absent_is_none: bool = False) -> Any:
    """The value at a place in a page.

    :param place: names with dots, or a function of the page's JSON.
    :param absent_is_none: return None when the page has nothing at that place.
    :raises SourceError: when the page has nothing at that place, or the function fails.
    """
    if callable(place):
        try:
            return place(page.content)
        except Exception as error:
            text = f"{page.display_name}: {name_of(place)} failed ({type(error).__name__}: {error})"
            raise SourceError(text) from error
    found = page.content
    if found is None:
        return None
    for name in place.split("."):
        if not isinstance(found, Mapping) or name not in found:
            if absent_is_none:
                return None
            raise SourceError(f"{page.display_name} has nothing at {place!r}")
        found = found[name]
    return found


def is_address(text: str, page: Page) -> bool:
    """Whether a cursor is the address of the next page. A cursor in base64 may also begin with a slash."""
    own_path = urlsplit(page.address).path
    return text.startswith(("http://", "https://")) or (
        text.startswith("/") and ("?" in text or text.startswith(own_path))
    )
