"""How often and when a failed ``setup`` is tried again."""

from __future__ import annotations

from airflow_parallel_provider.engine.dataflow.channel import ChannelBroken
from airflow_parallel_provider.engine.functions.outcome import CallFailure
from airflow_parallel_provider.engine.interfaces.run_context import RunContext
from airflow_parallel_provider.errors import SetupFailed

SETUP_ATTEMPTS = 3
"""How often a worker's ``setup`` is tried before the run fails: a service that just starts gets a second chance."""

SETUP_PAUSE = 0.1
"""Seconds, doubled with each attempt, before ``setup`` is tried again."""


def setup_failed(stage: str, failure: CallFailure, attempt: int, context: RunContext) -> None:
    """Wait before ``setup`` is tried again, or fail the run after the last attempt.

    :raises ChannelBroken: when it will not be tried again.
    """
    if attempt >= SETUP_ATTEMPTS:
        where = f" ({failure.location})" if failure.location else ""
        text = f"stage {stage}: setup failed {attempt} times: {failure.error}: {failure.message}{where}"
        context.fail(SetupFailed(text))
        raise ChannelBroken
    if context.stop.wait(SETUP_PAUSE * 2**attempt):
        raise ChannelBroken
