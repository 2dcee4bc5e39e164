# SPDX-License-Identifier: Apache-2.0
"""Which of the numbered pages are read: up to the end, in whatever way a server says that it is there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from airflow_parallel_provider.errors import SourceError
from airflow_parallel_provider.sources.http.page import Page, status_text

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
