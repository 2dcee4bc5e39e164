# SPDX-License-Identifier: Apache-2.0
"""How busy this machine's CPUs are with other programs."""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass
from pathlib import Path

_STAT = Path("/proc/stat")

IDLE = 0.1
"""Share of idle CPU time from which other programs take nothing away."""

LEAST_SECONDS = 2.0
"""CPU seconds of the whole machine that a measurement needs: the kernel counts in hundredths of a second."""


@dataclass(frozen=True, slots=True)
class MachineTimes:
    """CPU seconds of the whole machine since it started."""

    busy: float
    idle: float

    @classmethod
    def now(cls) -> MachineTimes | None:
        """Read from ``/proc/stat``; None where there is none (macOS)."""
        try:
            first = _STAT.read_text(encoding="ascii").split("\n", 1)[0]
            # user, nice, system, idle, iowait, irq, softirq, steal; guest times are part of user and nice already
            ticks = [int(each) for each in first.split()[1:9]]
            per_second = os.sysconf("SC_CLK_TCK")
        except (OSError, ValueError, AttributeError):
            return None
        idle = sum(ticks[3:5])
        return cls((sum(ticks) - idle) / per_second, idle / per_second)


def cpu_of_children() -> float:
    """CPU seconds of the ended processes that this process and those below it have started."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def other_load(before: MachineTimes | None, own_seconds: float) -> float | None:
    """Share of the machine's CPUs that other programs have used since ``before``, 0 to 1; None: not known.

    It is 0 where CPUs were idle: then the other programs took nothing away from this one.

    :param own_seconds: CPU seconds of this program, its workers and what those have started, in that time.

    Known limitation: a database server on the same machine counts as another program, also when it works for this one.
    """
    now = MachineTimes.now() if before is not None else None
    if before is None or now is None:
        return None
    busy, idle = now.busy - before.busy, now.idle - before.idle
    if busy + idle < LEAST_SECONDS:
        return None
    if idle / (busy + idle) >= IDLE:
        return 0.0
    return max(0.0, busy - own_seconds) / (busy + idle)
