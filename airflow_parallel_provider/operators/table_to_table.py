# SPDX-License-Identifier: Apache-2.0
"""The operator that copies the rows of one table into another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.engine.plan.stage import Stage
from airflow_parallel_provider.errors import PlanError
from airflow_parallel_provider.operators._arguments import ONE_STAGE, refuse_set_arguments, transform_stages
from airflow_parallel_provider.operators.parallel_pipeline import ParallelPipelineOperator
from airflow_parallel_provider.sources.sql.sql_source import SqlSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_parallel_provider.engine.interfaces.sink import Sink


class TableToTableOperator(ParallelPipelineOperator):
    """Copy the rows of a table into another one, in any two databases, each row exactly once.

    ::

        TableToTableOperator(
            task_id="copy_orders",
            source=SqlSource("orders", conn_id="shop", key="id"),
            sink=SinkTable("orders", conn_id="warehouse", write_disposition="merge", primary_key=["id"]),
        )

    :param source: a ``SqlSource``. (templated)
    :param sink: a ``SinkTable``, or any other sink. (templated)
    :param transform: as in :class:`FilesToTableOperator`.
    :param chunk_size: rows per transaction. (templated)
    :param kwargs: all other arguments of :class:`ParallelPipelineOperator` but ``stages``.
    :raises PlanError: when the DAG is parsed, for every error that is visible then.
    """

    def __init__(
        self,
        *,
        source: SqlSource,
        sink: Sink | Callable[[list[Any]], object],
        transform: Callable[[Any], Any] | Stage | None = None,
        chunk_size: int | str = 10_000,
        **kwargs: Any,
    ) -> None:
        refuse_set_arguments(
            kwargs,
            {"stages": ONE_STAGE},
        )
        if not isinstance(source, SqlSource):
            raise PlanError("source", source, 'give a SqlSource("table", conn_id=..., key=...)')
        super().__init__(source=source, stages=transform_stages(transform), sink=sink, chunk_size=chunk_size, **kwargs)
