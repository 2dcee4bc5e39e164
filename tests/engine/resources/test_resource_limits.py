"""How many CPUs this process may use, and whether the kernel has killed for lack of memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_parallel_provider.engine.plan.stage import DEFAULT_COROUTINES, DEFAULT_THREADS, default_workers
from airflow_parallel_provider.engine.resources import cgroups, cpus, oom

Quota = Callable[..., None]


@pytest.fixture
def mount(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder in the place of /sys/fs/cgroup, and of the file that says which groups this process is in."""
    monkeypatch.setattr(cgroups, "_MOUNT", tmp_path)
    monkeypatch.setattr(cgroups, "_MEMBERSHIP", tmp_path / "membership")
    return tmp_path


@pytest.fixture
def quota(monkeypatch: pytest.MonkeyPatch, mount: Path) -> Quota:
    """Eight CPUs in the affinity mask, and cgroup files with these texts; None: no such file."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)

    def write(v2: str | None = None, v1: str | None = None, period: str | None = "100000\n", below: str = "") -> None:
        (mount / "cpu" / below).mkdir(exist_ok=True, parents=True)
        for file, text in (
            (mount / below / "cpu.max", v2),
            (mount / "cpu" / below / "cpu.cfs_quota_us", v1),
            (mount / "cpu" / below / "cpu.cfs_period_us", period),
        ):
            file.parent.mkdir(exist_ok=True, parents=True)
            file.unlink(missing_ok=True)
            if text is not None:
                file.write_text(text)

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
    for files, count in FILES:
        quota(**files)
        assert cpus.usable_cpus() == count, files


def test_the_tightest_group_around_the_process_counts(quota: Quota, mount: Path) -> None:
    (mount / "membership").write_text("0::/system.slice/airflow-worker.service\n")
    quota(v2="600000 100000\n", below="system.slice")
    quota(v2="400000 100000\n", below="system.slice/airflow-worker.service")
    assert cpus.usable_cpus() == 4

    quota(v2="300000 100000\n", below="system.slice")
    assert cpus.usable_cpus() == 3

    quota(v2="100000 100000\n", below="somebody.else")
    assert cpus.usable_cpus() == 3


def test_groups_of_the_old_interface_are_found_by_their_controller(quota: Quota, mount: Path) -> None:
    (mount / "membership").write_text("9:memory:/elsewhere\n4:cpu,cpuacct:/worker\n0::/\n")
    quota(v1="200000\n", below="worker")
    quota(v1="100000\n", below="elsewhere")

    assert cpus.usable_cpus() == 2


@pytest.mark.parametrize(
    ("membership", "folder", "file"),
    [
        ("4:cpu,cpuacct:/worker\n", "cpu,cpuacct/worker", "cpu.cfs_quota_us"),
        ("4:cpuset:/\n0::/worker\n", "unified/worker", "cpu.max"),
        ("0::/docker/image:latest\n", "docker/image:latest", "cpu.max"),
    ],
    ids=["mounted together", "both interfaces", "colon in the path"],
)
def test_groups_are_found_wherever_their_hierarchy_is_mounted(
    quota: Quota, mount: Path, membership: str, folder: str, file: str
) -> None:
    quota()
    (mount / "membership").write_text(membership)
    (mount / folder).mkdir(parents=True)
    (mount / folder / "cpu.cfs_period_us").write_text("100000\n")
    (mount / folder / file).write_text("200000\n" if file == "cpu.cfs_quota_us" else "200000 100000\n")

    assert cpus.usable_cpus() == 2


def test_groups_of_another_controller_with_a_name_like_it_do_not_count(quota: Quota, mount: Path) -> None:
    (mount / "membership").write_text("4:cpuset:/pinned\n")
    quota(v1="100000\n", below="pinned")

    assert cpus.usable_cpus() == 8


def test_an_affinity_of_one_is_one(quota: Quota, monkeypatch: pytest.MonkeyPatch) -> None:
    quota(v2="400000 100000\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5})

    assert cpus.usable_cpus() == 1


@pytest.mark.parametrize(("count", "usable"), [(6, 6), (None, 1)])
def test_without_an_affinity_the_machine_counts(
    quota: Quota, monkeypatch: pytest.MonkeyPatch, count: int | None, usable: int
) -> None:
    quota()
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: count)

    assert cpus.usable_cpus() == usable


def test_most_workers_by_kind(quota: Quota) -> None:
    quota(v2="300000 100000\n")

    assert {kind: default_workers(kind) for kind in ("process", "thread", "async", "inline")} == {
        "process": 3,
        "thread": DEFAULT_THREADS,
        "async": DEFAULT_COROUTINES,
        "inline": 1,
    }


def test_kernel_kills_are_those_of_the_innermost_group_that_tells(mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a worker killed by hand while the kernel kills elsewhere on the machine would be named as one of those."""
    (mount / "vmstat").write_text("nr_free_pages 5\noom_kill 3\nnr_dirty 9\n")
    monkeypatch.setattr(oom, "_MACHINE", mount / "vmstat")
    (mount / "membership").write_text("4:memory:/slice/worker\n0::/\n")
    assert oom.kernel_kills() == 3

    (mount / "memory.events").write_text("low 0\noom 7\noom_kill 2\noom_group_kill 1\n")
    assert oom.kernel_kills() == 2

    slice_, worker = mount / "memory" / "slice", mount / "memory" / "slice" / "worker"
    worker.mkdir(parents=True)
    (slice_ / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 9\n")
    assert oom.kernel_kills() == 2

    (worker / "memory.oom_control").write_text("oom_kill_disable 1\nunder_oom 0\noom_kill 0\n")
    assert oom.kernel_kills() == 0


def test_a_system_that_does_not_tell_has_no_kills(mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oom, "_MACHINE", mount / "vmstat")

    assert oom.kernel_kills() == 0


def test_this_kernel_can_be_asked() -> None:
    assert oom.kernel_kills() >= 0
