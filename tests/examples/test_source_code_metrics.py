"""The example that measures this environment's source code."""

from __future__ import annotations

import ast
import asyncio.tasks
import dataclasses
import functools
import inspect
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

import pytest

from airflow_parallel_provider import ListSink, Pipeline, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

RowsOf = Callable[[str], dict[str, dict[str, Any]]]

pytestmark = pytest.mark.airflow  # a DAG file imports Airflow


@pytest.fixture
def rows_of(source_code: Any) -> RowsOf:
    """The rows of a piece of code, by function."""

    def measure(source: str) -> dict[str, dict[str, Any]]:
        return {row["name"]: row for row in source_code.measure(("code.py", textwrap.dedent(source).encode()))}

    return measure


def qualified_names(code: CodeType) -> Iterator[str]:
    """Names of the functions in a code object: what the compiler itself calls them."""
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            # A class body is code too, but not of a function; lambdas and comprehensions have names such as <lambda>.
            if inner.co_flags & inspect.CO_OPTIMIZED and not inner.co_name.startswith("<"):
                yield inner.co_qualname
            yield from qualified_names(inner)


@pytest.mark.parametrize("module", [functools, dataclasses, asyncio.tasks, ast], ids=lambda module: module.__name__)
def test_functions_are_those_the_compiler_finds(source_code: Any, module: Any) -> None:
    path = Path(module.__file__)
    source = path.read_bytes()

    found = sorted(row["name"] for row in source_code.measure((str(path), source)))

    assert found == sorted(qualified_names(compile(source, str(path), "exec", dont_inherit=True)))
    assert len(found) > 20


def test_metrics_of_one_function(rows_of: RowsOf) -> None:
    rows = rows_of('''
        class Shop:
            async def sell(self, item, /, price: float, *rest, on_credit: bool = False, **more):
                """Sell it."""
                if price > 0 and not on_credit or item is None:
                    return
                for each in [r for r in rest if r if r > 1]:
                    try:
                        yield each
                    except ValueError:
                        pass
                return
    ''')

    assert rows["Shop.sell"] == {
        "path": "code.py",
        "name": "Shop.sell",
        "line": 3,
        "lines": 10,
        "arguments": 6,
        "annotated": 2,
        # 1, if, and, or, for, comprehension and its two ifs, except
        "complexity": 9,
        "returns": 2,
        "is_async": True,
        "is_generator": True,
        "has_docstring": True,
    }


def test_inner_functions_count_for_themselves(rows_of: RowsOf) -> None:
    rows = rows_of("""
        def outer():
            def inner(x):
                if x:
                    return 1
                return 2
            return inner
    """)

    assert {name: (row["complexity"], row["returns"], row["is_generator"]) for name, row in rows.items()} == {
        "outer": (1, 1, False),
        "outer.<locals>.inner": (2, 2, False),
    }


def test_file_without_functions_has_no_rows(rows_of: RowsOf) -> None:
    assert rows_of("x = [lambda: 1]") == {}


def test_file_that_is_no_python_raises(rows_of: RowsOf) -> None:
    with pytest.raises(SyntaxError):
        rows_of('print "this was Python 2"')


def test_advice_of_the_parser_is_not_ours(rows_of: RowsOf, recwarn: pytest.WarningsRecorder) -> None:
    assert list(rows_of(r"def f(): return '\d'")) == ["f"]
    assert not recwarn.list


def test_roots_are_searched_once_and_in_order(
    source_code: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "code" / "sub").mkdir(parents=True)
    for name in ("b.py", "a.py", "sub/c.py", "notes.txt"):
        (tmp_path / "code" / name).write_text("")
    (tmp_path / "code" / "sub" / "again.py").symlink_to(tmp_path / "code" / "a.py")
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SOURCE_CODE_ROOTS", f"{tmp_path / 'code'}:{tmp_path / 'code' / 'sub'}")

    names = [str(Path(path).relative_to(tmp_path)) for path in source_code.python_files()]

    assert names == ["code/a.py", "code/b.py", "code/sub/c.py", "home/source_code_metrics/broken_sample.py"]


def test_environment_is_the_default(source_code: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    monkeypatch.delenv("SOURCE_CODE_ROOTS", raising=False)

    files = source_code.python_files()

    assert len(files) > 1000
    assert {str(Path(str(module.__file__)).resolve()) for module in (ast, pytest)} <= set(files)
    assert len(files) == len(set(files))


def test_unparsable_files_become_dead_letters(
    source_code: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    monkeypatch.setenv("SOURCE_CODE_ROOTS", str(Path(asyncio.tasks.__file__).parent))
    files = source_code.python_files()
    sink = ListSink()

    report = Pipeline(
        source_code.python_files,
        [Stage(source_code.read), Stage(source_code.measure, kind="process", workers=2)],
        sink,
        chunk_size=10,
        tolerance=1,
    ).run()

    broken = next(position for position, path in enumerate(files) if path.endswith("broken_sample.py"))
    readable = files[:broken] + files[broken + 1 :]
    expected = [row for path in readable for row in source_code.measure(source_code.read(path))]
    by_place = {(row["path"], row["line"], row["name"]): row for row in sink.rows}
    assert len(by_place) == len(sink.rows) == len(expected) > 500
    assert all(by_place[row["path"], row["line"], row["name"]] == row for row in expected)
    assert [each.position for each in sink.dead_letters] == [broken]
    assert "SyntaxError" in sink.dead_letters[0].cause
    assert report.items_dead_lettered == 1
