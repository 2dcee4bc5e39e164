# SPDX-License-Identifier: Apache-2.0
"""The provider's metadata for Airflow. Airflow reads it in every process, so this module imports nothing else."""

from __future__ import annotations

from typing import Any

_NAME = "Parallel pipelines"
_CONFIG = "A deployment's defaults and limits for all pipelines that run inside tasks."


def _option(kind: str, default: str | None, example: str | None, description: str) -> dict[str, Any]:
    return {
        "description": description,
        "version_added": "0.1.0",
        "type": kind,
        "example": example,
        "default": default,
    }


_OPTIONS = {
    "max_processes": _option(
        "integer",
        "0",
        "8",
        "Most worker processes of one task, all its stages together (each stage keeps at least one). "
        "0: no limit besides the CPUs that the task may use.",
    ),
    "memory_limit": _option(
        "integer",
        "0",
        "4000000000",
        "Limit in bytes for the resident memory of a task and its workers, where the author sets none; from 85 % of it "
        "the source is slowed. 0: no limit.",
    ),
    "push_interval": _option(
        "float",
        "2.0",
        "5",
        "Least seconds between two live snapshots of a running pipeline in XCom. After the first minute it is never "
        "less than 5.",
    ),
    "table_url": _option(
        "string",
        "",
        "https://console.example.com/{conn_id}/{schema}/{table}",
        'Address of a page that shows a table, with {conn_id}, {schema} and {table}; the links "Sink table" and '
        '"Dead letters" of a task lead there. Empty: no links.',
    ),
    "iframe_tab": _option(
        "boolean",
        "False",
        None,
        "Show the Pipeline tab of a task instance a second time, in a frame: for deployments where the script of a "
        "plugin may not run on Airflow's own page.",
    ),
}


def get_provider_info() -> dict[str, Any]:
    """The metadata in the form of ``provider_info.schema.json``, for the entry point ``apache_airflow_provider``."""
    return {
        "package-name": "airflow-parallel-provider",
        "name": _NAME,
        "description": (
            "A whole parallel pipeline inside one task: stages of threads, processes and coroutines, "
            "each chunk of rows committed exactly once."
        ),
        "integrations": [{"integration-name": _NAME, "tags": ["software"]}],
        "operators": [
            {
                "integration-name": _NAME,
                "python-modules": [
                    "airflow_parallel_provider.operators.parallel_pipeline",
                    "airflow_parallel_provider.operators.files_to_table",
                    "airflow_parallel_provider.operators.table_to_table",
                    "airflow_parallel_provider.operators.parallel_map",
                    "airflow_parallel_provider.operators.replay_dead_letters",
                    "airflow_parallel_provider.operators.sharded",
                ],
            }
        ],
        "hooks": [
            {
                "integration-name": _NAME,
                "python-modules": ["airflow_parallel_provider.hooks.sink_table"],
            }
        ],
        "extra-links": [
            "airflow_parallel_provider.bridge.links.SinkTableLink",
            "airflow_parallel_provider.bridge.links.DeadLettersLink",
        ],
        "config": {"parallel_pipeline": {"description": _CONFIG, "options": _OPTIONS}},
        "task-decorators": [
            {
                "name": "parallel_pipeline",
                "class-name": "airflow_parallel_provider.decorators.parallel_pipeline.parallel_pipeline_task",
            }
        ],
    }
