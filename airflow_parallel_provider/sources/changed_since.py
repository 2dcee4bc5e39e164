# SPDX-License-Identifier: Apache-2.0
"""Incremental requests: only what has changed since the last complete load into the same table began."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_parallel_provider.checks import check_text
from airflow_parallel_provider.engine.interfaces.records import STREAM, EarlierLoads
from airflow_parallel_provider.errors import PlanError

ISO, EPOCH = "iso", "epoch"


@dataclass(frozen=True, slots=True)
class ChangedSince:
    """The arguments ``since``, ``until``, ``since_lag`` and ``since_format`` of a source."""

    since: str
    until: str | None
    lag: timedelta
    format: str

    @classmethod
    def checked(cls, field: str, since: Any, until: Any, lag: Any, form: Any) -> ChangedSince | None:
        """What an author has declared; None: nothing.

        :param field: the class of the source, for error texts.
        :raises PlanError: for a wrong argument.
        """
        check_text(f"{field}.since", since, optional=True)
        check_text(f"{field}.until", until, optional=True)
        check_text(f"{field}.since_format", form)
        if not isinstance(lag, timedelta) or lag < timedelta(0):
            raise PlanError(f"{field}.since_lag", lag, "give a timedelta of 0 or more: how far clocks may be apart")
        if since is None:
            if until is not None:
                raise PlanError(f"{field}.until", until, "it goes with since=; write it into parameters= otherwise")
            return None
        if since == until:
            raise PlanError(f"{field}.until", until, "since= has the same name: give the parameter for the upper bound")
        if form not in (ISO, EPOCH) and "%" not in form:
            cure = "give 'iso', 'epoch' (seconds since 1970), or a format of strftime: '%Y-%m-%d %H:%M:%S'"
            raise PlanError(f"{field}.since_format", form, cure)
        return cls(since, until, lag, form)

    def values(self, window: Mapping[str, Any]) -> dict[str, Any]:
        """The values of the parameters.

        :param window: of this load, see :meth:`window`.
        """
        given: dict[str, Any] = {}
        if window["low"] is not None:
            given[self.since] = self._text(datetime.fromisoformat(window["low"]) - self.lag)
        if self.until is not None:
            given[self.until] = self._text(datetime.fromisoformat(window["high"]))
        return given

    def _text(self, moment: datetime) -> str | int:
        if self.format == EPOCH:
            return int(moment.timestamp())
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ" if self.format == ISO else self.format)


def window(earlier: EarlierLoads, stream: str, now: datetime | None = None) -> dict[str, Any]:
    """From when the last complete load of a stream began, if there is one, to now: the seconds in UTC, as JSON."""
    moment = (now or datetime.now(UTC)).replace(microsecond=0)
    for load in earlier.newest_first():
        if load.state.get(STREAM) == stream and load.complete and not load.is_own:
            return {"low": load.state["window"]["high"], "high": moment.isoformat()}
    return {"low": None, "high": moment.isoformat()}


def put_into(body: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a body with values at names with dots."""
    made = copy.deepcopy(dict(body))
    for name, value in values.items():
        *folders, last = name.split(".")
        found = made
        for folder in folders:
            found = found.setdefault(folder, {})
        found[last] = value
    return made
