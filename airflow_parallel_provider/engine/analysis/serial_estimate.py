# SPDX-License-Identifier: Apache-2.0
"""How long one worker would have taken, one call after the other.

That is less than the sum of the calls' durations: with many threads on one interpreter lock, or more processes than
CPUs, a part of each duration was spent waiting for a turn, and a serial run would not wait. That part is not measured.
It is estimated from the call's own CPU time as ``cpu * (runners - 1) * utilization``, at most the time in which the
call was not on a CPU. So a call that waits for a network counts in full, a call that computes counts its CPU time, and
the speed-up is understated rather than overstated.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Contention:
    """How crowded the interpreter, or the CPUs, were."""

    runners: float
    """Threads per interpreter, or processes per CPU."""
    utilization: float
    """Share of the time the resource was in use, 0 to 1."""

    def uncontended_seconds(self, wall: float, cpu: float) -> float:
        """Seconds that calls of ``wall`` seconds with ``cpu`` seconds of CPU would have taken by themselves."""
        cpu = min(cpu, wall)
        waiting = cpu * max(0.0, self.runners - 1) * min(1.0, self.utilization)
        return wall - min(wall - cpu, waiting)
