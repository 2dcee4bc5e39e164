"""Every figure of a run as people read it, from each place that shows it, in one shape so that they can be compared."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.formats import (
    cut_middle,
    format_bytes,
    format_duration,
    format_milliseconds,
    format_number,
    format_share,
)

if TYPE_CHECKING:
    from playwright.sync_api import Locator

FATES = {
    "items_committed": "committed",
    "items_filtered": "filtered",
    "items_dead_lettered": "dead-lettered",
    "items_skipped": "skipped (already committed)",
    "items_unfinished": "unfinished",
}
ON_PAGE = {
    "items_committed": "committed",
    "items_filtered": "filtered",
    "items_dead_lettered": "failed",
    "items_skipped": "already committed",
    "items_unfinished": "unfinished",
}
HEAD = re.compile(
    r"Pipeline(?: \S.*?)?: (?P<state>\w+) in (?P<seconds>.+?), (?P<items_read>\S+) items, "
    r"(?P<rows_committed>\S+) rows, (?P<items_per_second>\S+) items/s\n"
    r"  items: (?P<fates>.+?); (?P<chunks_committed>\S+) chunks? committed(?:, (?P<chunks_skipped>\S+) skipped)?"
    r"(?:; (?P<rows_rejected>\S+) rows rejected)?\n"
    r"  (?P<cpu_seconds>.+?) of CPU, (?P<peak_rss_bytes>.+?) at most; "
    r"(?:one worker.* so (?P<speedup>\S+)x|not compared)"
)
CELLS = ("workers", "in", "out", "failed", "retried", "busy", "starved", "blocked", "queue", "p50", "p99")
OF_STAGE = ("workers", "out", "rows", "failed", "retried", "busy", "starved", "blocked", "peak", "p50", "p99")


def of_report(report: Mapping[str, Any]) -> dict[str, Any]:
    """From a report as data: the XCom of a run, or its snapshot."""
    shown: dict[str, Any] = {name: f"{report[name]:,}" for name in ("items_read", "rows_committed", "chunks_committed")}
    shown |= {name: f"{report[name]:,}" for name in FATES if report[name]}
    shown["state"] = report["state"]
    shown["chunks_skipped"] = f"{report['chunks_skipped']:,}" if report["chunks_skipped"] else None
    shown["rows_rejected"] = f"{report['rows_rejected']:,}" if report["rows_rejected"] else None
    shown["seconds"], shown["cpu_seconds"] = (format_duration(report[each]) for each in ("seconds", "cpu_seconds"))
    shown["items_per_second"] = format_number(report["items_per_second"])
    shown["peak_rss_bytes"] = format_bytes(report["peak_rss_bytes"])
    shown["speedup"] = None if report["speedup"] is None else format_number(report["speedup"])
    shown["bottleneck"], shown["advice"] = report["bottleneck"], report["advice"] or None
    shown["failures"] = [(f"{each['count']:,}", each["stage"], each["cause"]) for each in report["failures"]]
    for stage in report["stages"]:
        values = {
            "workers": f"{stage['workers']} {stage['kind']}",
            "out": f"{stage['items_out']:,}",
            "rows": f"{stage['rows_out']:,}" if stage["rows_out"] else None,
            "failed": f"{stage['failed']:,}",
            "retried": f"{stage['retried']:,}",
            **{kind: format_share(stage[f"{kind}_fraction"]) for kind in ("busy", "starved", "blocked")},
            "peak": f"{stage['queue_peak']:,}/{stage['queue_size']:,}",
            **{each: format_milliseconds(stage[f"{each}_ms"]) for each in ("p50", "p99")},
        }
        shown[f"stage {cut_middle(stage['name'], 24)}"] = {name: values[name] for name in OF_STAGE}
    return shown


def of_text(text: str, stages: list[str]) -> dict[str, Any]:
    """From the report as text, which may stand in a log.

    :param stages: names of the stages.
    """
    found = HEAD.search(text)
    assert found is not None, text
    shown: dict[str, Any] = found.groupdict()
    fates = shown.pop("fates").split(", ")
    shown |= {name: count for name, label in FATES.items() for count in _before(label, fates) if count != "0"}
    lines = text[found.end() :].splitlines()
    for name in (cut_middle(stage, 24) for stage in stages):
        (line,) = (each for each in lines if each.startswith(f"  {name}  "))
        cells = dict(zip(CELLS, re.split(r"\s{2,}", line[len(name) + 2 :].strip()), strict=True))
        out, _, rows = cells.pop("out").partition(" (")
        cells |= {"out": out, "rows": rows.removesuffix(" rows)") or None, "peak": cells["queue"]}
        shown[f"stage {name}"] = {each: cells[each] for each in OF_STAGE}
    shown["failures"] = [*_causes(lines)]
    said = [each for each in lines if each.startswith("bottleneck: ")]
    bottleneck, _, advice = said[0].removeprefix("bottleneck: ").partition(". ") if said else (None, "", None)
    return {**shown, "bottleneck": bottleneck, "advice": advice}


def _before(label: str, parts: list[str]) -> list[str]:
    return [each.removesuffix(label).strip() for each in parts if each.partition(" ")[2] == label]


def _causes(lines: list[str]) -> list[tuple[str, str, str]]:
    """The causes of the table, without the place of the first item."""
    try:
        begin = next(number for number, line in enumerate(lines) if line.split() == ["failed", "stage:", "cause"])
    except StopIteration:
        return []
    found = []
    for line in lines[begin + 1 :]:
        entry = re.fullmatch(r" *([\d,]+)  (.+?): (.+?)(?:, (?:first )?item \d+.*)?", line)
        if entry is None:
            break
        found.append((entry[1], entry[2], entry[3]))
    return found


def of_page(page: Locator, stages: list[str]) -> dict[str, Any]:
    """From the page of one try.

    :param page: its outermost element.
    """

    def figure(name: str) -> Locator:
        return page.locator(f'[data-figure="{name}"]').first

    names = ("items_read", "rows_committed", "chunks_committed", "items_per_second", "seconds", "cpu_seconds")
    shown: dict[str, Any] = {name: figure(name).inner_text() for name in (*names, "peak_rss_bytes")}
    shown["state"] = page.locator(".pp-header .pp-state").inner_text()
    legend = page.locator(".pp-box > .pp-legend").first.inner_text().splitlines()
    shown |= {name: count for name, label in ON_PAGE.items() for count in _before(label, legend)}
    numbers = page.locator(".pp-figures").first.inner_text()
    notes = {"chunks_skipped": "skipped: already", "speedup": "times faster", "rows_rejected": "rows rejected"}
    for name, words in notes.items():
        said = re.search(rf"(\S+) {words}", numbers)
        shown[name] = said and said[1]
    advice = figure("advice")
    shown["advice"] = advice.locator("p").inner_text() if advice.count() else None
    marked = page.locator("[data-stage]:has(.pp-chip-warn)")
    shown["bottleneck"] = marked.get_attribute("data-stage") if marked.count() else None
    rows = page.locator("section[aria-label='Failures by cause'] tbody tr").all()
    shown["failures"] = [tuple(row.locator("td").nth(at).inner_text() for at in range(3)) for row in rows]
    for name in stages:
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        text = page.locator(f'li:has([data-stage="{quoted}"])').inner_text()
        shown[f"stage {cut_middle(name, 24)}"] = _of_card(text)
    return shown


def _of_card(text: str) -> dict[str, Any]:
    def found(pattern: str, otherwise: str | None = None) -> str | None:
        match = re.search(pattern, text)
        return match[1] if match else otherwise

    kind = re.search(r"(\S+) (\w+) workers?", text)
    return {
        "workers": f"{kind[1]} {kind[2]}" if kind else None,
        "out": found(r"(\S+)\s+out"),
        "rows": found(r"\(([\d,]+) rows\)"),
        "failed": found(r"([\d,]+) failed(?! here)", "0"),
        "retried": found(r"([\d,]+) retried", "0"),
        **{each: found(rf"\b{each} (\d+%) ?(?:·|\n|$)") for each in ("busy", "starved", "blocked")},
        "peak": (found(r"(?:peak )?([\d,]+ / [\d,]+)") or "").replace(" ", ""),
        **{each: found(rf"{each} (\S+ \S+)") for each in ("p50", "p99")},
    }
