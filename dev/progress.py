"""Shows a pipeline's live metrics: as a progress bar in a terminal, as lines elsewhere."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Protocol

from rich.progress import BarColumn, MofNCompleteColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from airflow_parallel_provider.report import RunReport, StageReport

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.console import Console

LINE_EVERY = 2.0
"""Seconds between two lines without a terminal."""
WAITING_EVERY = 5.0
"""The same as long as nothing but the waiting changes."""


class Progress(Protocol):
    """Shows the progress of a pipeline."""

    def show(self, metrics: Mapping[str, Any]) -> None:
        """Show one snapshot: the keys of ``RunReport.as_dict()`` and ``items_total``."""

    def waiting(self, text: str) -> None:
        """Say what is waited for, as long as there is no snapshot."""


@contextmanager
def progress_on(console: Console, title: str) -> Iterator[Progress]:
    """A progress bar if the console is a terminal, else lines."""
    if not console.is_terminal:
        yield _Lines(console, title)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[detail]}"),
        TimeElapsedColumn(),
    )
    with RichProgress(*columns, console=console, transient=False) as bar:
        yield _Bar(bar, title)


class _Bar:
    def __init__(self, bar: RichProgress, title: str) -> None:
        self.bar = bar
        self.task = bar.add_task(title, total=None, detail="waiting for the task to start")

    def show(self, metrics: Mapping[str, Any]) -> None:
        self.bar.update(
            self.task, total=metrics["items_total"], completed=items_done(metrics), detail=rows_and_rate(metrics)
        )

    def waiting(self, text: str) -> None:
        self.bar.update(self.task, detail=text)


class _Lines:
    def __init__(self, console: Console, title: str) -> None:
        self.console = console
        self.title = title
        self.next_line = 0.0
        self.last = ""

    def show(self, metrics: Mapping[str, Any]) -> None:
        total = metrics["items_total"]
        of_total = f"/{total:,}" if total is not None else ""
        line = (
            f"{self.title}: {items_done(metrics):,}{of_total} items, {rows_and_rate(metrics)}, {busy_stages(metrics)}"
        )
        due = time.monotonic() >= self.next_line or metrics["final"]
        if due and line != self.last:
            self.console.print(line, markup=False, soft_wrap=True)
            self.last = line
            self.next_line = time.monotonic() + LINE_EVERY

    def waiting(self, text: str) -> None:
        if text != self.last or time.monotonic() >= self.next_line:
            self.console.print(f"  {text}", markup=False, soft_wrap=True)
            self.last, self.next_line = text, time.monotonic() + WAITING_EVERY


def items_done(metrics: Mapping[str, Any]) -> int:
    """Items that are done: committed, filtered, dead-lettered or skipped."""
    fates = ("items_committed", "items_filtered", "items_dead_lettered", "items_skipped")
    return sum(metrics[fate] for fate in fates)


def rows_and_rate(metrics: Mapping[str, Any]) -> str:
    """Rows in the table, and rows per second so far."""
    rows = metrics["rows_committed"]
    rate = rows / metrics["seconds"] if metrics["seconds"] else 0.0
    return f"{rows:,} rows, {rate:,.0f} rows/s"


def busy_stages(metrics: Mapping[str, Any]) -> str:
    """The busy share of each stage, which shows a bottleneck."""
    return ", ".join(f"{stage['name']} {stage['busy_fraction']:.0%} busy" for stage in metrics["stages"])


def report_of(metrics: Mapping[str, Any]) -> RunReport:
    """The report that a snapshot contains; its ``str`` is the readable form."""
    stages = [StageReport(**_only_fields(StageReport, stage)) for stage in metrics["stages"]]
    return RunReport(**(_only_fields(RunReport, metrics) | {"stages": stages}))


def _only_fields(kind: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    return {field.name: values[field.name] for field in fields(kind) if field.name in values}
