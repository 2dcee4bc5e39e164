# SPDX-License-Identifier: Apache-2.0
"""The iterator form of a pipeline: rows for a consumer in the same process, with back-pressure."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator
from typing import Any

from airflow_parallel_provider.engine.interfaces.records import ChunkResult
from airflow_parallel_provider.engine.interfaces.sink import Sink
from airflow_parallel_provider.engine.interfaces.stop import StopToken
from airflow_parallel_provider.engine.plan.pipeline_plan import PipelinePlan
from airflow_parallel_provider.engine.processes.launch import collector_paused, launched_ahead
from airflow_parallel_provider.errors import RunFailed
from airflow_parallel_provider.foreign.errors import error_text, raisable
from airflow_parallel_provider.report import RunReport

_CHECK_SECONDS = 0.2  # between two checks whether the consumer has stopped; only while the consumer is behind


class _ConsumerSink(Sink):
    """Gives each chunk's rows to the consumer; one chunk may wait for it."""

    def __init__(self) -> None:
        self.chunks: queue.Queue[list[Any] | None] = queue.Queue(1)
        self.given_up = False

    def commit(self, chunk: ChunkResult) -> int:
        """Put the rows."""
        self.put(chunk.rows)
        return len(chunk.rows)

    def put(self, rows: list[Any] | None) -> None:
        """Wait until the consumer has room; None marks the end. Returns at once when the consumer has stopped."""
        while not self.given_up:
            try:
                self.chunks.put(rows, timeout=_CHECK_SECONDS)
            except queue.Full:
                continue
            return


def stream_rows(plan: PipelinePlan, *, stop: StopToken) -> Generator[Any, None, RunReport]:
    """See :meth:`Pipeline.stream`. The run lives on a thread of its own, so that it goes on between two rows."""
    sink = _ConsumerSink()
    ended: list[RunReport | BaseException] = []

    def run() -> None:
        try:
            with launched_ahead(needed=any(stage.kind == "process" for stage in plan.stages)) as fork_server:
                with collector_paused():  # as in Pipeline.run; here, because a fork server ends with its thread
                    from airflow_parallel_provider.engine.run.run import Run

                ended.append(Run(plan, sink, stop=stop, fork_server=fork_server).execute())
        except BaseException as error:  # noqa: BLE001 - raised again in the consumer's thread
            ended.append(error)
        finally:
            sink.put(None)

    thread = threading.Thread(target=run, name="parallel-pipeline-stream", daemon=True)
    thread.start()
    try:
        while (rows := sink.chunks.get()) is not None:
            yield from rows
    finally:
        sink.given_up = True
        if not ended:
            stop.stop("the consumer of stream() stopped early")
        thread.join(5.0)
    result = ended[0]
    if isinstance(result, RunFailed):
        raise result
    if isinstance(result, BaseException):
        raise RunFailed(f"the run ended with {error_text(result)}") from raisable(result)
    return result
