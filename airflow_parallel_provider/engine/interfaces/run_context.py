"""What every part of a run may ask of the run it belongs to."""

from __future__ import annotations

from typing import Protocol

from airflow_parallel_provider.engine.interfaces.stop import StopToken
from airflow_parallel_provider.errors import RunFailed


class RunContext(Protocol):
    """The part of a run that its parts share; :class:`.run.state.RunState` implements it. Safe from any thread."""

    @property
    def stop(self) -> StopToken:
        """Set when the run is being torn down, for whatever reason."""

    def fail(self, error: RunFailed) -> None:
        """End the run with this error, unless it is ending already."""

    def crashed(self, error: BaseException) -> None:
        """End the run with an error of the engine's own."""

    def warn(self, text: str) -> None:
        """Put a line into the report."""
