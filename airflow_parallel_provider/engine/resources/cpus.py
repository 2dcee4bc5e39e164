# SPDX-License-Identifier: Apache-2.0
"""How many CPUs this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

from airflow_parallel_provider.engine.resources.cgroups import own_groups


def usable_cpus() -> int:
    """CPUs this process may use: the smaller of its affinity and its cgroup quota, at least 1.

    ``os.cpu_count()`` counts the CPUs of the machine, which is wrong in a container.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_quota()
    return max(1, min(count, math.ceil(quota)) if quota else count)


def _cgroup_quota() -> float | None:
    """The tightest quota of all groups around this process; None: there is none."""
    return min((quota for group in own_groups("cpu") if (quota := _quota_of(group))), default=None)


def _quota_of(group: Path) -> float | None:
    try:
        quota, period = (group / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:
        quota_us = int((group / "cpu.cfs_quota_us").read_text())
        return quota_us / int((group / "cpu.cfs_period_us").read_text()) if quota_us > 0 else None
    except (OSError, ValueError):
        return None
