"""How ``HttpPagesSource`` requests a page, as a value that does not change during a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


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
    rate_limit: float | None
    """Most requests per second, of all readers together; None: no limit."""
    attempts: int
    """How often a page is requested before the run fails."""
    longest_wait: float
    """Seconds; a longer ``Retry-After`` fails the run."""
    timeout: float
    """Seconds to wait for a response."""

    def query_of(self, place: Any) -> dict[str, Any]:
        """The query of one page.

        :param place: the page number, the offset or the cursor; None: the first page of a chain of pages.
        """
        query = dict(self.parameters)
        if self.page_size is not None:
            query[self.size_parameter] = self.page_size
        if place is not None:
            query[self.page_parameter] = place
        return query
