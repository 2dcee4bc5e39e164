# SPDX-License-Identifier: Apache-2.0
"""The control groups that hold this process, in both versions of the kernel's interface.

In a container the group's files are at the root of the mount. A service of systemd, or a process that was moved into a
group, has its own below it, and every group above may set a tighter limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_MOUNT = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


def own_groups(controller: str) -> list[Path]:
    """Folders of the groups of this process that ``controller`` ("cpu", "memory") may be set for, in no order."""
    found: dict[Path, None] = {_MOUNT: None, _MOUNT / controller: None}
    for mount, path in _memberships(controller):
        for group in (path, *path.parents):
            found[mount / str(group).lstrip("/")] = None
    return [folder for folder in found if folder.is_dir()]


def innermost_groups(controller: str) -> list[Path]:
    """Folders of the groups that this process is in; then the mounts, because containers hide the path of the group."""
    inside = [mount / str(path).lstrip("/") for mount, path in _memberships(controller)]
    return [folder for folder in (*inside, _MOUNT / controller, _MOUNT) if folder.is_dir()]


def _memberships(controller: str) -> Iterator[tuple[Path, PurePosixPath]]:
    """Mount points of the hierarchies, and the path of this process in each (``man 7 cgroups``, /proc/[pid]/cgroup)."""
    try:
        lines = _MEMBERSHIP.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2, alone or together with version 1
            yield _MOUNT, PurePosixPath(path)
            yield _MOUNT / "unified", PurePosixPath(path)
        elif controller in controllers.split(","):
            yield _MOUNT / controller, PurePosixPath(path)
            yield _MOUNT / controllers, PurePosixPath(path)
