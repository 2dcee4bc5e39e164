"""Metrics of every function in this Python environment's source code.

::

    every .py file ──> read (threads) -> measure (processes) -> table function_metrics, one row per function

A few files cannot be parsed: the standard library contains some with deliberate errors for its own tests, and this DAG
adds one so that every environment has one. They become dead letters in a second table; ``tolerance`` accepts one in a
hundred.

Needs: a SQLite connection ``examples_db``. To measure other code, set ``SOURCE_CODE_ROOTS`` (folders, separated by
``:``).
"""

import ast
import os
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from airflow.sdk import dag

from airflow_parallel_provider import ParallelPipelineOperator, SinkTable, Stage

TOLERANCE = 0.01
"""Share of the files that may be unreadable."""

Function = ast.FunctionDef | ast.AsyncFunctionDef
Row = dict[str, Any]

BRANCHES = (
    ast.If,
    ast.IfExp,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.ExceptHandler,
    ast.Assert,
    ast.comprehension,
    ast.match_case,
)
"""Nodes with two branches: each adds one to the cyclomatic complexity."""


def python_files() -> list[str]:
    """Every ``.py`` file of the environment, sorted: a retry must find the same files in the same order."""
    named = os.environ.get("SOURCE_CODE_ROOTS")
    stdlib, *packages = (sysconfig.get_path(key) for key in ("stdlib", "purelib", "platlib"))
    roots = named.split(os.pathsep) if named else [stdlib, *packages]
    # Resolved, since through symbolic links the same file could be listed twice.
    files = {path.resolve() for root in roots for path in Path(root).rglob("*.py") if path.is_file()}
    # A venv uses the standard library of the Python that created it, but not its packages.
    foreign = Path(stdlib).resolve() / "site-packages"
    if not named and foreign not in {Path(folder).resolve() for folder in packages}:
        files = {path for path in files if not path.is_relative_to(foreign)}
    return sorted(map(str, files | {broken_sample().resolve()}))


def broken_sample() -> Path:
    """A file that no Python 3 can parse, under ``AIRFLOW_HOME``."""
    path = Path(os.environ.get("AIRFLOW_HOME") or "~/airflow").expanduser() / "source_code_metrics" / "broken_sample.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('print "this was Python 2"\n', encoding="utf-8")
    return path


def read(path: str) -> tuple[str, bytes]:
    """The file's path and bytes; the parser finds out the encoding."""
    return path, Path(path).read_bytes()


def measure(file: tuple[str, bytes]) -> Iterator[Row]:
    """Yield one row per function of the file.

    :raises SyntaxError: for a file that this version of Python cannot parse.
    """
    path, source = file
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the parser's advice to other people's code ("invalid escape sequence")
        module = ast.parse(source, path)
    for name, function in functions_of(module):
        yield {"path": path, "name": name, "line": function.lineno, **metrics(function)}


def functions_of(module: ast.Module) -> Iterator[tuple[str, Function]]:
    """All functions of a module with their qualified names, as ``__qualname__`` would write them."""
    waiting: list[tuple[str, ast.AST]] = [("", module)]
    while waiting:
        prefix, parent = waiting.pop()
        for node in ast.iter_child_nodes(parent):
            if isinstance(node, Function):
                yield prefix + node.name, node
                waiting.append((f"{prefix}{node.name}.<locals>.", node))
            elif isinstance(node, ast.ClassDef):
                waiting.append((f"{prefix}{node.name}.", node))
            else:
                waiting.append((prefix, node))


def metrics(function: Function) -> Row:
    """The metrics of one function, without those of the functions defined inside it."""
    own = list(own_nodes(function))
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return {
        "lines": (function.end_lineno or function.lineno) - function.lineno + 1,
        "arguments": len(named) + (arguments.vararg is not None) + (arguments.kwarg is not None),
        "annotated": sum(argument.annotation is not None for argument in named),
        "complexity": 1 + sum(isinstance(node, BRANCHES) for node in own) + sum(extra_conditions(node) for node in own),
        "returns": sum(isinstance(node, ast.Return) for node in own),
        "is_async": isinstance(function, ast.AsyncFunctionDef),
        "is_generator": any(isinstance(node, (ast.Yield, ast.YieldFrom)) for node in own),
        "has_docstring": ast.get_docstring(function, clean=False) is not None,
    }


def own_nodes(function: Function) -> Iterator[ast.AST]:
    """The nodes of a function's body without those of the functions and classes inside it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node
            waiting.extend(ast.iter_child_nodes(node))


def extra_conditions(node: ast.AST) -> int:
    """``a and b and c`` adds two decisions; each ``if`` of a comprehension adds one."""
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    return len(node.ifs) if isinstance(node, ast.comprehension) else 0


@dag(schedule=None, catchup=False, tags=["example", "parallel"], doc_md=__doc__)
def source_code_metrics() -> None:
    """Measure the functions of the environment."""
    ParallelPipelineOperator(
        task_id="measure_functions",
        source=python_files,
        stages=[
            Stage(read, workers=8),
            Stage(measure, kind="process", timeout=60),
        ],
        sink=SinkTable(
            "function_metrics",
            conn_id="examples_db",
            write_disposition="merge",
            primary_key=["path", "line", "name"],
        ),
        chunk_size=500,  # files: some thousand rows in one transaction
        tolerance=TOLERANCE,
    )


source_code_metrics()
