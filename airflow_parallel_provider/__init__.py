# SPDX-License-Identifier: Apache-2.0
"""A whole parallel pipeline inside one Airflow task.

Everything public is exported from here, lazily: every Airflow process imports every provider, so importing this package
must cost nothing (a test holds that).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_parallel_provider.bridge.task_info import ConnectionInfo as ConnectionInfo
    from airflow_parallel_provider.bridge.task_info import TaskInfo as TaskInfo
    from airflow_parallel_provider.bridge.task_info import get_connection_info as get_connection_info
    from airflow_parallel_provider.bridge.task_info import get_task_info as get_task_info
    from airflow_parallel_provider.bridge.task_info import task_info_is as task_info_is
    from airflow_parallel_provider.engine.functions.worker_info import WorkerInfo as WorkerInfo
    from airflow_parallel_provider.engine.functions.worker_info import get_worker_info as get_worker_info
    from airflow_parallel_provider.engine.functions.worker_info import worker_info_is as worker_info_is
    from airflow_parallel_provider.engine.interfaces.drop import DROP as DROP
    from airflow_parallel_provider.engine.interfaces.records import ChunkResult as ChunkResult
    from airflow_parallel_provider.engine.interfaces.records import DeadLetter as DeadLetter
    from airflow_parallel_provider.engine.interfaces.sink import ListSink as ListSink
    from airflow_parallel_provider.engine.interfaces.sink import Sink as Sink
    from airflow_parallel_provider.engine.interfaces.source import Source as Source
    from airflow_parallel_provider.engine.interfaces.stop import StopToken as StopToken
    from airflow_parallel_provider.engine.pipeline import Pipeline as Pipeline
    from airflow_parallel_provider.engine.plan.retry import Retry as Retry
    from airflow_parallel_provider.engine.plan.stage import Stage as Stage
    from airflow_parallel_provider.engine.subtasks import sub_map as sub_map
    from airflow_parallel_provider.errors import ParallelError as ParallelError
    from airflow_parallel_provider.errors import PlanError as PlanError
    from airflow_parallel_provider.errors import RunFailed as RunFailed
    from airflow_parallel_provider.hooks.sink_table import SinkTableHook as SinkTableHook
    from airflow_parallel_provider.on_ray import ray_executor as ray_executor
    from airflow_parallel_provider.operators.files_to_table import FilesToTableOperator as FilesToTableOperator
    from airflow_parallel_provider.operators.parallel_map import ParallelMapOperator as ParallelMapOperator
    from airflow_parallel_provider.operators.parallel_pipeline import (
        ParallelPipelineOperator as ParallelPipelineOperator,
    )
    from airflow_parallel_provider.operators.replay_dead_letters import (
        ReplayDeadLettersOperator as ReplayDeadLettersOperator,
    )
    from airflow_parallel_provider.operators.table_to_table import TableToTableOperator as TableToTableOperator
    from airflow_parallel_provider.report import RunReport as RunReport
    from airflow_parallel_provider.report import StageReport as StageReport
    from airflow_parallel_provider.sinks.aggregates.declare import Aggregate as Aggregate
    from airflow_parallel_provider.sinks.files.sink_files import SinkFiles as SinkFiles
    from airflow_parallel_provider.sinks.lakes.delta.sink_delta import SinkDelta as SinkDelta
    from airflow_parallel_provider.sinks.lakes.iceberg.sink_iceberg import SinkIceberg as SinkIceberg
    from airflow_parallel_provider.sinks.spec.dead_letter_files import DeadLetterFiles as DeadLetterFiles
    from airflow_parallel_provider.sinks.table import SinkTable as SinkTable
    from airflow_parallel_provider.sources.files.files_source import FilesSource as FilesSource
    from airflow_parallel_provider.sources.http.auth import OAuthClientCredentials as OAuthClientCredentials
    from airflow_parallel_provider.sources.http.http_source import HttpPagesSource as HttpPagesSource
    from airflow_parallel_provider.sources.queue.broker import Broker as Broker
    from airflow_parallel_provider.sources.queue.pubsub import PubSubSubscription as PubSubSubscription
    from airflow_parallel_provider.sources.queue.queue_source import QueueSource as QueueSource
    from airflow_parallel_provider.sources.queue.rabbitmq import RabbitQueue as RabbitQueue
    from airflow_parallel_provider.sources.queue.redis_stream import RedisStream as RedisStream
    from airflow_parallel_provider.sources.queue.sqs import SqsQueue as SqsQueue
    from airflow_parallel_provider.sources.sql.sql_source import SqlSource as SqlSource
    from airflow_parallel_provider.values.intervals import Interval as Interval
    from airflow_parallel_provider.values.items import Message as Message
    from airflow_parallel_provider.values.items import SourceFile as SourceFile
    from airflow_parallel_provider.values.json_text import JsonText as JsonText
else:

    def __getattr__(name: str) -> Any:
        from airflow_parallel_provider.lazy_exports import load_export

        return load_export(__name__, _EXPORTS, name)


__version__ = "0.1.0"

_EXPORTS = {
    "bridge.task_info": ["ConnectionInfo", "TaskInfo", "get_connection_info", "get_task_info", "task_info_is"],
    "engine.functions.worker_info": ["WorkerInfo", "get_worker_info", "worker_info_is"],
    "engine.interfaces.drop": ["DROP"],
    "engine.interfaces.records": ["ChunkResult", "DeadLetter"],
    "engine.interfaces.sink": ["ListSink", "Sink"],
    "engine.interfaces.source": ["Source"],
    "engine.interfaces.stop": ["StopToken"],
    "engine.pipeline": ["Pipeline"],
    "engine.plan.retry": ["Retry"],
    "engine.plan.stage": ["Stage"],
    "engine.subtasks": ["sub_map"],
    "errors": ["ParallelError", "PlanError", "RunFailed"],
    "hooks.sink_table": ["SinkTableHook"],
    "on_ray": ["ray_executor"],
    "operators.files_to_table": ["FilesToTableOperator"],
    "operators.parallel_map": ["ParallelMapOperator"],
    "operators.parallel_pipeline": ["ParallelPipelineOperator"],
    "operators.replay_dead_letters": ["ReplayDeadLettersOperator"],
    "operators.table_to_table": ["TableToTableOperator"],
    "report": ["RunReport", "StageReport"],
    "sinks.aggregates.declare": ["Aggregate"],
    "sinks.spec.dead_letter_files": ["DeadLetterFiles"],
    "sinks.files.sink_files": ["SinkFiles"],
    "sinks.lakes.delta.sink_delta": ["SinkDelta"],
    "sinks.lakes.iceberg.sink_iceberg": ["SinkIceberg"],
    "sinks.table": ["SinkTable"],
    "sources.files.files_source": ["FilesSource"],
    "sources.http.auth": ["OAuthClientCredentials"],
    "sources.http.http_source": ["HttpPagesSource"],
    "sources.queue.broker": ["Broker"],
    "sources.queue.pubsub": ["PubSubSubscription"],
    "sources.queue.queue_source": ["QueueSource"],
    "sources.queue.rabbitmq": ["RabbitQueue"],
    "sources.queue.redis_stream": ["RedisStream"],
    "sources.queue.sqs": ["SqsQueue"],
    "sources.sql.sql_source": ["SqlSource"],
    "values.intervals": ["Interval"],
    "values.items": ["Message", "SourceFile"],
    "values.json_text": ["JsonText"],
}
"""Every public name, by the module that defines it. A test compares it with the imports for type checkers above."""

__all__ = sorted(name for names in _EXPORTS.values() for name in names)  # noqa: PLE0605 - a list, but no literal


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
