"""A whole parallel pipeline inside one Airflow task.

Everything public is exported from here, lazily: every Airflow process imports every provider, so importing this package
must cost nothing (a test holds that).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_parallel_provider.bridge.task_info import (
        ConnectionInfo,
        TaskInfo,
        get_connection_info,
        get_task_info,
        task_info_is,
    )
    from airflow_parallel_provider.engine.interfaces.drop import DROP
    from airflow_parallel_provider.engine.interfaces.records import ChunkResult, DeadLetter
    from airflow_parallel_provider.engine.interfaces.sink import ListSink, Sink
    from airflow_parallel_provider.engine.interfaces.source import Source
    from airflow_parallel_provider.engine.interfaces.stop import StopToken
    from airflow_parallel_provider.engine.pipeline import Pipeline
    from airflow_parallel_provider.engine.plan.retry import Retry
    from airflow_parallel_provider.engine.plan.stage import Stage
    from airflow_parallel_provider.engine.subtasks import sub_map
    from airflow_parallel_provider.errors import ParallelError, PlanError, RunFailed
    from airflow_parallel_provider.hooks.sink_table import SinkTableHook
    from airflow_parallel_provider.operators.files_to_table import FilesToTableOperator
    from airflow_parallel_provider.operators.parallel_map import ParallelMapOperator
    from airflow_parallel_provider.operators.parallel_pipeline import ParallelPipelineOperator
    from airflow_parallel_provider.operators.replay_dead_letters import ReplayDeadLettersOperator
    from airflow_parallel_provider.operators.table_to_table import TableToTableOperator
    from airflow_parallel_provider.report import RunReport, StageReport
    from airflow_parallel_provider.sinks.aggregates.declare import Aggregate
    from airflow_parallel_provider.sinks.files.sink_files import SinkFiles
    from airflow_parallel_provider.sinks.spec.dead_letter_files import DeadLetterFiles
    from airflow_parallel_provider.sinks.table import SinkTable
    from airflow_parallel_provider.sources.files.files_source import FilesSource
    from airflow_parallel_provider.sources.http.http_source import HttpPagesSource
    from airflow_parallel_provider.sources.queue.broker import Broker
    from airflow_parallel_provider.sources.queue.pubsub import PubSubSubscription
    from airflow_parallel_provider.sources.queue.queue_source import QueueSource
    from airflow_parallel_provider.sources.queue.rabbitmq import RabbitQueue
    from airflow_parallel_provider.sources.queue.redis_stream import RedisStream
    from airflow_parallel_provider.sources.queue.sqs import SqsQueue
    from airflow_parallel_provider.sources.sql.sql_source import SqlSource
    from airflow_parallel_provider.values.items import Message, SourceFile

__version__ = "0.1.0"

_WHERE = {
    "Aggregate": "sinks.aggregates.declare",
    "Broker": "sources.queue.broker",
    "ChunkResult": "engine.interfaces.records",
    "ConnectionInfo": "bridge.task_info",
    "DROP": "engine.interfaces.drop",
    "DeadLetter": "engine.interfaces.records",
    "DeadLetterFiles": "sinks.spec.dead_letter_files",
    "FilesSource": "sources.files.files_source",
    "FilesToTableOperator": "operators.files_to_table",
    "HttpPagesSource": "sources.http.http_source",
    "ListSink": "engine.interfaces.sink",
    "Message": "values.items",
    "ParallelError": "errors",
    "ParallelMapOperator": "operators.parallel_map",
    "ParallelPipelineOperator": "operators.parallel_pipeline",
    "Pipeline": "engine.pipeline",
    "PlanError": "errors",
    "PubSubSubscription": "sources.queue.pubsub",
    "QueueSource": "sources.queue.queue_source",
    "RabbitQueue": "sources.queue.rabbitmq",
    "RedisStream": "sources.queue.redis_stream",
    "ReplayDeadLettersOperator": "operators.replay_dead_letters",
    "Retry": "engine.plan.retry",
    "RunFailed": "errors",
    "RunReport": "report",
    "Sink": "engine.interfaces.sink",
    "SinkFiles": "sinks.files.sink_files",
    "SinkTable": "sinks.table",
    "SinkTableHook": "hooks.sink_table",
    "Source": "engine.interfaces.source",
    "SourceFile": "values.items",
    "SqlSource": "sources.sql.sql_source",
    "SqsQueue": "sources.queue.sqs",
    "Stage": "engine.plan.stage",
    "StageReport": "report",
    "StopToken": "engine.interfaces.stop",
    "TableToTableOperator": "operators.table_to_table",
    "TaskInfo": "bridge.task_info",
    "get_connection_info": "bridge.task_info",
    "get_task_info": "bridge.task_info",
    "sub_map": "engine.subtasks",
    "task_info_is": "bridge.task_info",
}

__all__ = [
    "DROP",
    "Aggregate",
    "Broker",
    "ChunkResult",
    "ConnectionInfo",
    "DeadLetter",
    "DeadLetterFiles",
    "FilesSource",
    "FilesToTableOperator",
    "HttpPagesSource",
    "ListSink",
    "Message",
    "ParallelError",
    "ParallelMapOperator",
    "ParallelPipelineOperator",
    "Pipeline",
    "PlanError",
    "PubSubSubscription",
    "QueueSource",
    "RabbitQueue",
    "RedisStream",
    "ReplayDeadLettersOperator",
    "Retry",
    "RunFailed",
    "RunReport",
    "Sink",
    "SinkFiles",
    "SinkTable",
    "SinkTableHook",
    "Source",
    "SourceFile",
    "SqlSource",
    "SqsQueue",
    "Stage",
    "StageReport",
    "StopToken",
    "TableToTableOperator",
    "TaskInfo",
    "get_connection_info",
    "get_task_info",
    "sub_map",
    "task_info_is",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
