# SPDX-License-Identifier: Apache-2.0
"""Kills by the kernel's out-of-memory killer."""

from __future__ import annotations

from pathlib import Path

from airflow_parallel_provider.engine.resources.cgroups import innermost_groups

_MACHINE = Path("/proc/vmstat")
_KEY = "oom_kill"


def kernel_kills() -> int:
    """How many processes of this task's own control group the kernel has killed for lack of memory.

    A counter, to be compared with an earlier value. The group of the victim counts every kill, whether its own limit,
    the limit of a group above or the memory of the machine was exhausted. Where no group has a counter it is the number
    of the whole machine, to which other processes contribute.
    """
    files = [group / name for group in innermost_groups("memory") for name in ("memory.events", "memory.oom_control")]
    return next((count for file in (*files, _MACHINE) if (count := _counter_in(file)) is not None), 0)


def _counter_in(file: Path) -> int | None:
    try:
        words = [line.split() for line in file.read_text().splitlines()]
    except OSError:
        return None
    return next((int(value) for key, value in words if key == _KEY), None)
