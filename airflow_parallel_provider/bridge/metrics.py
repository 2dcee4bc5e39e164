"""Live metrics: what the engine tells every second becomes an XCom every few seconds and a log line now and then."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from airflow_parallel_provider.monitoring.forecast import forecast
from airflow_parallel_provider.monitoring.history import History
from airflow_parallel_provider.monitoring.json_values import json_size, to_json_value
from airflow_parallel_provider.monitoring.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from airflow_parallel_provider.bridge.identity import RunIdentity
    from airflow_parallel_provider.bridge.publisher import Publisher

METRICS_KEY: Final = "pipeline_metrics"
"""XCom key of the snapshot; on Airflow 3.3 and later also, with ``/try-<n>`` behind it, key in the task state store."""
SIZE_LIMIT: Final = 30_000
"""Bytes of one snapshot as JSON: it is written every few seconds and read by every open page."""
OBSERVE_EVERY: Final = 1.0
"""Seconds between two calls of :meth:`LiveMetrics.observe`."""
_FAST, _SLOW, _FAST_FOR, _LOG_EVERY, _LOOK_AHEAD_EVERY = 2.0, 5.0, 60.0, 10.0, 30.0
_STORE_EVERY = 10.0
"""The task state store is for tries that are over: whoever watches a run looks at the XCom."""
_PAUSE_PER_SECOND, _SLOWEST = 20, 300.0
"""An API server that takes its time is given more: the line to it is there for what workers ask, and for the heartbeat,
nineteen twentieths of the time at least."""
_WORKERS, _DECISIONS = 24, 40
"""Workers and changes of their number in one snapshot; the report has more."""

log = logging.getLogger(__name__)


class LiveMetrics:
    """Follows one run. All methods run on the task's main thread.

    :param publisher: writes values where people see them; never raises.
    :param identity: which try this is.
    :param facts: further plain values for each snapshot (where the rows go, the load key).
    :param clock: seconds; only tests give another one.
    :param push_every: seconds between two snapshots at least.
    """

    def __init__(
        self,
        publisher: Publisher,
        identity: RunIdentity,
        facts: Mapping[str, Any],
        clock: Callable[[], float] = time.monotonic,
        push_every: float = 0.0,
    ) -> None:
        self._push_every = push_every
        self._publisher = publisher
        self._identity = identity
        self._facts = dict(facts)
        self._clock = clock
        self._began = clock()
        self._logged = self._began
        self._stored = -math.inf
        self._published = -math.inf  # the first snapshot goes out at once: a page that is open shows that it has begun
        self._history = History()
        self._progress = Progress()
        self._last: Mapping[str, Any] = {}
        self._ended = False
        self._cost = 0.0
        self._outlook: dict[str, Any] | None = None
        self._looked_ahead = self._began

    def observe(self, snapshot: Mapping[str, Any]) -> None:
        """Take a snapshot of the engine; publish and log when it is time."""
        with self._counted():
            self._observe(snapshot)

    def _observe(self, snapshot: Mapping[str, Any]) -> None:
        self._last = snapshot
        self._progress.add(snapshot)
        if snapshot.get("final"):
            return  # end() publishes it, once the state is known
        self._history.add(snapshot)
        now = self._clock()
        usual = _FAST if now - self._began < _FAST_FOR else _SLOW
        pause = min(_SLOWEST, _PAUSE_PER_SECOND * self._publisher.seconds)
        if self._publisher.idle and now - self._published >= max(usual, pause, self._push_every):
            self._published = now
            self._publish(snapshot, final=False)
        if now - self._logged >= _LOG_EVERY:
            self._logged = now
            log.info("%s", self._progress.line(snapshot))

    def end(self, outcome: Mapping[str, Any] | None, state: str) -> None:
        """Publish the last snapshot; only the first call does anything.

        :param outcome: the report as a dict; None where the run was torn down before there was one.
        :param state: how it ended; a report's own state wins.
        """
        if self._ended:
            return
        self._ended = True
        try:
            with self._counted():
                last = {**self._last, "state": state, **(outcome or {})}
                self._history.add(last)
                self._publish(last, final=True)
        except Exception:  # figures about the work are not the work (the engine guards observe() in the same way)
            log.warning("The last metrics could not be written", exc_info=True)

    def _publish(self, snapshot: Mapping[str, Any], *, final: bool) -> None:
        self._look_ahead(snapshot, final=final)
        value = {
            "format": 1,
            "final": final,
            "attempt": self._identity.attempt,
            "updated_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "recent_items_per_second": round(self._progress.rate, 1),
            "seconds_left": None if final else self._progress.seconds_left(snapshot),
            "outlook": self._outlook,
            "metrics_cpu_seconds": round(self._cost + self._publisher.cpu_seconds, 3),
            **self._facts,
            **{name: each for name, each in snapshot.items() if name not in ("final", "series")},
        }
        value["workers"] = list(value.get("workers") or ())[:_WORKERS]
        value["decisions"] = list(value.get("decisions") or ())[-_DECISIONS:]
        bounded = fit(value, self._history)
        self._publisher.push(METRICS_KEY, bounded, last=final)
        if final or self._clock() - self._stored >= _STORE_EVERY:
            self._stored = self._clock()
            key = f"{METRICS_KEY}/try-{self._identity.attempt}"
            self._publisher.store(key, without_items(bounded), last=final)

    def _look_ahead(self, snapshot: Mapping[str, Any], *, final: bool) -> None:
        if not final and self._clock() - self._looked_ahead < _LOOK_AHEAD_EVERY:
            return
        self._looked_ahead = self._clock()
        try:
            self._outlook = forecast(snapshot)
        except Exception:  # a prediction is the last thing a run may fail from
            log.debug("No outlook", exc_info=True)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        """Add up the CPU time that all this takes: it is in the snapshot, for everybody to see."""
        began = time.thread_time()
        try:
            yield
        finally:
            self._cost += time.thread_time() - began


def without_items(value: dict[str, Any]) -> dict[str, Any]:
    """``value`` without the samples of failed items.

    The task state store may be read by everybody who may see task instances. Items are data, and data in XComs is for
    those who may read XComs.
    """
    failures = []
    for cause in value.get("failures", ()):
        sample = cause.get("sample")
        position = sample.get("position") if isinstance(sample, dict) else None
        failures.append({**cause, "sample": {"position": position}})
    return {**value, "failures": failures} if failures else value


def fit(value: Mapping[str, Any], history: History, limit: int = SIZE_LIMIT) -> dict[str, Any]:
    """``value`` with the history as plain JSON of at most ``limit`` bytes.

    What gives way first is the resolution of the history, then texts, then the rarer causes; the figures come last.
    """
    plain: dict[str, Any] = to_json_value(dict(value))
    while json_size({**plain, "history": history.as_dict()}) > limit and len(history) > 8:
        history.halve()
    plain["history"] = history.as_dict()
    for texts, causes, stages in ((500, 50, 200), (200, 20, 100), (80, 5, 50)):
        if json_size(plain) <= limit:
            return plain
        plain = to_json_value(plain, text_limit=texts)
        plain["failures"] = plain.get("failures", [])[:causes]
        plain["stages"] = plain.get("stages", [])[:stages]
        plain["history"] = {}
    if json_size(plain) <= limit:
        return plain
    return {name: each for name, each in plain.items() if not isinstance(each, (list, dict, str)) or len(each) < 100}
