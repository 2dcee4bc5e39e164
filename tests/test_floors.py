"""The house stands: imports go down only, importing costs nothing, files stay readable."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = "airflow_parallel_provider"
ROOT = Path(__file__).parents[1]

FLOORS = {
    "lazy_exports": 0,
    "report": 0,
    "errors": 1,
    "checks": 2,
    "engine": 3,
    "connections": 4,
    "values": 4,
    "rows": 5,
    "sql": 6,
    "hooks": 7,
    "sinks": 7,
    "sources": 7,
    "monitoring": 7,
    "bridge": 8,
    "operators": 9,
    "decorators": 9,
    "plugins": 9,
    "get_provider_info": 9,
    "testing": 10,
    "cli": 11,
    "__main__": 11,
    "__init__": 12,
}
"""Every module and folder of the package, from the ground up. A new one needs a line here."""

ENGINE_MAY_USE = {"cloudpickle", "ddsketch", "psutil", "tenacity", "rich"}
"""What the engine imports beyond the standard library: no Airflow, no database, no data frames."""

ENGINE_MAY_TOUCH_IF_LOADED = {"numpy", "pyarrow", "pandas"}

HEAVY = {
    "airflow",
    "cloudpickle",
    "ddsketch",
    "duckdb",
    "fastapi",
    "hypothesis",
    "numpy",
    "pandas",
    "pendulum",
    "psutil",
    "pyarrow",
    "pydantic",
    "rich",
    "sqlalchemy",
    "sqlite3",
    "tenacity",
    "asyncio",
    "multiprocessing",
}
"""Not one of these may come along with the package: every Airflow process imports every provider."""


@dataclass(frozen=True)
class Import:
    """One import of one file, wherever in the file it stands."""

    path: Path
    line: int
    module: str
    typing_only: bool

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line} imports {self.module}"


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def imports_of(path: Path) -> list[Import]:
    tree = ast.parse(path.read_text(), str(path))
    return list(_imports(tree, path, typing_only=False))


def _imports(node: ast.AST, path: Path, *, typing_only: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(path, child.lineno, alias.name, typing_only)
        elif isinstance(child, ast.ImportFrom):
            for module in _absolute(child, path):
                yield Import(path, child.lineno, module, typing_only)
        elif isinstance(child, ast.If) and _is_type_checking(child.test):
            for part in child.body:
                yield from _imports(ast.Module([part], []), path, typing_only=True)
            for part in child.orelse:
                yield from _imports(ast.Module([part], []), path, typing_only=typing_only)
        else:
            yield from _imports(child, path, typing_only=typing_only)


def _is_type_checking(test: ast.expr) -> bool:
    return (test.id if isinstance(test, ast.Name) else getattr(test, "attr", "")) == "TYPE_CHECKING"


def _absolute(node: ast.ImportFrom, path: Path) -> list[str]:
    """Modules named by a ``from`` import: ``from package import engine`` names the sub-package, too."""
    base = node.module or ""
    if node.level:
        parents = path.relative_to(ROOT).with_suffix("").parts[: -node.level]
        base = ".".join((*parents, base)).rstrip(".")
    return [f"{base}.{alias.name}" for alias in node.names] if base == PACKAGE else [base]


def floor_of(module: str) -> int:
    """The floor of a module of the package; ``from package import Stage`` is the top, it may mean anything."""
    part = module.removeprefix(PACKAGE).lstrip(".").partition(".")[0] or "__init__"
    return FLOORS.get(part, FLOORS["__init__"])


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


ALL_IMPORTS = [each for path in python_files(PACKAGE) for each in imports_of(path)]


def test_every_part_has_a_floor() -> None:
    parts = {path.relative_to(ROOT / PACKAGE).parts[0].removesuffix(".py") for path in python_files(PACKAGE)}

    assert parts <= FLOORS.keys(), f"give {sorted(parts - FLOORS.keys())} a floor"


def test_imports_go_down_only() -> None:
    upward = [
        str(each)
        for each in ALL_IMPORTS
        if each.module.split(".")[0] == PACKAGE
        and not each.typing_only
        and floor_of(each.module) > floor_of(module_name(each.path))
    ]

    assert upward == []


def test_the_engine_uses_nothing_but_its_few_libraries() -> None:
    allowed = set(sys.stdlib_module_names) | ENGINE_MAY_USE | {PACKAGE, "__future__"}
    strange = [
        str(each)
        for each in ALL_IMPORTS
        if floor_of(module_name(each.path)) <= FLOORS["engine"]
        and each.module.split(".")[0] not in (allowed | (ENGINE_MAY_TOUCH_IF_LOADED if each.typing_only else set()))
    ]

    assert strange == []


def test_the_engine_uses_no_multiprocessing() -> None:
    """Its pools and managers fail in a real Airflow task and under Celery."""
    forbidden = {"multiprocessing", "concurrent.futures.process", "sqlite3", "dbm"}
    found = [
        str(each)
        for each in ALL_IMPORTS
        if floor_of(module_name(each.path)) <= FLOORS["engine"]
        and any(each.module == name or each.module.startswith(f"{name}.") for name in forbidden)
    ]

    assert found == []


@pytest.mark.parametrize("path", python_files(PACKAGE, "tests", "dags_examples", "dev"), ids=lambda path: path.name)
def test_files_stay_readable(path: Path) -> None:
    """A file of tests is read one test at a time and may be longer."""
    lines = path.read_text().count("\n")

    assert lines <= (500 if path.is_relative_to(ROOT / "tests") else 330), "split it"


def test_no_two_test_files_share_a_name() -> None:
    """A name in a failure's report, or in a commit, is enough to find the file."""
    names = Counter(path.name for path in python_files("tests") if path.name.startswith("test_"))

    assert [name for name, count in names.items() if count > 1] == []


def test_imports_inside_functions_are_seen(tmp_path: Path) -> None:
    """The checks above rest on this: an import counts wherever it stands, and its kind is known."""
    path = ROOT / PACKAGE / "engine" / "made_up.py"
    tree = ast.parse(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import pandas\n"
        "else:\n    import numpy\n"
        "def function():\n    with x:\n        from ..operators.base import Operator\n"
        "from airflow_parallel_provider import bridge\n"
    )

    found = {(each.module, each.typing_only) for each in _imports(tree, path, typing_only=False)}

    assert found == {
        ("typing", False),
        ("pandas", True),
        ("numpy", False),
        (f"{PACKAGE}.operators.base", False),
        (f"{PACKAGE}.bridge", False),
    }
    assert floor_of(f"{PACKAGE}.operators.base") > floor_of(module_name(path)) == FLOORS["engine"]


def fresh_interpreter(code: str) -> list[str]:
    """Run code in a new interpreter and return the names of all modules it has loaded at the end."""
    script = f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stderr
    modules: list[str] = json.loads(done.stdout.splitlines()[-1])
    return modules


def heavy_among(modules: list[str]) -> set[str]:
    """Heavy ones, without what a bare interpreter of this environment loads by itself (``.pth`` files)."""
    roots = {module.partition(".")[0] for module in modules}
    return (roots & HEAVY) - {module.partition(".")[0] for module in fresh_interpreter("")}


def test_importing_the_package_loads_almost_nothing() -> None:
    modules = fresh_interpreter(f"import {PACKAGE}")

    assert heavy_among(modules) == set()
    assert {name for name in modules if name.startswith(f"{PACKAGE}.")} == set()


def test_importing_the_provider_info_loads_almost_nothing() -> None:
    modules = fresh_interpreter(f"from {PACKAGE}.get_provider_info import get_provider_info; get_provider_info()")

    assert heavy_among(modules) == set()


def test_declaring_a_pipeline_needs_no_airflow_and_no_database() -> None:
    modules = fresh_interpreter(
        f"from {PACKAGE} import DROP, ListSink, Pipeline, Retry, Stage, StopToken\n"
        "Pipeline([1], [Stage(repr, retry=Retry(2))], ListSink())"
    )

    assert heavy_among(modules) & {"airflow", "sqlalchemy", "sqlite3", "pandas", "numpy", "pyarrow", "fastapi"} == set()


def test_the_engine_runs_where_airflow_is_not_installed() -> None:
    blocked = ("airflow", "sqlalchemy", "pandas", "numpy", "pyarrow", "fastapi", "pendulum")
    code = (
        f"import importlib, pkgutil, sys\nfor name in {blocked!r}: sys.modules[name] = None\n"
        f"import {PACKAGE}.engine as engine\n"
        "for each in pkgutil.walk_packages(engine.__path__, engine.__name__ + '.'):\n"
        "    if not each.name.endswith('.boot'): importlib.import_module(each.name)\n"
        f"from {PACKAGE} import ListSink, Pipeline, Stage\n"
        "sink = ListSink()\n"
        "Pipeline(range(20), [Stage(repr), Stage(len, kind='process', workers=1)], sink).run()\n"
        "assert sink.rows == [1] * 10 + [2] * 10, sink.rows\n"
    )

    fresh_interpreter(code)
