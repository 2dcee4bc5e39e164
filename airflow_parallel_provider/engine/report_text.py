"""A report as a person wants to read it: one line per stage, one per cause, the bottleneck and what to change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_parallel_provider.engine.report import RunReport, StageReport


def report_text(report: RunReport) -> str:
    """The report in lines of at most about 120 characters."""
    lines = [_headline(report), _fates(report), _effort(report), "", *_stage_table(report.stages)]
    if report.failures:
        lines += ["", f"{'failed':>9}  stage: cause"]
        lines += [f"{each['count']:>9,}  {each['stage']}: {each['cause']}" for each in report.failures[:10]]
        if len(report.failures) > 10:
            lines.append(f"{'':>9}  and {len(report.failures) - 10} more causes")
    if report.figures:
        lines += ["", *_figures(report.figures)]
    lines.append("")
    if report.bottleneck:
        lines.append(f"bottleneck: {report.bottleneck}. {report.advice}".rstrip())
    lines += [f"warning: {warning}" for warning in report.warnings]
    if report.error:
        lines.append(f"ended early: {report.error}")
    return "\n".join(lines).rstrip()


def _headline(report: RunReport) -> str:
    name = f" {report.name}" if report.name else ""
    return (
        f"Pipeline{name}: {report.state} in {duration(report.seconds)}, {report.items_read:,} items, "
        f"{report.rows_committed:,} rows, {report.items_per_second:,.0f} items/s"
    )


def _fates(report: RunReport) -> str:
    parts = [f"{report.items_committed:,} committed"]
    for label, count in (
        ("filtered", report.items_filtered),
        ("dead-lettered", report.items_dead_lettered),
        ("skipped (already committed)", report.items_skipped),
        ("unfinished", report.items_unfinished),
    ):
        if count:
            parts.append(f"{count:,} {label}")
    chunks = f"{report.chunks_committed:,} {'chunk' if report.chunks_committed == 1 else 'chunks'} committed"
    if report.chunks_skipped:
        chunks += f", {report.chunks_skipped:,} skipped"
    if report.rows_rejected:
        chunks += f"; {report.rows_rejected:,} rows rejected"
    return f"  items: {', '.join(parts)}; {chunks}"


def _figures(figures: Mapping[str, Any]) -> list[str]:
    width = max(map(len, figures))
    return [f"  {name.ljust(width)}  {_figure(figure)}" for name, figure in figures.items()]


def _figure(figure: Any) -> str:
    if isinstance(figure, Mapping):
        return ", ".join(f"{key}: {_figure(each)}" for key, each in figure.items())
    if isinstance(figure, (int, float)):
        return f"{figure:,}" if isinstance(figure, int) else f"{figure:,.6g}"
    return "-" if figure is None else str(figure)


def _effort(report: RunReport) -> str:
    return (
        f"  {duration(report.cpu_seconds)} of CPU, {report.peak_rss_bytes / 2**20:,.0f} MiB at most; one worker alone "
        f"about {duration(report.estimated_serial_seconds)}, so {report.speedup:.1f}x"
    )


def _stage_table(stages: Sequence[StageReport]) -> list[str]:
    rows = [("stage", "workers", "in", "out", "failed", "retried", "busy", "starved", "blocked", "queue", "p50", "p99")]
    rows += [
        (
            stage.name[:24],
            f"{stage.workers} {stage.kind}",
            f"{stage.items_in:,}",
            f"{stage.items_out:,}",
            f"{stage.failed:,}",
            f"{stage.retried:,}",
            f"{stage.busy_fraction:.0%}",
            f"{stage.starved_fraction:.0%}",
            f"{stage.blocked_fraction:.0%}",
            f"{stage.queue_peak:,}/{stage.queue_size:,}",
            _milliseconds(stage.p50_ms),
            _milliseconds(stage.p99_ms),
        )
        for stage in stages
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), row[1].ljust(widths[1])]
        cells += [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        lines.append("  " + "  ".join(cells).rstrip())
    return lines


def _milliseconds(value: float | None) -> str:
    if value is None:
        return "-"
    if value < 1:
        return f"{value * 1000:.0f} us"
    return f"{value:.1f} ms" if value < 1000 else f"{value / 1000:.1f} s"


def duration(seconds: float) -> str:
    """Seconds as a person says them: ``0.52 s``, ``41.3 s``, ``4 min 10 s``, ``2 h 05 min``."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 120:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 7200:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
