"""The tables of arguments in the docs are made from the docstrings, and no argument is without a text."""

from __future__ import annotations

import gc
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from airflow_parallel_provider import SinkTable, Stage

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    """``docs/argument_tables.py``: docs/ is no package."""
    spec = importlib.util.spec_from_file_location("argument_tables", DOCS / "argument_tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _no_garbage_collection() -> Iterator[None]:
    """Python 3.11 raises SystemError (CPython issue 106905) when a finalizer runs while a module is parsed."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_page_is_up_to_date(page: Path, tables: ModuleType) -> None:
    text = page.read_text(encoding="utf-8")

    assert tables.updated(text) == text, "run `make tables`"


@pytest.mark.parametrize(
    ("declared", "described"),
    [(SinkTable, "sinks.spec.table_spec.TableSpec"), (Stage, "Stage")],
    ids=["SinkTable", "Stage"],
)
def test_every_argument_has_a_text(declared: Any, described: str, tables: ModuleType) -> None:
    found = {each.name: each.text for each in tables.arguments_of(described)}

    assert list(found) == list(inspect.signature(declared).parameters)
    assert [name for name, text in found.items() if not text] == []


def test_an_argument_without_a_docstring_is_found(tables: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks above rest on this: texts, defaults and inherited fields are read from the source."""
    source = (
        "import dataclasses\n"
        "LIMIT = 5\n"
        "@dataclasses.dataclass\n"
        "class Base:\n"
        "    first: str\n"
        "    'One.'\n"
        "    _hidden: int = 0\n"
        "@dataclasses.dataclass\n"
        "class Made(Base):\n"
        "    second: int = LIMIT\n"
        "    third: str = 'x'\n"
        "    '``None``: a | b, see :class:`~package.Other`.'\n"
        "    made: int = dataclasses.field(default=0, init=False)\n"
    )
    module = tables.ast.parse(source)
    (node,) = (each for each in module.body if getattr(each, "name", "") == "Made")
    monkeypatch.setattr(tables, "_exports", lambda: {"Made": "made"})
    monkeypatch.setattr(tables, "_find", lambda where, name: tables._Class(node, module))

    assert tables.table("Made").splitlines()[2:] == [
        "| `first` | One. |  |",
        "| `second` |  | `5` |",
        '| `third` | `None`: a \\| b, see `Other`. | `"x"` |',
    ]
