# SPDX-License-Identifier: Apache-2.0
"""One load over several machines: a task group of a beginning, mapped shards, and an end."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from airflow.sdk import TaskGroup

from airflow_parallel_provider.checks import check_whole
from airflow_parallel_provider.engine.plan.templates import is_template, rendered_number
from airflow_parallel_provider.engine.shards.executors import check_factory
from airflow_parallel_provider.errors import PlanError
from airflow_parallel_provider.operators import _arguments as arguments

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_parallel_provider.bridge.sent_shards import SentTo
    from airflow_parallel_provider.engine.pipeline import Pipeline

MOST_SHARDS = 4096

_ONLY = {
    "plan": ("trigger_rule", "depends_on_past", "wait_for_downstream", "ignore_first_depends_on_past"),
    "shard": ("map_index_template", "max_active_tis_per_dag", "max_active_tis_per_dagrun"),
    "finish": ("outlets", "inlets"),
}
"""Arguments of an operator that belong to one of the three tasks."""


class ShardedPipeline(TaskGroup):
    """The task group of a sharded pipeline: ``plan``, ``shard`` (mapped) and ``finish``."""

    @property
    def output(self) -> Any:
        """The summary of the whole load, as ``finish`` returns it; for other tasks."""
        finish: Any = self.children[f"{self.group_id}.finish"]
        return finish.output


def sharded_pipeline(operator: Any, task_id: str, shards: int | str, given: Mapping[str, Any]) -> Any:
    """Make the group, or the task that coordinates; see :meth:`ParallelPipelineOperator.sharded`.

    :param operator: the class of its three tasks.
    :param given: arguments of the operator.
    """
    check_shards(shards)
    for name in ("part", "shard"):
        if name in given:
            raise PlanError(name, given[name], "sharded() decides that; leave it out")
    if given.get("shards_on") is not None:
        return operator(task_id=task_id, shards=shards, **given)
    common = {name: value for name, value in given.items() if not any(name in names for names in _ONLY.values())}
    for name in ("source", "items"):  # a function has the same text in every parse only in this form
        if name in common:
            common[name] = arguments.declared_source(common[name])
    own = {part: {name: given[name] for name in names if name in given} for part, names in _ONLY.items()}
    dag = common.pop("dag", None)
    group = ShardedPipeline(group_id=task_id, **({} if dag is None else {"dag": dag}))
    with group:
        plan = operator(task_id="plan", part="plan", shards=shards, **common, **own["plan"])
        mapped = operator.partial(task_id="shard", part="shard", **common, **own["shard"]).expand(shard=plan.output)
        finish = operator(task_id="finish", part="finish", shard=plan.output, **common, **own["finish"])
        mapped >> finish
    if not plan.retries:
        warnings.warn(
            f"{task_id}: retries=0: a lost machine would fail the run. Give the shards retries=2 or more and a short "
            "retry_delay; Airflow notices a lost machine after [scheduler] task_instance_heartbeat_timeout (300 s)",
            UserWarning,
            stacklevel=3,
        )
    return group


def check_shards(shards: object) -> None:
    """Check a number of shards when the DAG is parsed.

    :raises PlanError: if it is neither a number nor a template.
    """
    if not is_template(shards):
        check_whole("shards", shards, 1, MOST_SHARDS)


def check_where(operator: Any, pipeline: Pipeline) -> None:
    """Check where the shards of an operator run, when the DAG is parsed.

    :raises PlanError: if that is not clear.
    :raises NotPicklable: if the pipeline cannot travel there.
    """
    if operator.shards_on is not None:
        from airflow_parallel_provider.engine.shards.shipping import ship

        ship(pipeline, None)
        check_factory(operator.shards_on)
        check_shards(operator.shards)
        check_whole("shard_tries", operator.shard_tries)
    elif operator.shards is not None and operator.part is None:
        cure = f"one task does not spread its load: write {type(operator).__name__}.sharded(...), or shards_on=..."
        raise PlanError("shards", operator.shards, cure)


def sent_to(operator: Any) -> SentTo | None:
    """Where an operator that is rendered sends its shards; None: it runs its pipeline itself."""
    from airflow_parallel_provider.bridge.sent_shards import SentTo

    if operator.shards_on is None:
        return None
    return SentTo(rendered_shards(operator.shards), operator.shards_on, operator.shard_tries)


def rendered_shards(shards: Any) -> int:
    """The number of shards, once Airflow has rendered it.

    :raises PlanError: if it is no number.
    """
    count = rendered_number("shards", shards, optional=False)
    check_whole("shards", count, 1, MOST_SHARDS)
    return int(count)
