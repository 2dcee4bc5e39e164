"""A disk that is soon full, and can be made larger. Needs root on Linux."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class SmallDisk:
    """A ``tmpfs`` on a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def grow(self, megabytes: int) -> None:
        """Make room, as an administrator would."""
        _mount("-o", f"remount,size={megabytes}m", str(self.folder))


@contextmanager
def small_disk(folder: Path, megabytes: int, user: int = 0) -> Iterator[SmallDisk]:
    """A disk on an empty folder; what is on it is gone at the end.

    :param user: who may write to it.
    """
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("only root on Linux can mount a small disk")
    try:
        _mount("-t", "tmpfs", "-o", f"size={megabytes}m,mode=700,uid={user}", "tmpfs", str(folder))
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no small disk can be mounted here: {error.stderr}")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _mount(*options: str) -> None:
    subprocess.run(["mount", *options], check=True, capture_output=True, text=True)
