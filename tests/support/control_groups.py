"""Control groups of the kernel, made for one test: real limits, not files that look like them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_parallel_provider.engine.resources.cgroups import own_groups


@contextlib.contextmanager
def made_group(controller: str, limits: dict[str, str]) -> Iterator[Path]:
    """A group below one of this process's own, with the limits that fit its interface; processes put themselves in.

    :param limits: file name to text, of both versions of the interface.
    """
    group = _make(controller, limits)
    if group is None:
        pytest.skip(f"no control group with a limit for {controller} can be made here (that takes root)")
    try:
        yield group
    finally:
        group.rmdir()  # refused while a process is in it: then the test has left one behind


def _make(controller: str, limits: dict[str, str]) -> Path | None:
    for parent in sorted(own_groups(controller), key=lambda folder: len(folder.parts), reverse=True):
        group = parent / f"parallel-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        known = {name: text for name, text in limits.items() if (group / name).exists()}
        with contextlib.suppress(OSError):
            for name, text in known.items():
                (group / name).write_text(text)
            if known:
                return group
        group.rmdir()
    return None
