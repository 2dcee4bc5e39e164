"""Whether the kernel's out-of-memory killer was at work."""

from __future__ import annotations

from pathlib import Path

from airflow_parallel_provider.engine.resources.cgroups import innermost_groups

_MACHINE = Path("/proc/vmstat")
_KEY = "oom_kill"


def kernel_kills() -> int:
    """How often the kernel's out-of-memory killer has struck in this task's own control group; to be compared.

    The group of the victim counts every kill, whether its own limit, that of a group above or the machine's memory was
    at its end. Only where no group tells it is the whole machine's number, to which others contribute.
    """
    files = [group / name for group in innermost_groups("memory") for name in ("memory.events", "memory.oom_control")]
    return next((told for file in (*files, _MACHINE) if (told := _told_in(file)) is not None), 0)


def _told_in(file: Path) -> int | None:
    try:
        words = [line.split() for line in file.read_text().splitlines()]
    except OSError:
        return None
    return next((int(value) for key, value in words if key == _KEY), None)
