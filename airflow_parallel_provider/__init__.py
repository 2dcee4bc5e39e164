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
    from airflow_parallel_provider.engine.pipeline import Pipeline
    from airflow_parallel_provider.engine.report import RunReport, StageReport
    from airflow_parallel_provider.engine.retry import Retry
    from airflow_parallel_provider.engine.sink import ChunkResult, DeadLetter, ListSink, Sink
    from airflow_parallel_provider.engine.source import Source
    from airflow_parallel_provider.engine.stage import Stage
    from airflow_parallel_provider.engine.stop import StopToken
    from airflow_parallel_provider.engine.subtasks import sub_map
    from airflow_parallel_provider.engine.values import DROP
    from airflow_parallel_provider.errors import ParallelError, PlanError, RunFailed
    from airflow_parallel_provider.hooks.sink_table import SinkTableHook
    from airflow_parallel_provider.operators.parallel_pipeline import ParallelPipelineOperator
    from airflow_parallel_provider.operators.ready import (
        FilesToTableOperator,
        ParallelMapOperator,
        TableToTableOperator,
    )
    from airflow_parallel_provider.operators.replay_dead_letters import ReplayDeadLettersOperator
    from airflow_parallel_provider.sinks.aggregates.declare import Aggregate
    from airflow_parallel_provider.sinks.files import SinkFiles
    from airflow_parallel_provider.sinks.letter_files import DeadLetterFiles
    from airflow_parallel_provider.sinks.table import SinkTable
    from airflow_parallel_provider.sources.brokers import Broker, Message, RabbitQueue, RedisStream
    from airflow_parallel_provider.sources.files import FilesSource
    from airflow_parallel_provider.sources.http import HttpPagesSource
    from airflow_parallel_provider.sources.pubsub import PubSubSubscription
    from airflow_parallel_provider.sources.queues import QueueSource
    from airflow_parallel_provider.sources.sql import SqlSource
    from airflow_parallel_provider.sources.sqs import SqsQueue
    from airflow_parallel_provider.sources.storage import SourceFile

__version__ = "0.1.0"

_WHERE = {
    "Aggregate": "sinks.aggregates.declare",
    "Broker": "sources.brokers",
    "ChunkResult": "engine.sink",
    "ConnectionInfo": "bridge.task_info",
    "DROP": "engine.values",
    "DeadLetter": "engine.sink",
    "DeadLetterFiles": "sinks.letter_files",
    "FilesSource": "sources.files",
    "FilesToTableOperator": "operators.ready",
    "HttpPagesSource": "sources.http",
    "ListSink": "engine.sink",
    "Message": "sources.brokers",
    "ParallelError": "errors",
    "ParallelMapOperator": "operators.ready",
    "ParallelPipelineOperator": "operators.parallel_pipeline",
    "Pipeline": "engine.pipeline",
    "PlanError": "errors",
    "PubSubSubscription": "sources.pubsub",
    "QueueSource": "sources.queues",
    "RabbitQueue": "sources.brokers",
    "RedisStream": "sources.brokers",
    "ReplayDeadLettersOperator": "operators.replay_dead_letters",
    "Retry": "engine.retry",
    "RunFailed": "errors",
    "RunReport": "engine.report",
    "Sink": "engine.sink",
    "SinkFiles": "sinks.files",
    "SinkTable": "sinks.table",
    "SinkTableHook": "hooks.sink_table",
    "SourceFile": "sources.storage",
    "SqlSource": "sources.sql",
    "Source": "engine.source",
    "SqsQueue": "sources.sqs",
    "Stage": "engine.stage",
    "StageReport": "engine.report",
    "StopToken": "engine.stop",
    "TaskInfo": "bridge.task_info",
    "get_connection_info": "bridge.task_info",
    "get_task_info": "bridge.task_info",
    "TableToTableOperator": "operators.ready",
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
