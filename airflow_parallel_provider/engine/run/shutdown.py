"""Waiting for the workers at the end of a run, never for ever. On the coordinating thread."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.run.run import Run
    from airflow_parallel_provider.engine.workers.base import Worker

ABORT_SECONDS = 2.0
"""How long an aborted run waits for threads; with the fork server's end it stays well inside Airflow's 5 seconds."""

GIVE_UP_SECONDS = 0.5
"""How long a successful run waits for what it had to break off."""


def join_workers(run: Run, workers: Sequence[Worker], deadline: float) -> None:
    """Wait for the threads of the workers until the deadline (monotonic), sooner where a stop is asked for meanwhile.

    What has not ended by then is left behind, and said.
    """
    for worker in workers:
        while worker.thread.is_alive() and time.monotonic() < deadline:
            worker.thread.join(0.1)
            if run.stop_requested.is_set and not run.stop.is_set:  # no time left for `setup` and `teardown`
                _abort(run)
                deadline = min(deadline, time.monotonic() + ABORT_SECONDS)
    late = [worker for worker in workers if worker.thread.is_alive()]
    if late and not run.stop.is_set:
        # All is done, but a worker whose worker is never ready would wait for it, or for another fork server, for ever.
        _abort(run)
        _warn_aborted(run, late)
    for worker in late:
        if worker.thread.is_alive():
            run.warn(f"thread {worker.thread.name} did not end and was left behind")


def _abort(run: Run) -> None:
    run.stop.stop("the run is being torn down")
    run.pool.interrupt()


def _warn_aborted(run: Run, late: Sequence[Worker]) -> None:
    deadline = time.monotonic() + GIVE_UP_SECONDS
    for worker in late:
        worker.thread.join(max(0.0, deadline - time.monotonic()))
        if not worker.thread.is_alive():
            run.warn(f"thread {worker.thread.name} was not done with setup or teardown and was broken off")
