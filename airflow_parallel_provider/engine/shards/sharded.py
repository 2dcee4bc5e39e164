# SPDX-License-Identifier: Apache-2.0
"""The beginning and the end of a load that several runs write together, each a shard of it.

::

    begin_load     freezes the source in the ledger, creates the tables
    Run            each shard: opens the load, restores the source, commits its chunks
    finish_load    checks that all chunks are in, judges the tolerance over the whole, completes the load

Between them only the name of the load is passed on: everything else is in the sink's ledger.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_parallel_provider.engine.dataflow.chunk import chunk_id
from airflow_parallel_provider.engine.interfaces.records import CommittedChunk
from airflow_parallel_provider.engine.interfaces.sink import Sink
from airflow_parallel_provider.engine.interfaces.stop import StopToken
from airflow_parallel_provider.engine.metrics.tolerance_tracker import ToleranceTracker
from airflow_parallel_provider.engine.plan.pipeline_plan import PipelinePlan
from airflow_parallel_provider.engine.shards.sink_visit import visit_sink
from airflow_parallel_provider.engine.shards.totals import with_shards
from airflow_parallel_provider.errors import PlanError, SinkError
from airflow_parallel_provider.report import RunReport

_NAMED = 5
"""Most missing chunks that an error names."""


def check_sharded(plan: PipelinePlan) -> Sink:
    """Check that a pipeline can be one load of several runs; return its sink.

    :raises PlanError: naming the argument that stands in the way, with the cure.
    """
    if plan.sink is None:
        raise PlanError(
            "Pipeline.sink", None, "shards need a sink with a ledger: SinkTable, SinkFiles, SinkDelta or SinkIceberg"
        )
    if plan.load_key is None:
        raise PlanError("Pipeline.load_key", None, "all shards write one load: name it")
    plan.sink.check_shards()
    if plan.ordered:
        cure = "the order holds within one run, not over several shards: leave it out, or run without shards"
        if plan.sink.order_matters:
            cure = (
                "of two rows with one key the later in the source stays, and shards have no common order: name the "
                "column that decides (SinkTable.newest), or write ordered=False if any of them may stay"
            )
        raise PlanError("Pipeline.ordered", True, cure)
    plan.source.check_shards()
    return plan.sink


def begin_load(plan: PipelinePlan, stop: StopToken) -> None:
    """See :meth:`Pipeline.begin`."""
    sink = plan.source.wrap_sink(check_sharded(plan))
    plan.source.prepare()
    visit_sink(plan, sink, "plan", stop, lambda _: None)


def finish_load(plan: PipelinePlan, stop: StopToken, shards: Sequence[Mapping[str, Any]] = ()) -> RunReport:
    """See :meth:`Pipeline.finish`."""
    sink = plan.source.wrap_sink(check_sharded(plan))
    began, cpu = time.monotonic(), time.process_time()
    chunks: dict[str, CommittedChunk] = {}
    aggregates: dict[str, Any] = {}
    taken: list[float | None] = []

    def complete(committed: Mapping[str, CommittedChunk]) -> None:
        _require_all(committed, sink.chunks_of_source())
        _judge(plan, committed)
        taken.append(sink.seconds_of_load())
        sink.finish()
        chunks.update(committed)
        aggregates.update(sink.aggregate_values())

    visit_sink(plan, sink, "finish", stop, complete)
    found, seconds = chunks.values(), taken[0]
    items, filtered = sum(chunk.items for chunk in found), sum(chunk.items_filtered for chunk in found)
    # Several dead letters may be of one item; the ledger says how many there are, not of how many items.
    dead = sum(min(chunk.dead_letters, chunk.items - chunk.items_filtered) for chunk in found)
    whole = RunReport(
        state="success",
        name=plan.name,
        items_read=items,
        items_committed=items - filtered - dead,
        items_filtered=filtered,
        items_dead_lettered=dead,
        items_skipped=0,
        items_unfinished=0,
        rows_committed=sum(chunk.rows for chunk in found),
        chunks_committed=len(chunks),
        chunks_skipped=0,
        seconds=round(time.monotonic() - began if seconds is None else seconds, 4),
        items_per_second=round(items / seconds, 2) if seconds else 0.0,
        cpu_seconds=round(time.process_time() - cpu, 4),
        peak_rss_bytes=0,
        estimated_serial_seconds=0.0,
        speedup=None,
        no_speedup="the shards have done the work",
        bottleneck=None,
        advice="",
        rows_rejected=sum(chunk.rows_rejected for chunk in found),
        aggregates=aggregates,
    )
    return with_shards(whole, shards)


def _require_all(committed: Mapping[str, CommittedChunk], chunks: int | None) -> None:
    """Check that exactly the chunks of the source are in.

    :raises SinkError: naming those that are missing, or too many.
    """
    if chunks is None:
        raise SinkError("no shard has read the source to its end: run the shards (again), then finish the load")
    expected = {chunk_id(number) for number in range(chunks)}
    missing = sorted(expected - committed.keys())
    if missing:
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        raise SinkError(
            f"of {chunks} chunks {len(missing)} are not in: {', '.join(missing[:_NAMED])}{more}. Their shards have "
            "not ended, or fewer have run than there are: run every shard of one number of shards, then finish again"
        )
    if len(committed) > len(expected):
        strange = sorted(committed.keys() - expected)
        raise SinkError(
            f"the ledger has {len(strange)} chunks that the source has not: {', '.join(strange[:_NAMED])}. The source "
            "has changed: use another load_key, or discard the load"
        )


def _judge(plan: PipelinePlan, committed: Mapping[str, CommittedChunk]) -> None:
    """Hold the failed items of all shards against the tolerance.

    :raises ToleranceExceeded: if they are too many.
    """
    tracker = ToleranceTracker(plan.tolerance)
    tracker.resume_after(committed.values())
    items = sum(chunk.items for chunk in committed.values())
    tracker.items_read = lambda: items
    if (exceeded := tracker.check(final=True)) is not None:
        raise exceeded
