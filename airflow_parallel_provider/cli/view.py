# SPDX-License-Identifier: Apache-2.0
"""Shows a running pipeline: as a live table in a terminal, elsewhere as a line every few seconds."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, Self, TextIO

from airflow_parallel_provider.formats import format_done, format_duration, format_number, format_share
from airflow_parallel_provider.monitoring.history import items_done
from airflow_parallel_provider.monitoring.progress import Progress

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

Snapshot = Mapping[str, Any]

WIDE = 100
"""Columns of a terminal from which the live table has all its columns."""


class View(AbstractContextManager["View"], Protocol):
    """Shows snapshots of a run."""

    every: float
    """Seconds between two snapshots."""

    def show(self, snapshot: Snapshot) -> None:
        """Show the state of the run."""


def make_view(stream: TextIO, *, quiet: bool = False, every: float | None = None) -> View:
    """The view for an output stream: a live table for a terminal, lines for others, nothing if quiet.

    :param every: seconds between two snapshots; None: 0.2 in a terminal, 5 elsewhere.
    """
    if quiet:
        return NoView(every or 5.0)
    if stream.isatty():
        from rich.console import Console

        return LiveView(Console(file=stream), every or 0.2)
    return LineView(stream, every or 5.0)


def columns(stream: TextIO) -> int | None:
    """Columns of the terminal behind an output stream; None: it is none, so that lines may have any length."""
    return shutil.get_terminal_size().columns if stream.isatty() else None


class NoView:
    """Shows nothing."""

    def __init__(self, every: float) -> None:
        self.every = every

    def show(self, snapshot: Snapshot) -> None:
        """Do nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Speeds:
    """The present rate of each stage, from two snapshots at least a second apart."""

    def __init__(self) -> None:
        self._old: Snapshot | None = None
        self._new: Snapshot | None = None

    def add(self, snapshot: Snapshot) -> None:
        """Take the next snapshot."""
        if self._new is None or snapshot["seconds"] - self._new["seconds"] >= 1.0:
            self._old, self._new = self._new, snapshot

    def of(self, snapshot: Snapshot, number: int) -> tuple[float, float]:
        """Items per second that left stage ``number``, and the share of its workers' time spent in the function."""
        stage = snapshot["stages"][number]
        before = self._old or self._new
        if before is None or snapshot["seconds"] <= before["seconds"]:
            return 0.0, float(stage["busy_fraction"])
        seconds = snapshot["seconds"] - before["seconds"]
        then = before["stages"][number]
        busy = (
            (stage["busy_seconds"] - then["busy_seconds"]) / seconds / max(1, stage["workers_now"] or stage["workers"])
        )
        return (stage["items_out"] - then["items_out"]) / seconds, min(1.0, busy)


class LineView:
    """Writes a line every few seconds, and one at the end."""

    def __init__(self, stream: TextIO, every: float) -> None:
        self.every = every
        self._stream = stream
        self._progress = Progress()
        self._speeds = Speeds()

    def __enter__(self) -> Self:
        logging.basicConfig(stream=self._stream, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, snapshot: Snapshot) -> None:
        """Write one line."""
        self._progress.add(snapshot)
        self._speeds.add(snapshot)
        clock = time.strftime("%H:%M:%S")
        self._stream.write(f"{clock} {headline(snapshot, self._progress)}{self._stages(snapshot)}\n")
        self._stream.flush()

    def _stages(self, snapshot: Snapshot) -> str:
        parts = []
        for number, stage in enumerate(snapshot["stages"]):
            _, busy = self._speeds.of(snapshot, number)
            failed = f", {stage['failed']:,} failed" if stage["failed"] else ""
            parts.append(
                f"{stage['name']} queue {stage['queue_now']}/{stage['queue_size']} busy {format_share(busy)}{failed}"
            )
        return "; " + "; ".join(parts) if parts else ""


def headline(snapshot: Snapshot, progress: Progress) -> str:
    """Items done, the rate, and the time left."""
    done, total = items_done(snapshot), snapshot.get("items_total")
    parts = [f"{done:,} of {total:,} items ({format_done(done, total)})" if total else f"{done:,} items"]
    parts.append(f"{format_number(progress.rate)}/s")
    left = progress.seconds_left(snapshot)
    if left is not None and not snapshot.get("final"):
        parts.append(f"about {format_duration(left, estimate=True)} left")
    if snapshot["items_skipped"]:
        parts.append(f"{snapshot['items_skipped']:,} already committed")
    if snapshot["items_dead_lettered"]:
        parts.append(f"{snapshot['items_dead_lettered']:,} failed")
    return ", ".join(parts)


class LiveView:
    """A table that is redrawn with each snapshot, on the thread that runs the pipeline."""

    def __init__(self, console: Console, every: float) -> None:
        from rich.live import Live

        self.every = every
        self._console = console
        self._progress = Progress()
        self._speeds = Speeds()
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        from rich.logging import RichHandler

        handler = RichHandler(console=self._console, show_path=False)
        logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, snapshot: Snapshot) -> None:
        """Redraw the table."""
        self._progress.add(snapshot)
        self._speeds.add(snapshot)
        self._live.update(self.drawing(snapshot), refresh=True)

    def drawing(self, snapshot: Snapshot) -> RenderableType:
        """A progress bar and one line per stage."""
        from rich import box
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        total = snapshot.get("items_total")
        bar = ProgressBar(total=total, completed=items_done(snapshot), pulse=not total, width=None)
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        narrow = self._console.width < WIDE
        table.add_column("stage", style="bold")
        # No number is wrapped: half of one would be read as another number.
        table.add_column("workers", no_wrap=True)
        for name in ("in", "out", "items/s", "failed", *([] if narrow else ["retried"]), "busy"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("waiting", no_wrap=True)
        for number, stage in enumerate(snapshot["stages"]):
            rate, busy = self._speeds.of(snapshot, number)
            table.add_row(
                Text(stage["name"]),
                f"{stage['workers']} {stage['kind']}",
                f"{stage['items_in']:,}",
                f"{stage['items_out']:,}",
                format_number(rate),
                Text(f"{stage['failed']:,}", style="red" if stage["failed"] else ""),
                *([] if narrow else [f"{stage['retried']:,}"]),
                Text(format_share(busy), style="green" if busy > 0.8 else ""),
                fill(stage["queue_now"], stage["queue_size"], 0 if narrow else 10),
            )
        return Group(Text(headline(snapshot, self._progress)), bar, table)


def fill(now: int, size: int, width: int = 10) -> str:
    """How full a channel is: ``█████░░░░░ 50/100``; with a ``width`` of 0 without the bar."""
    if not size:
        return "-"
    if not width:
        return f"{now:,}/{size:,}"
    full = min(width, round(width * now / size))
    return f"{'█' * full}{'░' * (width - full)} {now:,}/{size:,}"
