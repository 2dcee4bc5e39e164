# SPDX-License-Identifier: Apache-2.0
"""The return value of a task: a report small enough to read in XCom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from airflow_parallel_provider.monitoring.json_values import to_json_value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_parallel_provider.report import RunReport

REPORT_KEY: Final = "pipeline_report"
"""XCom key of the report of a try that failed; a task that fails has no return value."""
_CAUSES, _STAGES = 10, 30


def summary_of(report: RunReport, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The report as plain JSON of a few kilobytes: all counts, the ten most frequent causes, short samples, no series.

    With more causes, ``failures_omitted`` has the number of the others and of their items.

    :param facts: values that come before the report's own (load key, sink, attempt).
    """
    full = report.as_dict()
    full.pop("series", None)  # a time series is unreadable in an XCom
    short = {**full, "failures": full["failures"][:_CAUSES], "stages": full["stages"][:_STAGES]}
    if rest := full["failures"][_CAUSES:]:
        short["failures_omitted"] = {"causes": len(rest), "items": sum(each["count"] for each in rest)}
    plain: dict[str, Any] = to_json_value({**facts, **short}, text_limit=500)
    return plain
