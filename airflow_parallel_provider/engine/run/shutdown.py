"""Waiting for the slots at the end of a run, never for ever. On the coordinating thread."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.run.run import Run
    from airflow_parallel_provider.engine.workers.base import Slot

ABORT_SECONDS = 2.0
"""How long an aborted run waits for threads; with the nursery's end it stays well inside Airflow's 5 seconds."""

BREAK_OFF_SECONDS = 0.5
"""How long a successful run waits for what it had to break off."""


def part_from(run: Run, slots: Sequence[Slot], deadline: float) -> None:
    """Wait for the threads of the slots until the deadline (monotonic), sooner where a stop is asked for meanwhile.

    What has not ended by then is left behind, and said.
    """
    for slot in slots:
        while slot.thread.is_alive() and time.monotonic() < deadline:
            slot.thread.join(0.1)
            if run.asked.is_set and not run.stop.is_set:  # no time left for `setup` and `teardown`
                _break_off(run)
                deadline = min(deadline, time.monotonic() + ABORT_SECONDS)
    late = [slot for slot in slots if slot.thread.is_alive()]
    if late and not run.stop.is_set:
        # All is done, but a slot whose worker is never ready would wait for it, or for another nursery, for ever.
        _break_off(run)
        _say_broken_off(run, late)
    for slot in late:
        if slot.thread.is_alive():
            run.warn(f"thread {slot.thread.name} did not end and was left behind")


def _break_off(run: Run) -> None:
    run.stop.stop("the run is being torn down")
    run.crew.interrupt()


def _say_broken_off(run: Run, late: Sequence[Slot]) -> None:
    deadline = time.monotonic() + BREAK_OFF_SECONDS
    for slot in late:
        slot.thread.join(max(0.0, deadline - time.monotonic()))
        if not slot.thread.is_alive():
            run.warn(f"thread {slot.thread.name} was not done with setup or teardown and was broken off")
