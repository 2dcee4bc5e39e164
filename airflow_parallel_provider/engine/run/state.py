"""The clocks of a run."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(slots=True)
class RunClock:
    """When things began, and what was spent before."""

    began: float
    cpu_before: float
    working_since: float | None = None
    ended: float | None = None
    cpu_reported: float = 0.0

    @classmethod
    def start(cls) -> RunClock:
        """Now."""
        return cls(time.monotonic(), time.process_time())

    @property
    def seconds(self) -> float:
        """Seconds since the run began, until it ended."""
        return (self.ended or time.monotonic()) - self.began

    @property
    def working_seconds(self) -> float:
        """Seconds since the workers began."""
        if self.working_since is None:
            return 0.0
        return max(1e-9, (self.ended or time.monotonic()) - self.working_since)
