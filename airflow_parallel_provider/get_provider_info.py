"""What this distribution adds to Airflow. Airflow reads it in every process, so nothing is imported here."""

from __future__ import annotations

from typing import Any

_NAME = "Parallel pipelines"


def get_provider_info() -> dict[str, Any]:
    """The answer to the entry point ``apache_airflow_provider``, as ``provider_info.schema.json`` wants it."""
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
                    "airflow_parallel_provider.operators.ready",
                    "airflow_parallel_provider.operators.replay_dead_letters",
                ],
            }
        ],
        "hooks": [
            {
                "integration-name": _NAME,
                "python-modules": ["airflow_parallel_provider.hooks.sink_table"],
            }
        ],
        "task-decorators": [
            {
                "name": "parallel_pipeline",
                "class-name": "airflow_parallel_provider.decorators.parallel_pipeline.parallel_pipeline_task",
            }
        ],
        "config": {
            "parallel_pipeline": {
                "description": "Deployment-wide settings of parallel pipelines.",
                "options": {
                    "iframe_tab": {
                        "description": (
                            "Show the Pipeline tab of a task instance a second time, in a frame: for deployments where "
                            "the script of a plugin may not run in Airflow's own page."
                        ),
                        "version_added": "0.1.0",
                        "type": "boolean",
                        "example": None,
                        "default": "False",
                    },
                },
            },
        },
    }
