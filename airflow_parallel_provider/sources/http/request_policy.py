# SPDX-License-Identifier: Apache-2.0
"""How ``HttpPagesSource`` requests a page, as a value that does not change during a run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from json import dumps
from typing import Any

from airflow_parallel_provider.checks import (
    check_choice,
    check_mapping,
    check_seconds,
    check_text,
    check_whole,
    name_of,
)
from airflow_parallel_provider.errors import PlanError
from airflow_parallel_provider.sources.changed_since import put_into
from airflow_parallel_provider.sources.http.page_order import END_STATUSES, REPEATED_PAGES


@dataclass(frozen=True, slots=True)
class RequestPolicy:
    """Where pages are, what each request carries, and how patient the client is. All templates are rendered."""

    source: str
    """Identity of the source, for error texts."""
    conn_id: str
    endpoint: str
    headers: Mapping[str, str]
    parameters: Mapping[str, Any]
    pagination: str
    page_parameter: str
    page_size: int | None
    """None: the parameter is not sent."""
    size_parameter: str
    json: Mapping[str, Any] | None
    """The body of a POST; None: a GET."""
    rate_limit: float | None
    """Most requests per second, of all readers together; None: no limit."""
    attempts: int
    """How often a page is requested before the run fails."""
    longest_wait: float
    """Seconds; a longer ``Retry-After`` fails the run."""
    timeout: float
    """Seconds to wait for a response."""
    largest_page: int
    """Bytes of an unpacked page."""
    end_statuses: frozenset[int]
    """Statuses of a page behind the last one."""
    trusted_origins: tuple[str, ...]
    """Other origins than the connection's own that may get its credentials."""

    def query_of(self, place: Any) -> dict[str, Any]:
        """The query of one page.

        :param place: the page number, the offset or the cursor; None: the first page of a chain of pages.
        """
        return {**self.parameters, **({} if self.json is not None else self._paging(place))}

    def body_of(self, place: Any) -> dict[str, Any] | None:
        """The body of the request for one page: the page's number or cursor is in it, at a name with dots."""
        if self.json is None:
            return None
        return put_into(self.json, self._paging(place))

    def with_values(self, values: Mapping[str, Any]) -> RequestPolicy:
        """The same with more query parameters, or, for a POST, more in its body."""
        if self.json is not None:
            return replace(self, json=put_into(self.json, values))
        return replace(self, parameters={**self.parameters, **values})

    def _paging(self, place: Any) -> dict[str, Any]:
        size = {} if self.page_size is None else {self.size_parameter: self.page_size}
        return size if place is None else {**size, self.page_parameter: place}


def identity_of(source: Any) -> str:
    """Connection and endpoint of an ``HttpPagesSource``, and a digest of what else decides on its items."""
    places = [each if isinstance(each, str) else name_of(each) for each in (source.items, source.next_cursor)]
    asked = [source.parameters, source.page_size, source.page_parameter, source.first_page]
    digested: list[Any] = [source.pagination, *asked, *places, *([] if source.json is None else [source.json])]
    if source.changed is not None:
        digested += [source.changed.since, source.changed.until]
    digest = hashlib.blake2b(dumps(digested, default=str).encode(), digest_size=6).hexdigest()
    return f"pages of {source.conn_id}/{source.endpoint.lstrip('/')} {digest}"


def policy_of(source: Any) -> RequestPolicy:
    """The policy of an ``HttpPagesSource``."""
    given = {name: getattr(source, name) for name in RequestPolicy.__dataclass_fields__ if name != "source"}
    given |= {"headers": source.headers or {}, "parameters": source.parameters or {}}
    return RequestPolicy(source=source.identity(), **given)


def check_end_statuses(given: Any, pagination: str) -> frozenset[int]:
    """The statuses that end numbered pages.

    :raises PlanError: for anything but statuses of a client's error.
    """
    field = "HttpPagesSource.end_statuses"
    if given is None:
        return frozenset(END_STATUSES)
    if pagination not in ("page", "offset"):
        raise PlanError(field, given, "only pagination='page' and 'offset' use it; leave it out")
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
        raise PlanError(field, given, "give a list of statuses, e.g. [404, 416]; [] for none")
    for status in (listed := list(given)):
        check_whole(field, status, 400, 499)
        if status in (401, 403, 407, 408, 425, 429):
            raise PlanError(field, status, "this status never means that there are no more pages: leave it out")
    return frozenset(listed)


def check_body(json: Any, page_parameter: str, size_parameter: str, page_size: Any) -> None:
    """Check that the number or cursor of a page has a place in the body of a POST.

    :raises PlanError: naming the field.
    """
    check_mapping("HttpPagesSource.json", json)
    if json is None:
        return
    sized = {} if page_size is None else {"size_parameter": size_parameter}
    for field, place in ({"page_parameter": page_parameter} | sized).items():
        found: Any = json
        for name in place.split(".")[:-1]:
            found = found.get(name, {}) if isinstance(found, Mapping) else None
        if not isinstance(found, Mapping):
            raise PlanError(f"HttpPagesSource.{field}", place, "json= has another value there than an object")


def check_paging(pagination: str, page_size: Any, next_cursor: Any, has_more: Any, rate_limit: Any) -> None:
    """Refuse arguments of ``HttpPagesSource`` that do not fit together.

    :raises PlanError: naming the field.
    """
    if page_size is not None:
        check_whole("HttpPagesSource.page_size", page_size, 1, 1_000_000)
    if pagination == "offset" and page_size is None:
        raise PlanError("HttpPagesSource.page_size", None, "give a page size: offsets are its multiples")
    if pagination == "cursor" and next_cursor is None:
        cure = "give the place of the next cursor in a page, e.g. next_cursor='meta.next'"
        raise PlanError("HttpPagesSource.next_cursor", None, cure)
    if has_more is not None and pagination != "cursor":
        raise PlanError("HttpPagesSource.has_more", has_more, "only pagination='cursor' uses it; leave it out")
    if pagination != "cursor" and next_cursor is not None:
        cure = "only pagination='cursor' uses it; write that, or leave it out"
        raise PlanError("HttpPagesSource.next_cursor", next_cursor, cure)
    if rate_limit is not None:
        check_seconds("HttpPagesSource.rate_limit", rate_limit, least=0.001)


def check_places(**places: Any) -> None:
    """Check what says where a page has its items, its next cursor, and whether there is one.

    :raises PlanError: for anything but a text or a function.
    """
    for field, value in places.items():
        if value is not None and not callable(value):
            check_text(f"HttpPagesSource.{field}", value)


def check_ends(pagination: str, items: Any, repeated_page: str, missing_items: str) -> None:
    """Check the options that say where pages end.

    :raises PlanError: naming the field; also for one that the other options leave without a use.
    """
    check_choice("HttpPagesSource.repeated_page", repeated_page, REPEATED_PAGES)
    check_choice("HttpPagesSource.missing_items", missing_items, ("error", "end"))
    if pagination not in ("page", "offset") and repeated_page != "auto":
        cure = "only pagination='page' and 'offset' use it; leave it out"
        raise PlanError("HttpPagesSource.repeated_page", repeated_page, cure)
    if missing_items == "end" and not isinstance(items, str):
        cure = "it is about the names in items=, e.g. items='data'; a function returns [] for a page without items"
        raise PlanError("HttpPagesSource.missing_items", missing_items, cure)
