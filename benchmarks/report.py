"""Tables and the plot, made only from the JSON files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS, medians
from benchmarks.spec import OURS, Medians, Target, Workload
from benchmarks.workloads import NAMES, load

PAGE = Path(__file__).resolve().parent / "RESULTS.md"
PLOT = RESULTS / "results.svg"
HEAD = """# Results

<!-- Written by `make bench` from the JSON files in results/. Do not edit it; change benchmarks/report.py. -->

How the figures are measured, and how to read them: [README.md](README.md).
"""


def number(value: float | None) -> str:
    """A number with three digits."""
    if value is None:
        return "-"
    if value and abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}"


def ranked(workload: Workload, found: Medians) -> list[str]:
    """The contestants, best first."""
    return sorted(found, key=lambda name: found[name][workload.metric], reverse=workload.best == "high")


def failures(result: dict[str, Any]) -> list[str]:
    """One line for each contestant that failed, hung or left processes behind."""
    lines = []
    for name, each in result["contestants"].items():
        if each["failures"]:
            lines.append(f"{name}: failed {len(each['failures'])} of {len(each['runs'])} runs: {each['failures'][0]}")
        left = [run["left_behind"] for run in each["runs"] if run.get("left_behind")]
        if left:
            lines.append(f"{name}: left processes running after {len(left)} runs (up to {max(left)})")
    return lines


def rows(workload: Workload, result: dict[str, Any]) -> list[list[str]]:
    """The table of one workload: contestant, median, min to max, ratio, further metrics."""
    found = medians(result)
    reference = found.get(workload.reference, {}).get(workload.metric)
    table = []
    for name in ranked(workload, found):
        each, metric = result["contestants"][name], workload.metric
        value, low, high = (each[kind][metric] for kind in ("median", "min", "max"))
        table.append(
            [
                name,
                number(value),
                f"{number(low)} to {number(high)}",
                number(value / reference) if reference else "-",
                *(number(each["median"].get(more)) for more in workload.shows),
                str(sum("failed" not in run for run in each["runs"])),
            ]
        )
    return table


def head(workload: Workload) -> list[str]:
    """Column titles of :func:`rows`."""
    title = f"{workload.metric} ({workload.unit})"
    return ["contestant", title, "min to max", f"x {workload.reference}", *workload.shows, "runs"]


def text_table(workload: Workload, result: dict[str, Any]) -> str:
    """The table of one workload for the terminal."""
    table = [head(workload), *rows(workload, result)]
    widths = [max(len(row[at]) for row in table) for at in range(len(table[0]))]
    lines = ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in table]
    lines += [f"  ! {line}" for line in failures(result)]
    lines += [f"  {verdict(target, medians(result))}" for target in workload.targets]
    return "\n".join(["", *lines, ""])


def verdict(target: Target, found: Medians) -> str:
    """One target as a sentence."""
    value = target.value(found)
    if value is None:
        return f"{target.text}: NOT MEASURED"
    return f"{target.text}: {number(value)} {target.unit} -> {'met' if target.met(value) else missed(target, value)}"


def missed(target: Target, value: float) -> str:
    """By how much a target is missed."""
    if target.at_most:
        return f"missed, {number(value / target.goal)} x the limit"
    return f"missed, {number(value / target.goal * 100)} % of the goal"


# -- the page and the plot ----------------------------------------------------------------------------------------


def markdown(table: list[list[str]]) -> list[str]:
    """A table as Markdown."""
    return [f"| {' | '.join(row)} |" for row in (table[0], ["---"] * len(table[0]), *table[1:])]


def write() -> None:
    """Write RESULTS.md and draw the plot."""
    results = {
        name: json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
        for name in NAMES
        if (RESULTS / f"{name}.json").exists()
    }
    if not results:
        return
    lines = [HEAD, "## Targets", "", *_targets(results), "", *_machine(results), ""]
    lines += ["![All contestants](results/results.svg)", ""]
    for name, result in results.items():
        lines += _section(load(name), result)
    PAGE.write_text("\n".join(lines), encoding="utf-8")
    from benchmarks.plot import draw

    draw({name: (load(name), result) for name, result in results.items()}, PLOT)


def _targets(results: dict[str, Any]) -> list[str]:
    table = [["target", "measured", "", "best other contestant", "on"]]
    for name, result in results.items():
        workload, found = load(name), medians(result)
        for target in workload.targets:
            value = target.value(found)
            outcome = "not measured" if value is None else "met" if target.met(value) else missed(target, value)
            shown = number(value) + (f" {target.unit}" if target.unit and value is not None else "")
            where = result["machine"]["cpu_model"].split("@")[0].strip()
            table.append([target.text, shown, f"**{outcome}**", _best_other(workload, found), where])
    return markdown(table)


def _best_other(workload: Workload, found: Medians) -> str:
    others = [name for name in ranked(workload, found) if not name.startswith(OURS)]
    return f"{others[0]}: {number(found[others[0]][workload.metric])} {workload.unit}" if others else "-"


def _machine(results: dict[str, Any]) -> list[str]:
    each = next(iter(results.values()))
    machine, began = each["machine"], sorted(result["began"] for result in results.values())
    first, last = (when[:16].replace("T", " ") for when in (began[0], began[-1]))
    models = " or ".join(sorted({result["machine"]["cpu_model"] for result in results.values()}))
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    runs = [run for result in results.values() for one in result["contestants"].values() for run in one["runs"]]
    busy = sum(run.get("busy_before", 0.0) for run in runs) / max(1, len(runs))
    disturbed = sum(run.get("disturbed", False) for run in runs)
    line = (
        f"Measured {first} to {last} UTC on {machine['cpus']} cores of a shared "
        f"virtual machine ({models}, {machine['memory_gib']} GiB, {machine['system']}), "
        f"{machine['python']}; {versions}. Work of others before a run: {number(busy)} cores on average; "
        f"{disturbed} of {len(runs)} runs were disturbed by others and still counted after two repeats."
    )
    return [line]


def _section(workload: Workload, result: dict[str, Any]) -> list[str]:
    lines = [f"## {workload.title}", "", f"{result['what']}. Timed: {result['timed']}.".replace("..", ".")]
    lines += [f"Machine: {result['machine']['cpu_model']}, {result['began'][:10]}.", ""]
    lines += [*markdown([head(workload), *rows(workload, result)]), ""]
    if failed := failures(result):
        lines += [*(f"* {line}" for line in failed), ""]
    lines += ["<details><summary>How each one is configured</summary>", ""]
    lines += [f"* **{name}**: {each['config']}" for name, each in result["contestants"].items()]
    return [*lines, "", "</details>", ""]
