# SPDX-License-Identifier: Apache-2.0
"""What every part of a run needs of the run it belongs to."""

from __future__ import annotations

from typing import Protocol

from airflow_parallel_provider.engine.interfaces.stop import StopToken
from airflow_parallel_provider.errors import RunFailed


class RunContext(Protocol):
    """What all parts of a run share; :class:`.run.state.RunState` implements it. Safe from any thread.

    A part that needs more extends it with a protocol of its own (``SinkWriterContext``, ``StageRunContext``).
    """

    @property
    def stop(self) -> StopToken:
        """Set when the run is being torn down, for any reason."""

    def fail(self, error: RunFailed) -> None:
        """End the run with this error, unless it is ending already."""

    def crashed(self, error: BaseException) -> None:
        """End the run with an error of the engine itself."""

    def warn(self, text: str) -> None:
        """Put a line into the report."""

    def may_commit(self) -> bool:
        """False once the run is ending: then nothing more is committed."""
