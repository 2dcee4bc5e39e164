"""What ``make dist`` builds, installed into a fresh environment that holds nothing else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

import airflow_parallel_provider

ROOT = Path(__file__).parents[1]
PACKAGE = "airflow_parallel_provider"
BUILD = ("--quiet", "--offline", "--no-build-isolation")
"""As in the Makefile: nothing is downloaded, and hatchling is the one of this environment."""

LOOK = f"""
import importlib.metadata, importlib.util, json, sys
import {PACKAGE}
distribution = importlib.metadata.distribution("airflow-parallel-provider")
print(json.dumps({{
    "version": [distribution.version, {PACKAGE}.__version__],
    "file": {PACKAGE}.__file__,
    "entry_points": sorted([each.group, each.name, each.value] for each in distribution.entry_points),
    "airflow": importlib.util.find_spec("airflow") is not None,
}}))
"""


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def uv() -> Path:
    found = Path(sys.executable).with_name("uv")
    assert found.exists(), "run `make install`: it puts uv next to python"
    return found


@pytest.fixture(scope="module")
def dist(uv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(uv, "build", *BUILD, "--python", sys.executable, "--out-dir", folder, ROOT)
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (found,) = dist.glob("*.whl")
    return found


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def test_the_wheel_holds_the_whole_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    here = {path for path in (ROOT / PACKAGE).rglob("*") if path.is_file() and "__pycache__" not in path.parts}

    assert names == {path.relative_to(ROOT).as_posix() for path in here}
    assert f"{PACKAGE}/py.typed" in names
    assert {f"{PACKAGE}/plugins/static/{name}" for name in ("pipeline.html", "pipeline.css", "mount.js")} <= names


def test_the_sdist_holds_what_the_wheel_is_built_and_tested_from(dist: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    needed = {"pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "NOTICE", "Makefile", "constraints.txt"}
    assert needed <= names
    assert {"tests/conftest.py", "docs/conf.py", f"{PACKAGE}/__init__.py"} <= names


def test_metadata_has_the_addresses_and_the_version(wheel: Path) -> None:
    found = metadata(wheel)

    assert found["Version"] == airflow_parallel_provider.__version__
    assert found["License-Expression"] == "Apache-2.0"
    assert set(found.get_all("License-File", [])) == {"LICENSE", "NOTICE"}
    addresses = {text.partition(",")[0] for text in found.get_all("Project-URL", [])}
    assert addresses == {"Homepage", "Documentation", "Source", "Changelog", "Issues"}


def test_links_of_the_long_description_lead_somewhere(wheel: Path) -> None:
    """The package index shows it at another address, where links of the repository would lead nowhere."""
    found = metadata(wheel)
    text = found.get_payload()
    assert isinstance(text, str)
    assert found["Description-Content-Type"] == "text/markdown"

    targets = re.findall(r"\]\(([^)]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    ours = [
        re.fullmatch(rf"https://(?:raw\.)?github[^/]*/.+?/v{found['Version']}/([^#]+)(?:#.*)?", each)
        for each in targets
    ]

    assert len(targets) > 20
    assert [each for each, there in zip(targets, ours, strict=True) if there is None] == []
    assert [there[1] for there in ours if there is not None and not (ROOT / there[1]).exists()] == []


def test_it_installs_and_imports_without_airflow(uv: Path, wheel: Path, tmp_path: Path) -> None:
    """Every Airflow process imports a provider, so the import itself may need nothing."""
    home = tmp_path / "fresh"
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    run(uv, "pip", "install", "--quiet", "--offline", "--no-index", "--no-deps", "--python", python, wheel)

    told = json.loads(run(python, "-I", "-c", LOOK))

    assert told["version"] == [airflow_parallel_provider.__version__] * 2
    assert Path(told["file"]).is_relative_to(home)
    assert told["airflow"] is False
    assert told["entry_points"] == [
        ["airflow.plugins", "parallel_pipeline", f"{PACKAGE}.plugins.pipeline_tab:PipelineTabPlugin"],
        ["apache_airflow_provider", "provider_info", f"{PACKAGE}.get_provider_info:get_provider_info"],
    ]
