"""One panel per workload: every contestant's median as a bar, min to max as a line, goals dashed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.harness import medians
from benchmarks.spec import OURS, Workload

OURS_COLOR, PEER_COLOR, RANGE_COLOR, GOAL_COLOR = "#1f6f8b", "#b8c4cc", "#3c4852", "#c0392b"


def draw(results: dict[str, tuple[Workload, dict[str, Any]]], file: Path) -> None:
    """Write the SVG."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.fonttype"] = "none"
    mpl.rcParams["svg.hashsalt"] = "benchmarks"  # the same results give the same file
    import matplotlib.pyplot as plt

    columns = 2
    lines = -(-len(results) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(15, 3.6 * lines), layout="constrained", squeeze=False)
    for axis in axes.flat[len(results) :]:
        axis.set_visible(False)
    for axis, (workload, result) in zip(axes.flat, results.values(), strict=False):
        _panel(axis, workload, result)
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)


def _panel(axis: Any, workload: Workload, result: dict[str, Any]) -> None:
    metric, found = workload.metric, medians(result)
    names = sorted(found, key=lambda name: found[name][metric], reverse=workload.best == "low")
    values = [found[name][metric] for name in names]
    for at, name in enumerate(names):
        each = result["contestants"][name]
        axis.barh(at, values[at], color=OURS_COLOR if name.startswith(OURS) else PEER_COLOR)
        axis.plot([each["min"][metric], each["max"][metric]], [at, at], color=RANGE_COLOR, linewidth=1)
        axis.annotate(
            f" {values[at]:,.3g}" if values[at] < 1000 else f" {values[at]:,.0f}",
            (max(values[at], each["max"][metric]), at), va="center", fontsize=8,
        )  # fmt: skip
    if max(values) > 50 * max(min(values), 1e-9):
        axis.set_xscale("log")
    for target in workload.targets:
        value = target.value(found)
        if value and target.of in found:
            axis.axvline(found[target.of][metric] * target.goal / value, color=GOAL_COLOR, linestyle="--", linewidth=1)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.margins(x=0.15)
    better = "more is better" if workload.best == "high" else "less is better"
    axis.set_title(workload.title, fontsize=10, loc="left")
    axis.set_xlabel(f"{metric} ({workload.unit}), {better}", fontsize=8)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
