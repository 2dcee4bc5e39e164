"""What one worker doing one thing after the other would have taken.

The durations of calls do not simply add up to that: with many threads on one interpreter lock, or more processes than
CPUs, a part of each call's duration was spent waiting for its turn, and a serial run would not wait. That part is not
known; it is taken to be what the call's own CPU time makes likely: ``cpu * (runners - 1) * utilisation``, never more
than the time the call was not on a CPU. So a call that waits for a network counts in full, one that computes counts its
CPU time, and a speed-up is rather understated than overstated.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Contention:
    """How crowded the interpreter, or the CPUs, were."""

    runners: float
    """Threads per interpreter, or processes per CPU."""
    utilisation: float
    """Share of the time the resource was in use, 0 to 1."""

    def uncontended_seconds(self, wall: float, cpu: float) -> float:
        """Seconds that calls of ``wall`` seconds with ``cpu`` seconds of CPU would have taken by themselves."""
        cpu = min(cpu, wall)
        waiting = cpu * max(0.0, self.runners - 1) * min(1.0, self.utilisation)
        return wall - min(wall - cpu, waiting)
