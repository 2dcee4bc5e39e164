"""The progress views, drawn from snapshots with known numbers."""

from __future__ import annotations

import io
from typing import Any

import pytest

from airflow_parallel_provider.cli.view import LineView, LiveView, NoView, Speeds, columns, fill, make_view


def snapshot(seconds: float, done: int, *, total: int | None = 400, final: bool = False) -> dict[str, Any]:
    stage = {
        "name": "fetch",
        "kind": "thread",
        "workers": 4,
        "workers_now": 4,
        "items_in": done + 25,
        "items_out": done,
        "failed": 2,
        "retried": 3,
        "queue_now": 25,
        "queue_size": 50,
        "busy_fraction": 0.5,
        "busy_seconds": seconds * 2,
    }
    return {
        "seconds": seconds,
        "items_total": total,
        "items_committed": done - 2,
        "items_filtered": 0,
        "items_dead_lettered": 2,
        "items_skipped": 0,
        "final": final,
        "stages": [stage, {**stage, "name": "[save]", "failed": 0, "queue_now": 0, "queue_size": 0}],
    }


def test_lines() -> None:
    stream = io.StringIO()
    with LineView(stream, 5.0) as view:
        view.show(snapshot(1.0, 100))
        view.show(snapshot(2.0, 200))
        view.show(snapshot(4.0, 400, final=True))

    lines = [line.split(" ", 1)[1] for line in stream.getvalue().splitlines()]
    assert lines[1] == (
        "200 of 400 items (50%), 100/s, about 2 s left, 2 failed; "
        "fetch queue 25/50 busy 50%, 2 failed; [save] queue 0/0 busy 50%"
    )
    assert lines[2].startswith("400 of 400 items (100%), 100/s, 2 failed; ")


def test_a_live_table() -> None:
    from rich.console import Console

    stream = io.StringIO()
    with LiveView(Console(file=stream, force_terminal=True, width=110, color_system=None), 0.2) as view:
        view.show(snapshot(1.0, 100, total=None))
        view.show(snapshot(2.0, 200, total=None))

    drawn = stream.getvalue()
    assert "200 items, 100/s, 2 failed" in drawn
    assert "█████░░░░░ 25/50" in drawn or "█████░░░░░ 25/50" in drawn.replace("\x1b[0m", "")
    row = next(line for line in drawn.splitlines()[::-1] if "fetch" in line)
    assert row.split()[:9] == ["fetch", "4", "thread", "225", "200", "100", "2", "3", "50%"]
    assert "[save]" in drawn  # a name is no markup


def test_no_number_of_a_narrow_table_is_wrapped() -> None:
    from rich.console import Console

    stream = io.StringIO()
    with LiveView(Console(file=stream, force_terminal=True, width=80, color_system=None), 0.2) as view:
        view.show(snapshot(1.0, 1_234_567))

    row = next(line for line in stream.getvalue().splitlines()[::-1] if "fetch" in line)
    assert row.split() == ["fetch", "4", "thread", "1,234,592", "1,234,567", "0", "2", "50%", "25/50"]


def test_only_a_terminal_has_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "77")

    assert columns(Terminal()) == 77
    assert columns(io.StringIO()) is None


def test_speeds_are_those_of_the_last_second_or_two() -> None:
    speeds = Speeds()
    for at in (1.0, 1.5, 2.0, 3.0):
        speeds.add(snapshot(at, int(at * 100)))
    late = snapshot(4.0, 900)

    speeds.add(late)
    rate, busy = speeds.of(late, 0)

    assert rate == 600
    assert busy == 0.5


def test_before_there_are_two_snapshots() -> None:
    speeds = Speeds()
    speeds.add(snapshot(1.0, 100))

    assert speeds.of(snapshot(1.0, 100), 0) == (0.0, 0.5)


@pytest.mark.parametrize(
    ("now", "size", "text"),
    [(0, 10, "░░░░░░░░░░ 0/10"), (10, 10, "██████████ 10/10"), (1234, 5000, "██░░░░░░░░ 1,234/5,000"), (0, 0, "-")],
)
def test_fill(now: int, size: int, text: str) -> None:
    assert fill(now, size) == text


def test_the_view_suits_the_stream() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    kinds = [type(make_view(stream, quiet=quiet)) for stream, quiet in ((io.StringIO(), False), (Terminal(), False))]

    assert kinds == [LineView, LiveView]
    assert isinstance(make_view(Terminal(), quiet=True), NoView)
    assert make_view(io.StringIO(), every=3).every == 3
