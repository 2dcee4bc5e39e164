# SPDX-License-Identifier: Apache-2.0
"""Which of the numbered pages are read: up to the end, in whatever way a server says that it is there."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from airflow_parallel_provider.errors import SourceError
from airflow_parallel_provider.sources.http.page import Page, next_of, status_text, value_at

log = logging.getLogger(__name__)

REPEATED_PAGES = ("auto", "end", "error", "read")

END_STATUSES = (400, 404, 410, 416, 422)
"""What servers answer to the number of a page behind the last one."""

_NOT_FOUND = 404


@dataclass(frozen=True, slots=True)
class PageOrder:
    """Decides where numbered pages end."""

    source: str
    """Identity of the source, for error texts."""
    page_parameter: str
    repeated_page: str
    """One of ``REPEATED_PAGES``."""
    is_empty: Callable[[Page, bool], bool]
    """Whether a page has no items; the second argument says whether it is the first one."""

    def read(self, pages: Iterator[Page]) -> Iterator[Page]:
        """The pages up to the end.

        :raises SourceError: for an end that is none.
        """
        before: Page | None = None
        number = 0
        page = next(pages)
        while not self._is_end(page, pages, is_first=not number):
            number += 1
            following: Page | None = None
            if before is not None and self.repeated_page != "read" and page.content == before.content:
                following = next(pages)
                if self.repeated_page == "error" or following.content == page.content:
                    self._end_by_repetition(page, is_second=number == 2)  # the second page
                    return
            yield page
            before = page
            page = next(pages) if following is None else following

    def _is_end(self, page: Page, pages: Iterator[Page], *, is_first: bool) -> bool:
        """Whether a page is behind the last one. A status that may mean an error needs a second page that agrees."""
        if page.status is None:
            return self.is_empty(page, is_first)
        if page.status != _NOT_FOUND:
            following = next(pages)
            if following.status is None and not self.is_empty(following, False):
                raise SourceError(
                    f"{self.source}: {page.display_name}: the server responded with {status_text(page.status)}, but "
                    f"{following.display_name} exists, so this is not the end"
                )
            log.warning(
                "%s: %s: the server responded with %s, which is taken for the end of the pages. If it means a limit "
                "of the server, request smaller parts, or leave the status out of end_statuses=",
                self.source, page.display_name, status_text(page.status),
            )  # fmt: skip
        return True

    def _end_by_repetition(self, page: Page, *, is_second: bool) -> None:
        """The page came again, and once more. A server that ignores the number gives its first page forever."""
        if self.repeated_page == "error" or (is_second and self.repeated_page == "auto"):
            raise SourceError(
                f"{self.source}: {page.display_name} is the same as the page before: set page_parameter= (now "
                f"{self.page_parameter!r}) to the server's name for it. If the server repeats its last page, give "
                "repeated_page='end'; if its items are the same, repeated_page='read'"
            )
        log.info("%s: %s is the last page again: the end of the pages", self.source, page.display_name)


def chain(
    source: Any, follow: Callable[[str | None, int], Page], items_of: Callable[[Page, bool], list[Any]]
) -> Iterator[tuple[Page, list[Any]]]:
    """Pages each of which names the next one, with their items.

    :param source: an ``HttpPagesSource``.
    :param follow: reads the page with a cursor and a number.
    :param items_of: the items of a page, and whether it is the first one.
    :raises SourceError: for a page that names one of the pages before.
    """
    seen: set[str] = set()
    cursor: str | None = None
    before: Any = None
    for number in itertools.count(1):
        page = follow(cursor, number)
        seen.add(page.address)
        yield page, items_of(page, number == 1)
        own, cursor = {page.address, cursor}, next_of(page, source.next_cursor, source.pagination, source.identity())
        if source.has_more is not None and not value_at(page, source.has_more, absent_is_none=True):
            return
        if not cursor or (cursor in own and page.content != before):  # the last page may name itself
            return
        before = page.content
        if cursor in seen:
            text = f"{source.identity()}: {page.display_name} names a next page that has already been read"
            raise SourceError(text)
        seen.add(cursor)


def check_step(source: Any, page: Page, items: int, *, short: bool) -> None:
    """Check that offsets follow each other: a server that caps the size of its pages would leave items out.

    :param source: an ``HttpPagesSource``.
    :param short: whether the page before had fewer items than the step of the offset.
    :raises SourceError: if they do not.
    """
    if source.pagination == "offset" and (short or items > (source.page_size or items)):
        raise SourceError(
            f"{source.identity()}: {page.display_name}: pages do not have page_size={source.page_size} items, so "
            "offsets would skip items or read them twice: set size_parameter= (now "
            f"{source.size_parameter!r}) to the server's name for it, and page_size= to the size of its pages"
        )
