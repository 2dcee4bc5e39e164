"""Temporary files of the tests in memory, where the machine has room: their databases need not survive its crash.

On a disk each commit of SQLite waits for it several times, and most of the tests commit.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import psutil

_PLACE = Path("/dev/shm")
# Named like a semaphore: the leak checks of other sessions on this machine ignore such names.
_PREFIX = "sem.parallel-tests-"
_ROOM = 4 * 2**30
"""Bytes that must be free; a run of all tests needs a tenth of it."""


def use() -> None:
    """Make temporary files in memory from now on, also in children; unless ``TMPDIR`` is set."""
    if "TMPDIR" in os.environ or not _has_room():
        return
    for old in _PLACE.glob(f"{_PREFIX}*"):  # of sessions that were killed
        if not psutil.pid_exists(int(old.name.removeprefix(_PREFIX))):
            shutil.rmtree(old, ignore_errors=True)
    folder = _PLACE / f"{_PREFIX}{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    folder.chmod(0o1777)  # servers that the tests start run as other users, and want a place for theirs
    os.environ["TMPDIR"] = str(folder)
    tempfile.tempdir = None  # pytest has asked for it already
    atexit.register(_remove, folder, os.getpid())


def _has_room() -> bool:
    """Containers often have a small one, and one that programs cannot be run from."""
    with contextlib.suppress(OSError):
        place = os.statvfs(_PLACE)
        fits = min(place.f_bavail * place.f_frsize, psutil.virtual_memory().available) >= _ROOM
        return fits and not place.f_flag & os.ST_NOEXEC and os.access(_PLACE, os.W_OK)
    return False


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # not in a forked child that runs our exit handlers
        shutil.rmtree(folder, ignore_errors=True)
