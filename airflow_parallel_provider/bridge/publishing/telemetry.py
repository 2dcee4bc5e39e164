# SPDX-License-Identifier: Apache-2.0
"""Metrics of a run for the deployment's monitoring (StatsD or OpenTelemetry), and one span per stage.

There are few names and few tags, so that a monitoring system can keep them: no metric per item, worker or run id. All
of it runs on the task's main thread, and none of it can fail the task.
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any, Final

from airflow_parallel_provider.bridge import _compat
from airflow_parallel_provider.monitoring.json_values import to_json_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from airflow_parallel_provider.bridge.identity import RunIdentity
    from airflow_parallel_provider.engine.pipeline import Pipeline

PREFIX: Final = "parallel_pipeline"
GAUGES_EVERY: Final = 10.0
"""Seconds between two sets of gauges during a run."""

_FATES: Final = ("committed", "filtered", "dead_lettered", "skipped", "unfinished")
_STAGE_COUNTS: Final = ("failed", "retried", "halved", "timed_out", "workers_lost")

log = logging.getLogger(__name__)


class Telemetry:
    """Follows one run. Main thread only; never raises.

    :param stats: takes counters, gauges and timings; None: Airflow's own ``Stats``.
    :param clock: returns seconds; only tests replace it.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        identity: RunIdentity,
        stats: Any = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stats = stats
        self._clock = clock
        self._tags = {"dag_id": identity.dag_id, "task_id": identity.task_id}
        self._stages = [(stage.name, stage.kind) for stage in pipeline.stages]
        self._due = clock() + GAUGES_EVERY
        self._spans: dict[str, Any] = {}

    def begin(self) -> None:
        """Open a span for each stage, below the task's own."""
        with _quietly():
            from opentelemetry import trace

            tracer = trace.get_tracer("airflow_parallel_provider")
            for name, kind in self._stages:
                attributes = {f"{PREFIX}.stage": name, f"{PREFIX}.kind": kind, **self._spanned(self._tags)}
                self._spans[name] = tracer.start_span(f"{PREFIX}.stage {name}", attributes=attributes)

    def observe(self, snapshot: Mapping[str, Any]) -> None:
        """Send the gauges when they are due."""
        if snapshot.get("final") or self._clock() < self._due:
            return
        self._due = self._clock() + GAUGES_EVERY
        with _quietly():
            self._gauge("items_per_second", snapshot.get("items_per_second"))
            self._gauge("rss_bytes", snapshot.get("peak_rss_bytes"))
            for stage in snapshot.get("stages", ()):
                self._gauge("stage.queued_items", stage.get("queue_now"), stage=stage["name"])
                self._gauge("stage.workers", stage.get("workers_now"), stage=stage["name"])

    def end(self, outcome: Mapping[str, Any] | None, state: str) -> None:
        """Send the final counts, and close the spans."""
        counts = outcome or {}
        with _quietly():
            self._close_spans(counts, state)
        with _quietly():
            self._count("runs", 1, state=state)
            self._send().timing(f"{PREFIX}.duration", 1000 * float(counts.get("seconds") or 0), tags=self._tags)
            for fate in _FATES:
                self._count("items", counts.get(f"items_{fate}"), fate=fate)
            self._count("rows", counts.get("rows_committed"))
            self._count("chunks", counts.get("chunks_committed"))
            for stage in counts.get("stages", ()):
                for what in _STAGE_COUNTS:
                    self._count(f"stage.{what}", stage.get(what), stage=stage["name"])
                self._gauge("stage.busy_fraction", stage.get("busy_fraction"), stage=stage["name"])

    def _close_spans(self, outcome: Mapping[str, Any], state: str) -> None:
        from opentelemetry.trace import Status, StatusCode

        spans, self._spans = self._spans, {}
        stages = {stage["name"]: stage for stage in outcome.get("stages", ())}
        for name, span in spans.items():
            stage = stages.get(name, {})
            names = ("workers", "items_in", "items_out", *_STAGE_COUNTS, "busy_fraction", "p50_ms", "p99_ms")
            span.set_attributes({f"{PREFIX}.{each}": stage[each] for each in names if stage.get(each) is not None})
            span.set_attribute(f"{PREFIX}.bottleneck", outcome.get("bottleneck") == name)
            if state != "success":
                span.set_status(Status(StatusCode.ERROR, state))
            span.end()

    @staticmethod
    def _spanned(tags: Mapping[str, str]) -> dict[str, str]:
        return {f"airflow.{name}": value for name, value in tags.items()}

    def _count(self, name: str, count: Any, **tags: str) -> None:
        if count:
            self._send().incr(f"{PREFIX}.{name}", int(count), tags={**self._tags, **tags})

    def _gauge(self, name: str, value: Any, **tags: str) -> None:
        if value is not None:
            self._send().gauge(f"{PREFIX}.{name}", value, tags={**self._tags, **tags})

    def _send(self) -> Any:
        if self._stats is None:
            self._stats = _compat.stats()
        return self._stats


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    try:
        yield
    except Exception:  # monitoring never fails a task
        log.debug("Monitoring could not be reached", exc_info=True)


def fill_outlets(context: Mapping[str, Any], outcome: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Write what was loaded into the events of the task's asset outlets, where the DAGs they trigger can read it.

    Values that the author has written there stay as they are.
    """
    events = context.get("outlet_events")
    outlets = getattr(getattr(context.get("ti"), "task", None), "outlets", None) or ()
    if events is None:
        return
    names = ("rows_committed", "items_committed", "items_dead_lettered", "items_skipped", "seconds")
    values = {"load_key": facts["load_key"], "sink": facts["sink"], **{each: outcome.get(each) for each in names}}
    for outlet in outlets:
        with _quietly():
            if _compat.is_asset(outlet):
                extra = events[outlet].extra
                for name, value in to_json_value(values).items():
                    extra.setdefault(name, value)
