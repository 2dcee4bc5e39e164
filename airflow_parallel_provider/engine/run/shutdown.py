# SPDX-License-Identifier: Apache-2.0
"""Waiting for the workers at the end of a run, always with a deadline. On the coordinating thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from airflow_parallel_provider.engine.run.state import RunState
from airflow_parallel_provider.engine.workers.base import Worker

ABORT_SECONDS = 2.0
"""How long an aborted run waits for threads, seconds; with the end of the fork server it stays below Airflow's 5."""

GIVE_UP_SECONDS = 0.5
"""How long a successful run waits for the workers that it had to interrupt, seconds."""


def join_workers(state: RunState, workers: Sequence[Worker], deadline: float, interrupt: Callable[[], None]) -> None:
    """Wait for the threads of the workers until the deadline (monotonic), not so long once a stop is requested.

    A thread that has not ended by then is left behind; the report says so.

    :param interrupt: wakes every worker and ends every worker process.
    """

    def abort() -> None:
        state.stop.stop("the run is being torn down")
        interrupt()

    for worker in workers:
        while worker.thread.is_alive() and time.monotonic() < deadline:
            worker.thread.join(0.1)
            if state.stop_requested.is_set and not state.stop.is_set:  # no time left for `setup` and `teardown`
                abort()
                deadline = min(deadline, time.monotonic() + ABORT_SECONDS)
    late = [worker for worker in workers if worker.thread.is_alive()]
    if late and not state.stop.is_set:
        # All items are done. A worker whose process never becomes ready would wait for it, or for a fork server,
        # forever.
        abort()
        _warn_aborted(state, late)
    for worker in late:
        if worker.thread.is_alive():
            state.warn(f"thread {worker.thread.name} did not end and was left behind")


def _warn_aborted(state: RunState, late: Sequence[Worker]) -> None:
    deadline = time.monotonic() + GIVE_UP_SECONDS
    for worker in late:
        worker.thread.join(max(0.0, deadline - time.monotonic()))
        if not worker.thread.is_alive():
            state.warn(f"thread {worker.thread.name} was not done with setup or teardown and was interrupted")
