"""How many CPUs this process may use, and whether the kernel has killed for lack of memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_parallel_provider.engine import limits, oom

Quota = Callable[..., None]


@pytest.fixture
def quota(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Quota:
    """Eight CPUs in the affinity mask, and cgroup files with these texts; None: no such file."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)

    def write(v2: str | None = None, v1: str | None = None, period: str | None = "100000\n") -> None:
        for name, text in (("_CGROUP_V2", v2), ("_CGROUP_V1", v1), ("_CGROUP_V1_PERIOD", period)):
            path = tmp_path / name
            path.unlink(missing_ok=True)
            if text is not None:
                path.write_text(text)
            monkeypatch.setattr(limits, name, path)

    return write


FILES: list[tuple[dict[str, str], int]] = [
    ({}, 8),
    ({"v2": "max 100000\n"}, 8),
    ({"v2": "200000 100000\n"}, 2),
    ({"v2": "150000 100000\n"}, 2),
    ({"v2": "10000 100000\n"}, 1),
    ({"v2": "6400000 100000\n"}, 8),
    ({"v1": "300000\n"}, 3),
    ({"v1": "-1\n"}, 8),
    ({"v1": "50000\n"}, 1),
    ({"v2": "something else\n"}, 8),
    ({"v2": ""}, 8),
]


def test_the_smaller_of_affinity_and_quota_counts(quota: Quota) -> None:
    for files, cpus in FILES:
        quota(**files)
        assert limits.usable_cpus() == cpus, files


def test_an_affinity_of_one_is_one(quota: Quota, monkeypatch: pytest.MonkeyPatch) -> None:
    quota(v2="400000 100000\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5})

    assert limits.usable_cpus() == 1


@pytest.mark.parametrize(("count", "cpus"), [(6, 6), (None, 1)])
def test_without_an_affinity_the_machine_counts(
    quota: Quota, monkeypatch: pytest.MonkeyPatch, count: int | None, cpus: int
) -> None:
    quota()
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: count)

    assert limits.usable_cpus() == cpus


def test_most_workers_by_kind(quota: Quota) -> None:
    quota(v2="300000 100000\n")

    assert {kind: limits.default_workers(kind) for kind in ("process", "thread", "async", "inline")} == {
        "process": 3,
        "thread": limits.DEFAULT_THREADS,
        "async": limits.DEFAULT_COROUTINES,
        "inline": 1,
    }


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder whose files take the place of the kernel's."""

    def moved(path: str) -> Path:
        return tmp_path / path.replace("/", "_")

    replacement: Any = moved
    monkeypatch.setattr(oom, "Path", replacement)
    return tmp_path


def test_kernel_kills_are_read_from_machine_and_cgroup(kernel: Path) -> None:
    (kernel / "_proc_vmstat").write_text("nr_free_pages 5\noom_kill 3\nnr_dirty 9\n")
    (kernel / "_sys_fs_cgroup_memory.events").write_text("low 0\noom 7\noom_kill 2\noom_group_kill 1\n")

    assert oom.kernel_kills() == 5


def test_a_system_that_does_not_tell_has_no_kills(kernel: Path) -> None:
    assert oom.kernel_kills() == 0


def test_this_kernel_can_be_asked() -> None:
    assert oom.kernel_kills() >= 0
