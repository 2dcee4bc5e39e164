# SPDX-License-Identifier: Apache-2.0
"""``run``: runs one pipeline with a live view, then prints its report."""

from __future__ import annotations

import json as json_format
import sys
from typing import TYPE_CHECKING

from airflow_parallel_provider.cli.counting import CountingSink
from airflow_parallel_provider.cli.interrupts import Interrupts
from airflow_parallel_provider.cli.view import columns, make_view
from airflow_parallel_provider.errors import RunFailed
from airflow_parallel_provider.report import report_text
from airflow_parallel_provider.testing.rebuild import rebuilt

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.pipeline import Pipeline
    from airflow_parallel_provider.report import RunReport


def run(pipeline: Pipeline, *, json: bool, quiet: bool) -> int:
    """Run a pipeline, show its progress and print its report. Returns the exit code.

    :raises PlanError: when the pipeline cannot run as it is declared.
    """
    if pipeline.sink is None:
        pipeline = rebuilt(pipeline, sink=CountingSink())
    error: RunFailed | None = None
    report: RunReport | None
    with Interrupts() as interrupts, make_view(sys.stderr, quiet=quiet) as view:
        try:
            report = pipeline.run(stop=interrupts.token, observe=view.show, observe_every=view.every)
        except RunFailed as failed:
            error, report = failed, failed.report
    if report is not None:
        text = json_format.dumps(report.as_dict(), indent=2) if json else report_text(report, columns(sys.stdout))
        sys.stdout.write(f"{text}\n")
    if error is None:
        return 0
    sys.stdout.flush()  # keeps the order of the two streams on a terminal
    sys.stderr.write(f"{type(error).__name__}: {error}\n")
    return interrupts.exit_code or 1
