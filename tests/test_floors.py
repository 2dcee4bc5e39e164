"""The architecture holds: imports go down only and in no circle; rooms and files stay small."""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGE = "airflow_parallel_provider"
ROOT = Path(__file__).parents[1]
TOP = "__init__"

FLOORS = {
    "foreign": -1,
    "formats": -1,
    "report": 0,
    "lazy_exports": 0,
    "on_ray": 0,
    "errors": 1,
    "checks": 2,
    "connections": 2,
    "values": 2,
    "rows": 3,
    # the engine: no Airflow, no database
    "engine.resources": 0,
    "engine.interfaces": 2,
    "engine.plan": 3,
    "engine.analysis": 3,
    "engine.subtasks": 5,
    "engine.dataflow": 3,
    "engine.ipc": 4,
    "engine.functions": 4,
    "engine.metrics": 5,
    "engine.processes": 5,
    "engine.stages": 6,
    "engine.workers": 7,
    "engine.shards": 6,
    "engine.run": 8,
    "engine.pipeline": 9,
    # databases
    "sql.backends": 4,
    "sql": 5,
    # where rows go
    "sinks.aggregates": 4,
    "sinks.spec": 5,
    "sinks.ledger": 6,
    "sinks.files": 7,
    "sinks.commit": 7,
    "sinks.load": 8,
    "sinks.lakes": 8,
    "sinks.table": 9,
    "sinks.replay": 10,
    "hooks": 10,
    # where items come from
    "sources.read_ahead": 2,
    "sources.places": 2,
    "sources.changed_since": 3,
    "sources.declared_source": 3,
    "sources.files": 4,
    "sources.http": 4,
    "sources.queue": 4,
    "sources.sql": 6,
    # what runs a pipeline, and what is seen of it
    "monitoring": 6,
    "testing": 10,
    "bridge": 10,
    "cli": 11,
    "operators": 11,
    "decorators": 12,
    "plugins": 12,
    "get_provider_info": 12,
    "__main__": 12,
    TOP: 13,
}
"""Every room of the package, and how high it lies. A module belongs to the room with the longest name that fits its
own: a folder without a line of its own is part of the room around it. A new room needs a line here."""

LAZY = {
    "a name of the package is imported when it is first used": ("__init__ -> lazy_exports", "testing -> lazy_exports"),
    "a DAG file declares pipelines and is parsed over and over: what runs them is imported when they run": (
        "engine.pipeline -> engine.analysis.simulate",
        "engine.pipeline -> engine.functions.serialization",
        "engine.pipeline -> engine.processes.launch",
        "engine.pipeline -> engine.run.run",
        "engine.pipeline -> engine.shards.coordinator",
        "engine.pipeline -> engine.shards.sharded",
        "engine.pipeline -> engine.run.stream",
        "engine.run.stream -> engine.run.run",
        "operators.parallel_pipeline -> bridge.publishing.lineage",
        "operators.parallel_pipeline -> bridge.task_run",
        "operators.sharded -> bridge.sent_shards",
        "operators.sharded -> engine.shards.shipping",
        "operators.replay_dead_letters -> bridge.publishing.lineage",
        "operators.replay_dead_letters -> bridge.task_run",
        "operators.replay_dead_letters -> hooks.sink_table",
        "sinks.files.sink_files -> sinks.files.file_load",
        "sinks.files.sink_files -> sinks.files.formats",
        "sinks.files.sink_files -> sinks.files.store",
        "sinks.files.sink_files -> rows.rejection_limit",
        "sinks.lakes.delta.sink_delta -> sinks.files.store",
        "sinks.lakes.delta.sink_delta -> sinks.lakes.arrow_types",
        "sinks.lakes.delta.sink_delta -> sinks.lakes.delta.delta_publisher",
        "sinks.lakes.delta.sink_delta -> sinks.lakes.delta.storage_options",
        "sinks.lakes.iceberg.sink_iceberg -> sinks.files.store",
        "sinks.lakes.iceberg.sink_iceberg -> sinks.lakes.arrow_types",
        "sinks.lakes.iceberg.sink_iceberg -> sinks.lakes.iceberg.catalogs",
        "sinks.lakes.iceberg.sink_iceberg -> sinks.lakes.iceberg.iceberg_publisher",
        "sinks.lakes.lake_sink -> rows.rejection_limit",
        "sinks.lakes.lake_sink -> sinks.aggregates.report_view",
        "sinks.lakes.lake_sink -> sinks.lakes.encoder",
        "sinks.lakes.lake_sink -> sinks.lakes.lake_load",
        "sinks.lakes.lake_sink -> sinks.lakes.orphans",
        "sinks.replay -> sinks.load.maintenance",
        "sinks.replay -> sinks.load.table_loader",
        "sinks.table -> sinks.aggregates.report_view",
        "sinks.table -> sinks.load.table_loader",
        "sources.http.http_source -> sources.http.http_client",
        "sources.sql.sql_source -> sources.sql.table_reader",
    ),
    "a declaration without it, and its DAG file, need not pay for it": (
        "rows.validate -> rows.block",
        "rows.validate -> rows.reject",
        "sinks.commit.chunk -> rows.validate",
        "sinks.commit.chunk -> sinks.aggregates.partials",
        "sinks.lakes.lake_load -> rows.validate",
        "sinks.load.one_load -> sinks.aggregates.partials",
        "values.column_specs -> values.annotations",
    ),
    "each worker process starts with as few modules as it can": (
        "engine.functions.worker_code -> engine.plan.functions",
        "engine.processes.boot -> engine.processes.fork_server",
        "engine.processes.boot -> engine.processes.guardian",
        "engine.processes.fork_server -> engine.ipc.requests",
        "engine.processes.fork_server -> engine.processes.worker_main",
    ),
    "one of several is used, and each imports the libraries it needs": (
        "engine.run.worker_pool -> engine.workers.coroutine",
        "cli.main -> cli.loadtest.command",
        "cli.main -> cli.loadtest.settings",
        "cli.main -> cli.run_command",
        "sql.backends.registry -> sql.backends.base",
        "sql.backends.registry -> sql.backends.duckdb.backend",
        "sql.backends.registry -> sql.backends.mysql.backend",
        "sql.backends.registry -> sql.backends.postgres.backend",
        "sql.backends.registry -> sql.backends.postgres.psycopg2",
        "sql.backends.registry -> sql.backends.sqlite.backend",
    ),
    "it imports a library that this process may not have": (
        "bridge.publishing.lineage -> bridge.publishing.lineage_facet",
        "bridge.publishing.lineage -> sql.database",
        "plugins.pipeline_tab -> plugins.static_files",
    ),
}
"""Imports of own modules that stand inside functions, and why they must."""

MOST_LINES, MOST_TEST_LINES = 330, 500
MOST_MODULES = 12
SPDX = "SPDX-License-Identifier: Apache-2.0"
MOST_METHODS = 20
LARGE_FOLDERS = {"engine", "plugins"}
"""Folders that may hold more modules: the engine's own top is a list of rooms."""

ENGINE_MAY_USE = {"cloudpickle", "ddsketch", "psutil", "tenacity", "rich"}
"""What the engine imports beyond the standard library: no Airflow, no database, no data frames."""

ENGINE_MAY_TOUCH_IF_LOADED = {"numpy", "pyarrow", "pandas"}


@dataclass(frozen=True)
class Import:
    """One import of one file, wherever in the file it stands."""

    path: Path
    line: int
    module: str
    typing_only: bool = False
    inside_function: bool = False

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line} imports {self.module}"

    @property
    def importer(self) -> str:
        return module_name(self.path)


def listed(found: Iterable[str], cure: str = "") -> str:
    """A failure's text: each finding on a line of its own."""
    return "\n".join([cure, *sorted(found)])


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def module_name(path: Path) -> str:
    """The name of a module below the package: ``engine.dataflow.channel``; the package itself is :data:`TOP`."""
    parts = path.relative_to(ROOT / PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


@cache
def all_modules() -> frozenset[str]:
    return frozenset(map(module_name, python_files(PACKAGE)))


def imports_of(path: Path) -> list[Import]:
    return list(_imports(ast.parse(path.read_text(), str(path)), path))


def _imports(
    node: ast.AST, path: Path, *, typing_only: bool = False, inside_function: bool = False
) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            for module in _modules_named(child, path):
                yield Import(path, child.lineno, module, typing_only, inside_function)
        elif isinstance(child, ast.If) and _is_type_checking(child.test):
            for body, typing in ((child.body, True), (child.orelse, typing_only)):
                part = ast.Module(body, [])
                yield from _imports(part, path, typing_only=typing, inside_function=inside_function)
        else:
            inside = inside_function or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(child, path, typing_only=typing_only, inside_function=inside)


def _is_type_checking(test: ast.expr) -> bool:
    return (test.id if isinstance(test, ast.Name) else getattr(test, "attr", "")) == "TYPE_CHECKING"


def _modules_named(node: ast.Import | ast.ImportFrom, path: Path) -> list[str]:
    """The modules that a statement imports: those of this package by their names below it, others in full."""
    if isinstance(node, ast.Import):
        return [_below_package(alias.name) for alias in node.names]
    base = node.module or ""
    if node.level:
        parents = path.relative_to(ROOT).with_suffix("").parts[: -node.level]
        base = ".".join((*parents, base)).rstrip(".")
    if base.partition(".")[0] != PACKAGE:
        return [base]
    base = _below_package(base)
    inside = [alias.name if base == TOP else f"{base}.{alias.name}" for alias in node.names]
    return sorted({name if name in all_modules() else base for name in inside})


def _below_package(module: str) -> str:
    if module == PACKAGE:
        return TOP
    return module.removeprefix(f"{PACKAGE}.")


def room_of(module: str) -> str | None:
    """The room that a module of the package lies in."""
    parts = module.split(".")
    names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((name for name in names if name in FLOORS), None)


def floor_of(module: str) -> int:
    """Folders that hold only rooms (``engine/__init__.py``) import nothing and lie on the ground."""
    room = room_of(module)
    return 0 if room is None else FLOORS[room]


def circles(edges: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of modules each of which reaches every other one of its group by imports (Tarjan's algorithm)."""
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = lowest[module] = len(index)
        path.append(module)
        for other in sorted(edges.get(module, ())):
            if other not in index:
                visit(other)
            if other in path:
                lowest[module] = min(lowest[module], lowest[other])
        if lowest[module] == index[module]:
            at = path.index(module)
            found.append(sorted(path[at:]))
            del path[at:]

    for module in sorted(edges):
        if module not in index:
            visit(module)
    return [group for group in found if len(group) > 1]


@cache
def all_imports() -> tuple[Import, ...]:
    """Not at import: that would be done by each lane of the tests, while it looks for tests."""
    return tuple(each for path in python_files(PACKAGE) for each in imports_of(path))


def own_imports() -> list[Import]:
    return [each for each in all_imports() if each.module in all_modules()]


def test_every_module_lies_in_a_room() -> None:
    rooms_only = {"engine", "sinks", "sources"}

    assert {name for name in all_modules() if room_of(name) is None} == rooms_only, "give the new room a floor"
    assert FLOORS.keys() == {room_of(name) for name in all_modules()} - {None}, "a room is gone: take its line out"


def test_imports_go_down_only() -> None:
    """Also those for type checkers only, and those inside functions."""
    upward = [
        f"{each} (floor {floor_of(each.importer)} imports floor {floor_of(each.module)})"
        for each in own_imports()
        if room_of(each.importer) != room_of(each.module) and floor_of(each.module) >= floor_of(each.importer)
    ]

    assert not upward, listed(upward)


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Also by imports for type checkers only, and by those inside functions."""
    edges: dict[str, set[str]] = {}
    for each in own_imports():
        edges.setdefault(each.importer, set()).add(each.module)

    found = [" -> ".join(circle) for circle in circles(edges)]
    assert not found, listed(found)


def test_circles_are_found() -> None:
    edges = {"a": {"b"}, "b": {"c", "d"}, "c": {"a"}, "d": {"e"}, "e": set(), "f": {"g", "a"}, "g": {"f"}}

    assert sorted(circles(edges)) == [["a", "b", "c"], ["f", "g"]]


def test_imports_of_own_modules_stand_at_the_top() -> None:
    """An import inside a function hides what a module needs; those that must be have a reason in :data:`LAZY`."""
    lazy = {f"{each.importer} -> {each.module}" for each in own_imports() if each.inside_function}
    allowed = {pair for pairs in LAZY.values() for pair in pairs}

    assert lazy <= allowed, listed(lazy - allowed, "move them to the top, or give a reason in LAZY")
    assert allowed <= lazy, listed(allowed - lazy, "they are not lazy any more: take them out of LAZY")


def test_the_engine_uses_nothing_but_its_few_libraries() -> None:
    allowed = set(sys.stdlib_module_names) | ENGINE_MAY_USE
    strange = [
        str(each)
        for each in all_imports()
        if is_engine(each.importer)
        and each.module not in all_modules()
        and each.module.split(".")[0] not in (allowed | (ENGINE_MAY_TOUCH_IF_LOADED if each.typing_only else set()))
    ]

    assert not strange, listed(strange)


def test_the_engine_uses_no_multiprocessing() -> None:
    """Its pools and managers fail in a real Airflow task and under Celery."""
    forbidden = {"multiprocessing", "concurrent.futures.process", "sqlite3", "dbm"}
    found = [
        str(each)
        for each in all_imports()
        if is_engine(each.importer)
        and any(each.module == name or each.module.startswith(f"{name}.") for name in forbidden)
    ]

    assert not found, listed(found)


def is_engine(module: str) -> bool:
    """The engine and what it stands on."""
    return module.partition(".")[0] in {"engine", "errors", "foreign", "formats", "report"}


def test_the_engine_stands_on_errors_and_reports_only() -> None:
    below = {each.module for each in own_imports() if is_engine(each.importer) and not is_engine(each.module)}

    assert below <= {"checks"}


def test_each_source_file_names_its_license() -> None:
    """In one line, which machines read: a file that is copied elsewhere keeps it."""
    lines = {".py": f"# {SPDX}", ".js": f"// {SPDX}", ".css": f"/* {SPDX} */"}
    files = [path for path in (ROOT / PACKAGE).rglob("*") if path.suffix in lines]

    without = [
        f"{path.relative_to(ROOT)}: its first line must be {lines[path.suffix]!r}"
        for path in files
        if path.read_text(encoding="utf-8").partition("\n")[0] != lines[path.suffix]
    ]

    assert len(files) > 200
    assert not without, listed(without)


def test_files_stay_readable() -> None:
    """A file of tests is read one test at a time and may be longer."""
    long = []
    for path in python_files(PACKAGE, "tests", "dags_examples", "dev"):
        text = path.read_text()
        lines = text.count("\n") - text.startswith(f"# {SPDX}")
        if lines > (MOST_TEST_LINES if path.is_relative_to(ROOT / "tests") else MOST_LINES):
            long.append(f"{path.relative_to(ROOT)} has {lines} lines")

    assert not long, listed(long, "split them")


def test_folders_stay_small() -> None:
    modules = Counter(path.parent for path in python_files(PACKAGE) if path.name != "__init__.py")
    folders = {str(folder.relative_to(ROOT / PACKAGE)): count for folder, count in modules.items()}
    large = {name: count for name, count in folders.items() if count > MOST_MODULES and name not in LARGE_FOLDERS}

    assert large == {}, "make rooms of them"


def test_classes_stay_small() -> None:
    """One with more methods says why in a comment between its docstring and its first statement."""
    large = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name} has {count} methods"
        for path in python_files(PACKAGE)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and (count := methods(node)) > MOST_METHODS and not says_why(node, path)
    ]

    assert not large, listed(large, "split them, or say in a comment at the top of each why it is so large")


def methods(node: ast.ClassDef) -> int:
    """How many methods a class has; overloads are one."""
    return len({each.name for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)})


def says_why(node: ast.ClassDef, path: Path) -> bool:
    """Whether a comment stands at the top of a class: above its first statement after the docstring."""
    first, *rest = node.body
    has_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    after, until = (first.end_lineno, rest[0].lineno) if has_docstring else (node.lineno, first.lineno)
    lines = path.read_text().splitlines()[after : until - 1]  # type: ignore[misc]
    return any(line.strip().startswith("#") for line in lines)


def test_no_two_test_files_share_a_name() -> None:
    """A name in a failure's report, or in a commit, is enough to find the file."""
    names = Counter(path.name for path in python_files("tests") if path.name.startswith("test_"))

    assert [name for name, count in names.items() if count > 1] == []


def test_folders_of_tests_are_those_of_the_package() -> None:
    """A test of one module lies where that module lies; tests of many modules have a folder for each kind."""
    kinds = {"chaos", "examples", "faults", "properties", "support", "system"}
    folders = {path.parent.relative_to(ROOT / "tests") for path in python_files("tests")}
    strange = [
        str(folder)
        for folder in folders
        if folder.parts
        and folder.parts[0] not in kinds
        and folder.name != "dags"
        and not (ROOT / PACKAGE / folder).is_dir()
    ]

    assert not strange, listed(strange)


def test_imports_are_seen_wherever_they_stand() -> None:
    """The checks above rest on this: an import counts wherever it stands, and its kind is known."""
    path = ROOT / PACKAGE / "engine" / "dataflow" / "made_up.py"
    tree = ast.parse(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import pandas\n"
        "else:\n    import numpy\n"
        "def function():\n    with x:\n        from ...operators.parallel_map import ParallelMapOperator\n"
        "from airflow_parallel_provider import bridge\n"
        "from airflow_parallel_provider.engine.ipc import arena, wire\n"
        "from .channel import Channel\n"
    )

    found = {(each.module, each.typing_only, each.inside_function) for each in _imports(tree, path)}

    assert found == {
        ("typing", False, False),
        ("pandas", True, False),
        ("numpy", False, False),
        ("operators.parallel_map", False, True),
        ("bridge", False, False),
        ("engine.ipc.arena", False, False),
        ("engine.ipc.wire", False, False),
        ("engine.dataflow.channel", False, False),
    }
    assert room_of("engine.dataflow.made_up") == "engine.dataflow"
    assert floor_of("operators.parallel_map") > floor_of("engine.dataflow.made_up")
