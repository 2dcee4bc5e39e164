# SPDX-License-Identifier: Apache-2.0
"""Live metrics: turns the engine's snapshot of every second into an XCom every few seconds and a log line every ten."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from airflow_parallel_provider.monitoring.history import History
from airflow_parallel_provider.monitoring.progress import Progress
from airflow_parallel_provider.monitoring.snapshot_size import fit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from airflow_parallel_provider.bridge.identity import RunIdentity
    from airflow_parallel_provider.bridge.publishing.publisher import Publisher

METRICS_KEY: Final = "pipeline_metrics"
"""XCom key of the snapshot; on Airflow 3.3 and later, with ``/try-<n>`` added, also its key in the task state store."""
OBSERVE_EVERY: Final = 1.0
"""Seconds between two calls of :meth:`LiveMetrics.observe`."""
_FAST, _SLOW, _FAST_FOR, _LOG_EVERY = 2.0, 5.0, 60.0, 10.0
_STORE_EVERY = 10.0
"""The task state store serves tries that have ended; a page that follows a running try reads the XCom."""
_PAUSE_PER_SECOND, _SLOWEST = 20, 300.0
"""A slow API server gets longer pauses: for at least 19 of 20 seconds the supervisor comms are free for the requests of
workers and for the heartbeat."""

log = logging.getLogger(__name__)


class LiveMetrics:
    """Follows one run. All methods run on the task's main thread.

    :param publisher: writes the snapshots to Airflow; never raises.
    :param identity: the try.
    :param facts: further plain values for each snapshot (where the rows go, the load key).
    :param clock: returns seconds; only tests replace it.
    :param push_every: least seconds between two snapshots.
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
        self._published = -math.inf  # the first snapshot goes out at once, so that an open page shows the start
        self._history = History()
        self._progress = Progress()
        self._last: Mapping[str, Any] = {}
        self._ended = False
        self._cost = 0.0

    def observe(self, snapshot: Mapping[str, Any]) -> None:
        """Take a snapshot of the engine; publish and log it when that is due."""
        with self._counted():
            self._observe(snapshot)

    def _observe(self, snapshot: Mapping[str, Any]) -> None:
        self._last = snapshot
        self._progress.add(snapshot)
        if snapshot.get("final"):
            return  # end() publishes it with the final state
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
        """Publish the last snapshot; only the first call has an effect.

        :param outcome: the report as a dict; None where the run ended without a report.
        :param state: how the run ended; the state of a report takes precedence.
        """
        if self._ended:
            return
        self._ended = True
        try:
            with self._counted():
                last = {**self._last, "state": state, **(outcome or {})}
                self._history.add(last)
                self._publish(last, final=True)
        except Exception:  # metrics never fail a run (the engine guards observe() in the same way)
            log.warning("The last metrics could not be written", exc_info=True)

    def _publish(self, snapshot: Mapping[str, Any], *, final: bool) -> None:
        value = {
            "format": 1,
            "final": final,
            "attempt": self._identity.attempt,
            "updated_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "recent_items_per_second": round(self._progress.rate, 1),
            "seconds_left": None if final else self._progress.seconds_left(snapshot),
            "metrics_cpu_seconds": round(self._cost + self._publisher.cpu_seconds, 3),
            **self._facts,
            **{name: each for name, each in snapshot.items() if name not in ("final", "series")},
        }
        if left_out := snapshot.get("workers_omitted"):
            value["omitted"] = {"workers": left_out}
        bounded = fit(value, self._history)
        self._publisher.push(METRICS_KEY, bounded, last=final)
        if final or self._clock() - self._stored >= _STORE_EVERY:
            self._stored = self._clock()
            key = f"{METRICS_KEY}/try-{self._identity.attempt}"
            self._publisher.store(key, without_items(bounded), last=final)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        """Add the CPU time of the block to the cost of the metrics, which each snapshot shows."""
        began = time.thread_time()
        try:
            yield
        finally:
            self._cost += time.thread_time() - began


def without_items(value: dict[str, Any]) -> dict[str, Any]:
    """``value`` without the samples of failed items.

    All users who may see task instances may read the task state store. Items are data, so only users who may read XComs
    may see them.
    """
    failures = []
    for cause in value.get("failures", ()):
        sample = cause.get("sample")
        position = sample.get("position") if isinstance(sample, dict) else None
        failures.append({**cause, "sample": {"position": position}})
    return {**value, "failures": failures} if failures else value
