# SPDX-License-Identifier: Apache-2.0
"""The operator that runs items through one function into a sink."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.engine.plan.retry import Retry
from airflow_parallel_provider.engine.plan.stage import Stage
from airflow_parallel_provider.operators._arguments import refuse_set_arguments
from airflow_parallel_provider.operators.parallel_pipeline import ParallelPipelineOperator

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_parallel_provider.engine.interfaces.sink import Sink
    from airflow_parallel_provider.engine.plan.stage import Kind, Template, Workers


class ParallelMapOperator(ParallelPipelineOperator):
    """Run items through one function into a sink.

    ::

        ParallelMapOperator(
            task_id="fetch_prices",
            items=list_urls.output,
            function=fetch_price,
            workers=16,
            sink=SinkTable("prices", conn_id="warehouse"),
        )

    :param items: ``source`` of :class:`ParallelPipelineOperator`. (templated, as ``source``)
    :param function: takes one item (with ``batch_size`` a list of items) and returns a row or ``DROP``, or yields any
        number of rows.
    :param sink: where the rows go. (templated)
    :param workers: as in :class:`Stage`, like the following arguments. (templated)
    :param kind: ``"thread"``, ``"process"``, ``"async"`` or ``"inline"``.
    :param batch_size: items per call. (templated)
    :param retry: how often a failed call is retried; None: never.
    :param item_timeout: seconds one call may take. (templated)
    :param kwargs: all other arguments of :class:`ParallelPipelineOperator` but ``source`` and ``stages``.
    :raises PlanError: when the DAG is parsed, for every error that is visible then.
    """

    def __init__(
        self,
        *,
        items: Any,
        function: Callable[..., Any],
        sink: Sink | Callable[[list[Any]], object],
        workers: Workers | Template = "auto",
        kind: Kind = "thread",
        batch_size: int | Template | None = None,
        retry: Retry | None = None,
        item_timeout: float | Template | None = None,
        **kwargs: Any,
    ) -> None:
        refuse_set_arguments(kwargs, {"stages": "give the function as function=", "source": "give the items as items="})
        stage = Stage(
            function,
            workers=workers,
            kind=kind,
            batch_size=batch_size,
            retry=Retry(1) if retry is None else retry,
            timeout=item_timeout,
        )
        super().__init__(source=items, stages=[stage], sink=sink, **kwargs)
