# SPDX-License-Identifier: Apache-2.0
"""How often and when a failed ``setup`` is called again."""

from __future__ import annotations

from airflow_parallel_provider.engine.dataflow.channel import ChannelBroken
from airflow_parallel_provider.engine.functions.outcome import CallFailure
from airflow_parallel_provider.engine.interfaces.run_context import RunContext
from airflow_parallel_provider.errors import SetupFailed

SETUP_ATTEMPTS = 3
"""Most attempts of a worker's ``setup`` before the run fails: a service that is just starting gets a second chance."""

SETUP_PAUSE = 0.1
"""Pause before the next attempt of ``setup``, seconds; doubles with each attempt."""


def setup_failed(stage: str, failure: CallFailure, attempt: int, context: RunContext) -> None:
    """Wait for the next attempt of ``setup``, or fail the run after the last one.

    :raises ChannelBroken: when there is no further attempt.
    """
    if attempt >= SETUP_ATTEMPTS:
        where = f" ({failure.location})" if failure.location else ""
        text = f"stage {stage}: setup failed {attempt} times: {failure.error}: {failure.message}{where}"
        context.fail(SetupFailed(text))
        raise ChannelBroken
    if context.stop.wait(SETUP_PAUSE * 2**attempt):
        raise ChannelBroken
