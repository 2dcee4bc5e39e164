# SPDX-License-Identifier: Apache-2.0
"""A deployment's settings for all pipelines: the section ``[parallel_pipeline]`` of Airflow's configuration."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from airflow_parallel_provider.bridge import _compat
from airflow_parallel_provider.errors import PlanError

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.pipeline import Pipeline
    from airflow_parallel_provider.engine.plan.stage import Stage

SECTION: Final = "parallel_pipeline"

log = logging.getLogger(__name__)


@dataclass(frozen=True)  # without slots=True: read() takes the defaults from the class
class Settings:
    """The options as values; ``get_provider_info`` documents them."""

    max_processes: int = 0
    """Most worker processes of one task; 0: the deployment sets no limit."""
    memory_limit: int = 0
    """Bytes for a task and its workers where the author sets no limit; 0: no limit."""
    push_interval: float = 2.0
    """Seconds between two live snapshots."""
    table_url: str = ""
    """Template of the address of a page that shows a table."""

    @classmethod
    def read(cls) -> Settings:
        """Read the section.

        :raises PlanError: for an invalid value, naming the option.
        """
        return cls(
            max_processes=_number("max_processes", cls.max_processes, 0, 10_000),
            memory_limit=_number("memory_limit", cls.memory_limit, 0, 1 << 60),
            push_interval=_number("push_interval", cls.push_interval, 1, 3600),
            table_url=_compat.option(SECTION, "table_url") or "",
        )

    def apply(self, pipeline: Pipeline) -> None:
        """Keep a pipeline within the limits, and log what that changes."""
        if pipeline.memory_limit is None and self.memory_limit:
            pipeline.memory_limit = self.memory_limit
        if self.max_processes:
            pipeline.stages = tuple(capped(list(pipeline.stages), self.max_processes))


def capped(stages: list[Stage], most: int) -> list[Stage]:
    """The stages with at most ``most`` worker processes in total, at least one each."""
    processes = [stage for stage in stages if stage.kind == "process"]
    declared = sum(stage.worker_range[1] for stage in processes)
    if declared <= most:
        return stages
    share = max(1, most // len(processes))
    log.info("The deployment allows %d worker processes per task, so at most %d for each stage", most, share)
    return [_at_most(stage, share) if stage.kind == "process" else stage for stage in stages]


def _at_most(stage: Stage, share: int) -> Stage:
    low, high = (min(each, share) for each in stage.worker_range)
    ranged = isinstance(stage.workers, tuple) and low < high
    return replace(stage, workers=(low, high) if ranged else high)


def _number(name: str, default: Any, least: float, most: float) -> Any:
    text = _compat.option(SECTION, name)
    if text is None or not text.strip():
        return default
    try:
        value = type(default)(text)
    except ValueError:
        value = None
    if value is None or not least <= value <= most:
        raise PlanError(f"[{SECTION}] {name}", text, f"give a number between {least:g} and {most:g}")
    return value
