"""How busy a machine is with other programs, from made-up and from real counters."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_parallel_provider.engine.resources import machine_load
from airflow_parallel_provider.engine.resources.machine_load import MachineTimes, other_load


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[MachineTimes | None]:
    """What the machine says; change the only entry."""
    said: list[MachineTimes | None] = [None]
    monkeypatch.setattr(MachineTimes, "now", classmethod(lambda _: said[0]))
    return said


@pytest.mark.parametrize(
    ("busy", "idle", "own", "expected"),
    [
        (20.0, 0.0, 20.0, 0.0),
        (20.0, 0.0, 11.0, 0.45),
        (19.0, 1.0, 9.0, 0.5),
        (17.0, 3.0, 1.0, 0.0),  # CPUs were idle: nothing was taken away
        (10.0, 0.0, 12.0, 0.0),  # counters of processes are finer than those of the machine
        (1.0, 0.5, 0.0, None),  # too short to say
    ],
)
def test_share_of_other_programs(
    now: list[MachineTimes | None], busy: float, idle: float, own: float, expected: float | None
) -> None:
    now[0] = MachineTimes(100.0 + busy, 50.0 + idle)

    assert other_load(MachineTimes(100.0, 50.0), own) == (expected if expected is None else pytest.approx(expected))


def test_unknown_where_the_machine_does_not_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine_load, "_STAT", tmp_path / "none")

    assert MachineTimes.now() is None
    assert other_load(None, 1.0) is None
    assert other_load(MachineTimes(1.0, 1.0), 1.0) is None


def test_counters_of_the_kernel_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 10 50 700 40 5 5 10 99 9\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
    monkeypatch.setattr(machine_load, "_STAT", stat)
    monkeypatch.setattr("os.sysconf", lambda _: 100)

    assert MachineTimes.now() == MachineTimes(busy=1.8, idle=7.4)
