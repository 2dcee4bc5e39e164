# SPDX-License-Identifier: Apache-2.0
"""Incremental reading: only the rows whose cursor column is above what earlier loads into the same table have read.

::

    load 1      everything up to the highest cursor that there is: high
    load 2      high - lag < cursor <= the highest now; of a merge, ``>=`` where several rows may share one value
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from airflow_parallel_provider.checks import check_choice, check_text
from airflow_parallel_provider.engine.interfaces.records import STREAM, EarlierLoad, EarlierLoads
from airflow_parallel_provider.errors import PlanError, SourceError
from airflow_parallel_provider.values import typed_json

log = logging.getLogger(__name__)

NULLS = ("error", "load", "skip")
_LONGEST = 4000
_LONGEST_DATE = 10


@dataclass(frozen=True, slots=True)
class Cursor:
    """The arguments ``since``, ``since_lag`` and ``since_null`` of a source."""

    column: str
    lag: timedelta | int | float | Decimal | None
    nulls: str

    @property
    def again(self) -> str | None:
        """The argument by which rows come again; None: none do."""
        if self.lag is not None:
            return f"SqlSource.since_lag={self.lag!r}"
        return "SqlSource.since_null='load'" if self.nulls == "load" else None


def checked_cursor(since: Any, lag: Any, nulls: Any) -> Cursor | None:
    """The cursor that an author has declared.

    :raises PlanError: for a wrong argument.
    """
    check_text("SqlSource.since", since, optional=True)
    check_choice("SqlSource.since_null", nulls, NULLS)
    if since is None:
        for field, value, default in (("since_lag", lag, None), ("since_null", nulls, "error")):
            if value != default:
                raise PlanError(f"SqlSource.{field}", value, "it goes with since=; leave it out")
        return None
    is_number = isinstance(lag, (int, float, Decimal)) and not isinstance(lag, bool)
    if lag is not None and not isinstance(lag, timedelta) and not is_number:
        cure = "give a timedelta for a column of times or dates, a number for one of numbers, or leave it out"
        raise PlanError("SqlSource.since_lag", lag, cure)
    if lag is not None and (not lag >= type(lag)(0) or lag == float("inf")):
        raise PlanError("SqlSource.since_lag", lag, "give 0 or more: how much later than others a row may appear")
    return Cursor(since, lag, nulls)


@dataclass(frozen=True, slots=True)
class Window:
    """Which values of the cursor one load reads. None as a bound: there is none."""

    low: Any
    high: Any
    inclusive: bool
    """Whether rows with exactly the lower bound are read, too."""
    is_first: bool
    """Whether no load has been before, so that there is no lower bound."""

    def as_json(self) -> dict[str, Any]:
        """As plain JSON."""
        texts = {name: json.loads(_exact(value)) for name, value in (("low", self.low), ("high", self.high))}
        return {**texts, "inclusive": self.inclusive, "is_first": self.is_first}

    @classmethod
    def of_json(cls, state: Mapping[str, Any]) -> Window:
        """The inverse of :meth:`as_json`."""
        low, high = (typed_json.loads(json.dumps(state[name])) for name in ("low", "high"))
        return cls(low, high, bool(state["inclusive"]), bool(state["is_first"]))


def _exact(value: Any) -> str:
    text, exact = typed_json.dumps(value, _LONGEST)
    if not exact:
        kind = type(value).__name__
        raise PlanError("SqlSource.since", kind, "JSON cannot store values of this type; use another column")
    return text


def last_window(earlier: EarlierLoads, stream: str) -> Window | None:
    """The window of the last complete load of a stream; None: there has been none.

    :raises SourceError: if rows of a load that is not complete are in the table, and would be twice in it.
    """
    for load in earlier.newest_first():
        if load.state.get(STREAM) != stream or "window" not in load.state or load.is_own:
            continue
        if load.complete:
            return Window.of_json(load.state["window"])
        if load.committed and not earlier.merges:
            _refuse(load)
    return None


def above_bound(column: Any, low: Any, *, inclusive: bool) -> Any:
    """The condition that a cursor is above a bound."""
    return column >= low if inclusive else column > low


def within(column: Any, window: Window, cursor: Cursor) -> Any:
    """The condition that a cursor is in a window."""
    import sqlalchemy as sa

    read = sa.false() if window.high is None else column <= window.high  # there was no value when the load began
    if window.low is not None:
        read = sa.and_(read, above_bound(column, window.low, inclusive=window.inclusive))
    return sa.or_(read, column.is_(None)) if cursor.nulls == "load" else read


def _refuse(load: EarlierLoad) -> None:
    rows = sum(items for _, items in load.committed)
    raise SourceError(
        f"load {load.load_key!r} has committed {rows} items and is not complete, so since= would read their rows again "
        "and append them a second time. Let that load finish (clear its task, with SinkTable(on_rerun='resume')), or "
        "remove its rows and discard it, or use write_disposition='merge'"
    )


def lower_bound(before: Window | None, cursor: Cursor) -> Any:
    """Where the next load begins: what the one before has reached, less the lag.

    :raises PlanError: if the lag cannot be taken off a value of the column.
    """
    if before is None or before.high is None:
        return None
    if cursor.lag is None or not cursor.lag:
        return before.high
    try:
        return _less(before.high, cursor.lag)
    except (TypeError, ValueError, OverflowError):
        kind = type(before.high).__name__
        cure = f"it cannot be taken off a {kind}, which the column {cursor.column!r} has: {_CURES.get(kind, _OTHER)}"
        raise PlanError("SqlSource.since_lag", cursor.lag, cure) from None


_OTHER = "give a timedelta for times and dates, and a number for numbers"
_CURES = {"str": "a lag is for times, dates and numbers"}


def _less(high: Any, lag: Any) -> Any:
    if isinstance(high, str):  # a time of SQLite, which compares texts
        return _text_less(high, lag)
    if isinstance(high, Decimal) and isinstance(lag, float):
        return high - Decimal(repr(lag))
    if type(high) is date:  # whole days: a date less an hour is the day before
        return high - timedelta(days=-(-lag // timedelta(days=1)))
    return high - lag


def _text_less(high: str, lag: timedelta) -> str:
    """A time in the form of another one, rounded down; texts of one form are in the order of their times."""
    zone = next((high[at:] for at in range(_LONGEST_DATE, len(high)) if high[at] in "Z+-"), "")
    body = high[: len(high) - len(zone)]
    earlier = datetime.fromisoformat(body) - lag
    made = earlier.isoformat(body[_LONGEST_DATE : _LONGEST_DATE + 1] or " ", "microseconds")
    return made[: len(body)] + zone
