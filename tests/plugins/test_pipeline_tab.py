"""The plugin of the Pipeline tab: what Airflow's own code makes of it. The page itself is tested in a browser."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import entry_points, version
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_parallel_provider.plugins.pipeline_tab import PipelineTabPlugin

pytestmark = pytest.mark.airflow


@pytest.fixture
def plugin() -> PipelineTabPlugin:
    """A fresh one: its properties are evaluated once."""
    from airflow_parallel_provider.plugins.pipeline_tab import PipelineTabPlugin

    return PipelineTabPlugin()


@pytest.fixture
def static() -> Path:
    from airflow_parallel_provider.plugins.static_files import FOLDER

    return FOLDER


def test_airflow_finds_it_by_its_entry_point() -> None:
    (found,) = (each for each in entry_points(group="airflow.plugins") if each.name == "parallel_pipeline")

    assert found.load().name == "parallel_pipeline"


def test_its_apps_are_what_the_api_answers(plugin: PipelineTabPlugin, monkeypatch: pytest.MonkeyPatch) -> None:
    """One wrong value in one plugin takes the pages of all plugins away."""
    from airflow.api_fastapi.core_api.datamodels.plugins import ExternalViewResponse, ReactAppResponse

    monkeypatch.setenv("AIRFLOW__PARALLEL_PIPELINE__IFRAME_TAB", "True")
    apps = [ReactAppResponse.model_validate(each) for each in plugin.react_apps]
    (view,) = [ExternalViewResponse.model_validate(each) for each in plugin.external_views]

    assert [each.destination for each in apps] == ["task_instance", "dag_run"]
    routes = [*(each.url_route for each in apps), view.url_route]
    assert len(set(routes)) == 3
    assert all(route and not route.startswith("/") for route in routes)
    assert "{DAG_ID}/{RUN_ID}/{TASK_ID}/{MAP_INDEX}" in view.href.partition("#")[2]


def test_there_is_no_frame_unless_somebody_asks_for_it(plugin: PipelineTabPlugin) -> None:
    assert plugin.external_views == []


def test_addresses_are_absolute_and_know_the_base_url(
    plugin: PipelineTabPlugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://example.com/team/airflow/")

    addresses = {app["bundle_url"] for app in plugin.react_apps}

    assert addresses == {f"/team/airflow/parallel-pipeline/static/react.js?v={version('airflow-parallel-provider')}"}


def test_the_server_has_files_and_nothing_else(plugin: PipelineTabPlugin) -> None:
    from fastapi.testclient import TestClient

    (mounted,) = plugin.fastapi_apps
    client = TestClient(mounted["app"])

    answer = client.get("/static/react.js")
    assert answer.status_code == 200
    assert "javascript" in answer.headers["content-type"]
    assert answer.headers["cache-control"] == "no-cache"
    assert client.get("/static/react.js", headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
    for path in (
        "/",
        "/docs",
        "/openapi.json",
        "/static/",
        "/static/../pipeline_tab.py",
        "/static/%2e%2e/pipeline_tab.py",
    ):
        assert client.get(path).status_code == 404, path


def test_importing_the_plugin_costs_a_task_nothing() -> None:
    code = (
        "import sys, airflow.plugins_manager; before = set(sys.modules)\n"
        "from airflow_parallel_provider.plugins.pipeline_tab import PipelineTabPlugin as plugin\n"
        "plugin()\nimport json; print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=170, check=True)
    loaded: list[str] = json.loads(done.stdout.splitlines()[-1])

    ours = [name for name in loaded if not name.startswith("airflow_parallel_provider")]
    assert [name for name in ours if name.partition(".")[0] in {"fastapi", "starlette", "pandas", "sqlalchemy"}] == []


def test_text_of_pipelines_never_becomes_markup(static: Path) -> None:
    forbidden = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc")
    scripts: dict[str, Any] = {each.name: each.read_text(encoding="utf-8") for each in static.glob("*.js")}

    assert len(scripts) > 5
    assert [name for name, text in scripts.items() if forbidden.search(text)] == []


def test_the_page_needs_nothing_from_elsewhere(static: Path) -> None:
    """No CDN, no font, no tracker: many Airflows have no way out."""
    for each in static.iterdir():
        addresses = re.findall(r"https?://[\w./-]+", each.read_text(encoding="utf-8"))
        assert set(addresses) <= {"http://www.w3.org/2000/svg"}, each.name
