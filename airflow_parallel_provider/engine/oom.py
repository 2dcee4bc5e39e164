"""Whether the kernel's out-of-memory killer was at work."""

from __future__ import annotations

from pathlib import Path


def kernel_kills() -> int:
    """How often the kernel's out-of-memory killer has struck: on the machine, or in this task's cgroup."""
    count = 0
    for path, key in (("/proc/vmstat", "oom_kill"), ("/sys/fs/cgroup/memory.events", "oom_kill")):
        try:
            lines = Path(path).read_text().splitlines()
        except OSError:
            continue
        count += sum(int(line.split()[1]) for line in lines if line.split()[0] == key)
    return count
