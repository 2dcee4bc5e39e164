"""What Airflow learns about this distribution: valid, complete and true."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import distribution, entry_points
from pathlib import Path
from typing import Any

import pytest

from airflow_parallel_provider.get_provider_info import get_provider_info

NAME = "airflow-parallel-provider"
OPTIONS = {"max_processes", "memory_limit", "push_interval", "table_url", "iframe_tab"}
PACKAGE = Path(__file__).parents[1] / "airflow_parallel_provider"


@pytest.mark.airflow
def test_airflows_schema_accepts_it() -> None:
    import airflow

    jsonschema = importlib.import_module("jsonschema")  # comes with Airflow, without types
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())

    jsonschema.validate(get_provider_info(), schema)


def test_name_is_that_of_the_distribution() -> None:
    """Airflow refuses a provider whose two names differ."""
    assert get_provider_info()["package-name"] == distribution(NAME).metadata["Name"]


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


# -- what Airflow's own command line says -------------------------------------------------------------------------


_ANSWER_EACH = """
import os, sys
from airflow.__main__ import main

output = sys.argv[1]
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        sys.argv = ["airflow", *line.split()]
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT), 1)
        main()
        sys.exit()
    print(os.waitpid(child, 0)[1], flush=True)
"""

Said = Callable[..., str]


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Said]:
    """What ``airflow ARGUMENTS`` prints. Its imports take seconds: they are done once, each command is a fork."""
    output = tmp_path_factory.mktemp("said") / "output"
    command = [sys.executable, "-c", _ANSWER_EACH, str(output)]
    with subprocess.Popen(command, text=True, bufsize=1, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:

        def ask(*arguments: str) -> str:
            output.unlink(missing_ok=True)
            print(*arguments, file=process.stdin)
            assert process.stdout is not None
            assert process.stdout.readline() == "0\n", "airflow has failed; see its errors above"
            return output.read_text()

        yield ask


def listed(said: Said, *arguments: str) -> list[dict[str, Any]]:
    """The table that ``airflow ARGUMENTS`` prints."""
    text = said(*arguments, "--output", "json")
    rows: list[dict[str, Any]] = json.loads(text[text.index("[") :])
    return rows


@pytest.mark.airflow
def test_providers_list(said: Said) -> None:
    (ours,) = [each for each in listed(said, "providers", "list") if each["package_name"] == NAME]

    assert ours["version"] == distribution(NAME).version
    assert "parallel pipeline" in ours["description"]


@pytest.mark.airflow
def test_providers_get(said: Said) -> None:
    """All of what this distribution says of itself has come through Airflow's checks."""
    (told,) = listed(said, "providers", "get", NAME, "--full")
    info = get_provider_info()

    assert told["package-name"] == NAME
    assert told["name"] == info["name"]
    for name in ("integrations", "operators", "hooks", "extra-links", "task-decorators"):
        assert as_value(told[name]) == info[name], name
    assert set(as_value(told["config"])["parallel_pipeline"]["options"]) == OPTIONS


def as_value(shown: Any) -> Any:
    """A part of the provider info: some versions print it as the text that Python makes of it."""
    return ast.literal_eval(shown) if isinstance(shown, str) else shown


@pytest.mark.airflow
def test_providers_hooks(said: Said) -> None:
    """No connection type of ours: a sink table takes that of its database."""
    hooks = {each["connection_type"]: each for each in listed(said, "providers", "hooks")}

    assert hooks["sqlite"]["class"].endswith("SqliteHook")
    assert not [each for each in hooks.values() if each["package_name"] == NAME]


@pytest.mark.airflow
def test_providers_widgets(said: Said) -> None:
    """A form in Airflow's interface asks for nothing of ours."""
    assert NAME not in {each["package_name"] for each in listed(said, "providers", "widgets")}


@pytest.mark.airflow
def test_providers_links(said: Said) -> None:
    links = {each["extra_link_class_name"] for each in listed(said, "providers", "links")}

    assert set(get_provider_info()["extra-links"]) <= links
    for each in get_provider_info()["extra-links"]:
        module, _, name = each.rpartition(".")
        assert getattr(importlib.import_module(module), name).name


@pytest.mark.airflow
def test_providers_configs(said: Said) -> None:
    sections = dict(each["provider_config"] for each in listed(said, "providers", "configs"))

    assert set(sections[NAME]["parallel_pipeline"]["options"]) == OPTIONS


@pytest.mark.airflow
def test_config_has_our_section_with_its_defaults(said: Said) -> None:
    text = said("config", "list", "--section", "parallel_pipeline", "--include-descriptions")

    assert set(re.findall(r"^#?\s*(\w+) = ", text, re.MULTILINE)) == OPTIONS
    assert "Most worker processes of one task" in text
    assert said("config", "get-value", "parallel_pipeline", "push_interval").strip().endswith("2.0")


@pytest.mark.airflow
def test_plugins(said: Said) -> None:
    (ours,) = [each for each in listed(said, "plugins") if each["name"] == "parallel_pipeline"]

    assert "airflow-parallel-provider" in ours["source"]
