# SPDX-License-Identifier: Apache-2.0
"""``loadtest``: runs a pipeline under load and faults, and judges the result."""

from __future__ import annotations

import json as json_format
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.cli.interrupts import Interrupts
from airflow_parallel_provider.cli.loadtest.plan import prepare
from airflow_parallel_provider.cli.loadtest.result import judge
from airflow_parallel_provider.cli.loadtest.sampling import Sampler
from airflow_parallel_provider.cli.loadtest.text import result_text
from airflow_parallel_provider.cli.view import View, columns, make_view
from airflow_parallel_provider.errors import RunFailed

if TYPE_CHECKING:
    from airflow_parallel_provider.cli.loadtest.settings import LoadTestSettings
    from airflow_parallel_provider.engine.pipeline import Pipeline

_SAMPLES = 80
"""Approximate number of samples for a run of known duration."""
_LEAST_PAUSE, _MOST_PAUSE = 0.05, 0.5


def run_load_test(pipeline: Pipeline, settings: LoadTestSettings, *, target: str, json: bool, quiet: bool) -> int:
    """Run the load test, judge it and print the result. Returns the exit code.

    :raises PlanError: when the pipeline does not fit the settings.
    """
    test = prepare(pipeline, settings)
    sampler = Sampler()
    every = _LEAST_PAUSE if settings.seconds is None else settings.seconds / _SAMPLES
    error: RunFailed | None = None
    with Interrupts() as interrupts, make_view(sys.stderr, quiet=quiet) as view:
        watcher = _Watcher(sampler, view)
        try:
            report = test.pipeline.run(
                stop=interrupts.token,
                observe=watcher.observe,
                observe_every=min(_MOST_PAUSE, max(_LEAST_PAUSE, every)),
            )
        except RunFailed as failed:
            if failed.report is None:
                raise
            error, report = failed, failed.report
    result = judge(test, settings, report, sampler.samples, error)
    if test.faults is not None:
        test.faults.close()
    values = {"target": target, **result.as_dict()}
    sys.stdout.write(json_format.dumps(values, indent=2) if json else result_text(result, columns(sys.stdout)))
    sys.stdout.write("\n")
    return interrupts.exit_code or (0 if result.passed else 1)


class _Watcher:
    """Takes a sample of every snapshot and shows some of them."""

    def __init__(self, sampler: Sampler, view: View) -> None:
        self._sampler = sampler
        self._view = view
        self._next = 0.0

    def observe(self, snapshot: Mapping[str, Any]) -> None:
        self._sampler.add(snapshot)
        if snapshot["seconds"] >= self._next or snapshot["final"]:
            self._next = snapshot["seconds"] + self._view.every
            self._view.show(snapshot)
