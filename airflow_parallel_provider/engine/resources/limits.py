# SPDX-License-Identifier: Apache-2.0
"""Limits of the system (``ulimit``, control groups): what was refused, in words that say what to raise."""

from __future__ import annotations

import errno
import re
import resource
from collections.abc import Iterator

from airflow_parallel_provider.engine.resources.cgroups import own_groups
from airflow_parallel_provider.foreign.errors import cause_of, error_text, message_text

_NO_THREAD = "can't start new thread"

_NO_LIBRARY = ("failed to map segment", "cannot allocate memory")
"""What the dynamic linker says when there is no memory for a library."""

_ERRNO_OF = OSError.__dict__["errno"]
_ERRNO = re.compile(r"\[Errno (\d+)\]")


def soft_limit(limit: int) -> int | None:
    """The present value of a limit of this process (``resource.RLIMIT_AS``, ...); None: there is none."""
    soft, _ = resource.getrlimit(limit)
    return None if soft == resource.RLIM_INFINITY else soft


def shortage(error: BaseException) -> str | None:
    """What the system has refused, and what to raise, where that is the reason for an error or one below it."""
    for each in _reasons(error):
        kind = type(each)  # not isinstance: an error may lie about its class
        number = _ERRNO_OF.__get__(each) if issubclass(kind, OSError) else None
        if issubclass(kind, MemoryError) or (
            issubclass(kind, ImportError) and any(words in message_text(each).lower() for words in _NO_LIBRARY)
        ):
            number = errno.ENOMEM
        elif kind is RuntimeError and _NO_THREAD in message_text(each):
            number = errno.EAGAIN
        if text := _TEXTS.get(number or 0):
            return text()
    return None


def shortage_in(output: str) -> str | None:
    """The same for what another process has printed at its end."""
    last = output.strip().rpartition("\n")[2]
    if last.startswith("MemoryError") or any(words in last.lower() for words in _NO_LIBRARY):
        return _memory()
    if _NO_THREAD in last:
        return _processes()
    number = _ERRNO.search(last)
    text = _TEXTS.get(int(number[1])) if number else None
    return text() if text else None


def with_cure(error: BaseException) -> str:
    """Type and text of an error; where a limit of the system is the reason, with what to raise."""
    text = error_text(error)
    again = any(issubclass(type(each), BlockingIOError) for each in _reasons(error))  # that of a socket, for example
    cure = None if again else shortage(error)
    return f"{text} ({cure})" if cure else text


def _reasons(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(10):
        if error is None:
            return
        yield error
        error = cause_of(error)


def _memory() -> str:
    limit = soft_limit(resource.RLIMIT_AS)
    where = "the memory of the machine or of its control group" if limit is None else f"`ulimit -v`, {limit >> 10:,} KB"
    return f"there is no memory left: raise the limit ({where}), or use fewer workers and smaller chunks"


def _descriptors() -> str:
    limit = soft_limit(resource.RLIMIT_NOFILE)
    return f"there is no file descriptor left: raise the limit (`ulimit -n`, {limit}), or use fewer workers"


def _descriptors_of_all() -> str:
    return "the machine has no file descriptor left: raise `fs.file-max`, or end what holds so many"


def _processes() -> str:
    limits = []
    limit = soft_limit(resource.RLIMIT_NPROC)
    if limit is not None:
        limits.append(f"`ulimit -u`, {limit:,} for all processes and threads of the user")
    address_space = soft_limit(resource.RLIMIT_AS)  # a thread needs memory for its stack
    if address_space is not None:
        limits.append(f"`ulimit -v`, {address_space >> 10:,} KB")
    pids = _pids_max()
    if pids is not None:
        limits.append(f"pids.max of the control group, {pids:,}")
    where = " or ".join(limits) or "`ulimit -u`, pids.max of the control group, kernel.threads-max"
    return f"no further process or thread may be started: raise the limit ({where}), or use fewer workers"


def _pids_max() -> int | None:
    found = []
    for group in own_groups("pids"):
        try:
            text = (group / "pids.max").read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            found.append(int(text))
    return min(found, default=None)


def _file_size() -> str:
    limit = soft_limit(resource.RLIMIT_FSIZE)
    return (
        f"a file, or memory that is shared with worker processes, may not be so large: raise the limit (`ulimit -f`, "
        f"{limit or 0:,} bytes)"
    )


_TEXTS = {
    errno.ENOMEM: _memory,
    errno.EMFILE: _descriptors,
    errno.ENFILE: _descriptors_of_all,
    errno.EAGAIN: _processes,
    errno.EFBIG: _file_size,
}
