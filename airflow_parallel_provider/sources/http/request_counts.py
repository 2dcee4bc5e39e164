# SPDX-License-Identifier: Apache-2.0
"""What the requests of ``HttpPagesSource`` have met, for the report of the run."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

NO_ANSWER = "no answer"
"""Stands for a status where a connection failed or a response was cut off."""


class RequestCounts:
    """Counts of all readers together; from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pages = 0
        self._repeated: Counter[str] = Counter()
        self._waited = 0.0
        self._rate_limited = 0.0

    def page(self) -> None:
        """A page is about to be requested for the first time."""
        with self._lock:
            self._pages += 1

    def repeat(self, status: int | None) -> None:
        """A page is requested again.

        :param status: why; None: there was no whole answer.
        """
        with self._lock:
            self._repeated[NO_ANSWER if status is None else str(status)] += 1

    def wait(self, seconds: float, *, for_rate: bool = False) -> None:
        """A reader has waited.

        :param for_rate: for ``rate_limit``; else because the server asked for it, or before a page is requested again.
        """
        with self._lock:
            if for_rate:
                self._rate_limited += seconds
            else:
                self._waited += seconds

    @property
    def is_throttled(self) -> bool:
        """Whether the server has said that there are too many requests."""
        with self._lock:
            return self._repeated["429"] > 0

    def as_dict(self) -> dict[str, Any]:
        """For the report: seconds are those of all readers together."""
        with self._lock:
            counted: dict[str, Any] = {"pages_requested": self._pages, "retries": self._repeated.total()}
            if self._repeated:
                counted["retries_by_status"] = dict(sorted(self._repeated.items()))
                counted["seconds_waited"] = round(self._waited, 3)
            if self._rate_limited:
                counted["seconds_rate_limited"] = round(self._rate_limited, 3)
            return counted
