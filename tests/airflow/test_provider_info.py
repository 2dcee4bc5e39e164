"""What Airflow is told about this distribution: valid, complete, and true."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from importlib.metadata import distribution, entry_points
from pathlib import Path
from typing import Any

import pytest

from airflow_parallel_provider.get_provider_info import get_provider_info

PACKAGE = Path(__file__).parents[2] / "airflow_parallel_provider"


@pytest.mark.airflow
def test_airflows_schema_accepts_it() -> None:
    import airflow

    jsonschema = importlib.import_module("jsonschema")  # comes with Airflow, without types
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())

    jsonschema.validate(get_provider_info(), schema)


def test_name_is_that_of_the_distribution() -> None:
    """Airflow refuses a provider whose two names differ."""
    assert get_provider_info()["package-name"] == distribution("airflow-parallel-provider").metadata["Name"]


def test_entry_point_leads_here() -> None:
    (found,) = [each for each in entry_points(group="apache_airflow_provider") if each.value.startswith(PACKAGE.name)]

    assert found.load() is get_provider_info


def modules_in(folder: str) -> set[str]:
    files = (PACKAGE / folder).glob("*.py")
    return {f"{PACKAGE.name}.{folder}.{file.stem}" for file in files if not file.stem.startswith("_")}


@pytest.mark.parametrize("kind", ["operators", "hooks"])
def test_every_public_module_is_listed(kind: str) -> None:
    listed = {module for entry in get_provider_info()[kind] for module in entry["python-modules"]}

    assert listed == modules_in(kind)


@pytest.mark.airflow
def test_everything_named_can_be_imported() -> None:
    info = get_provider_info()

    for kind in ("operators", "hooks"):
        for entry in info[kind]:
            for module in entry["python-modules"]:
                importlib.import_module(module)
    for decorator in info["task-decorators"]:
        module, _, name = decorator["class-name"].rpartition(".")
        assert callable(getattr(importlib.import_module(module), name))


def airflow(*arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "airflow", *arguments, "--output", "json"],
        capture_output=True,
        text=True,
        timeout=55,
        check=True,
    )
    return json.loads(done.stdout[done.stdout.index("[") :])


@pytest.mark.airflow
def test_airflow_lists_the_provider() -> None:
    (ours,) = [each for each in airflow("providers", "list") if each["package_name"] == "airflow-parallel-provider"]

    assert ours["version"] == distribution("airflow-parallel-provider").version
    assert "parallel pipeline" in ours["description"]
