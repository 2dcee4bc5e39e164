# SPDX-License-Identifier: Apache-2.0
"""The tab "Pipeline" on the pages of a task instance and of a DAG run.

Every Airflow process imports this module, tasks included, so the import must cost nothing. What only the API server
needs is imported inside the properties that it reads.

The page is a hand-written ES module that uses the React of Airflow's own page; there is nothing to build. It reads
Airflow's public REST API with the cookie of the user, so it shows exactly what this user may read. The plugin has no
data route of its own that could show more.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from airflow.plugins_manager import AirflowPlugin

if TYPE_CHECKING:
    from fastapi import FastAPI

URL_PREFIX: Final = "/parallel-pipeline"
"""Path of the plugin's files on the API server, below the path of ``[api] base_url``."""

_FRAME: Final = "pipeline.html#/{DAG_ID}/{RUN_ID}/{TASK_ID}/{MAP_INDEX}"
"""The ids are in the fragment: there the ``+`` of a run id survives, and no access log contains them."""


def static_url(name: str) -> str:
    """Path of one of the files. Airflow 3.1 and 3.2 import it as it is, so it is absolute, base path included."""
    from airflow.providers.common.compat.sdk import conf

    base = urlsplit(conf.get("api", "base_url", fallback="/") or "/").path.rstrip("/")
    return f"{base}{URL_PREFIX}/static/{name}"


def _version() -> str:
    from importlib.metadata import version

    return version("airflow-parallel-provider")


class PipelineTabPlugin(AirflowPlugin):  # type: ignore[misc]  # followed into Airflow, mypy takes minutes
    """Registered by the entry point ``airflow.plugins``, which creates an instance: properties are evaluated late."""

    name = "parallel_pipeline"

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:
        """The app that serves the static files; only the API server reads this property."""
        return [{"app": self._app(), "url_prefix": URL_PREFIX, "name": "Parallel pipelines"}]

    @cached_property
    def react_apps(self) -> list[dict[str, Any]]:
        """The tab of a task instance and the tab of a DAG run: one bundle, one component.

        The name is also the key under which Airflow keeps the component in the browser's global object, so it must not
        be a name that browsers define.
        """
        app = {
            "name": "Pipeline",
            "bundle_url": f"{static_url('react.js')}?v={_version()}",
            "icon": static_url("icon.svg"),
            "icon_dark_mode": static_url("icon-dark.svg"),
        }
        return [
            {**app, "destination": "task_instance", "url_route": "pipeline"},
            {**app, "destination": "dag_run", "url_route": "pipelines"},
        ]

    @cached_property
    def external_views(self) -> list[dict[str, Any]]:
        """The same page in a frame, where ``[parallel_pipeline] iframe_tab`` is set."""
        from airflow.providers.common.compat.sdk import conf

        if not conf.getboolean("parallel_pipeline", "iframe_tab", fallback=False):
            return []
        return [
            {
                "name": "Pipeline (frame)",
                "href": static_url(_FRAME),
                "destination": "task_instance",
                "url_route": "pipeline-frame",
                "icon": static_url("icon.svg"),
                "icon_dark_mode": static_url("icon-dark.svg"),
            }
        ]

    @staticmethod
    def _app() -> FastAPI:
        from airflow_parallel_provider.plugins.static_files import create_app

        return create_app()
