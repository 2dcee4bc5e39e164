"""Write the tables of arguments in the pages from the docstrings: ``make tables``.

An argument is described once, where it is declared. This script reads the sources as text, without importing them (and
Airflow), and replaces what stands between two marks in a page::

    <!-- arguments: Stage -->
    ...
    <!-- end of arguments -->

The text of a dataclass field is the string below it. That of a parameter is its ``:param`` in the class's docstring.
``tests/test_argument_tables.py`` fails when a page is out of date or an argument has no text.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import re
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parent
PACKAGE = "airflow_parallel_provider"
MARKED = re.compile(r"(<!-- arguments: (?P<what>.+?) -->\n).*?(<!-- end of arguments -->)", re.DOTALL)

SEE = {
    "sinks.spec.table_spec.TableSpec": {
        "write_disposition": "rerun.md#replace-a-table",
        "newest": "#merge",
        "on_rerun": "rerun.md",
        "columns": "#the-columns-of-a-new-table",
        "dead_letters": "rejected.md#dead-letters",
        "dead_letter_pickle": "rejected.md#dead-letters",
        "validate": "rejected.md",
        "aggregates": "aggregates.md",
        "lock_timeout": "#time-limits",
        "statement_timeout": "#time-limits",
    },
}
"""Where a page says more about an argument."""

NOT_FOR_AUTHORS = frozenset({"part", "shards", "shard"})
"""Arguments that ``sharded`` gives to the operators that it creates."""

NOT_GIVEN = "init=False"
"""Instead of a default: the field is not an argument."""


@dataclass(frozen=True)
class Argument:
    """One row of a table."""

    name: str
    text: str
    default: str


@dataclass(frozen=True)
class _Class:
    """A class as text, with the module that it is written in."""

    node: ast.ClassDef
    module: ast.Module


def arguments_of(name: str) -> list[Argument]:
    """The arguments of a class of the package, in the order of its declaration.

    :param name: as the package exports it, or with its module, ``sinks.spec.table_spec.TableSpec``.
    """
    module, _, last = name.rpartition(".")
    return _arguments(_find(f"{PACKAGE}.{module or _exports()[last]}", last))


def table(what: str) -> str:
    """A table as Markdown.

    :param what: names of classes, ``ParallelPipelineOperator, Pipeline(memory_limit)``: in parentheses which arguments.
    """
    lines = ["| argument | meaning | default |", "|---|---|---|"]
    for name, chosen in re.findall(r"([\w.]+)(?:\(([^)]*)\))?", what):
        wanted = re.findall(r"\w+", chosen)
        for each in arguments_of(name):
            if (wanted and each.name not in wanted) or each.name in NOT_FOR_AUTHORS:
                continue
            note = f" (`{name}` only)" if wanted else ""
            target = SEE.get(name, {}).get(each.name)
            more = f" [More]({target})." if target else ""
            lines.append(f"| `{each.name}` | {_markdown(each.text)}{note}{more} | {each.default} |")
    return "\n".join(lines) + "\n"


def updated(page: str) -> str:
    """The text of a page with its tables as they should be."""
    return MARKED.sub(lambda found: f"{found[1]}\n{table(found['what'])}\n{found[3]}", page)


def _exports() -> dict[str, str]:
    tree = ast.parse((DOCS.parent / PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_EXPORTS":
            exports: dict[str, list[str]] = ast.literal_eval(node.value)
            return {name: module for module, names in exports.items() for name in names}
    raise LookupError("the package has no table of exports")


def _find(module: str, name: str) -> _Class:
    path = DOCS.parent.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == name:
            return _Class(node, tree)
        if isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names):
            return _find(str(node.module), name)
    raise LookupError(f"{module} has no class {name}")


def _arguments(cls: _Class) -> list[Argument]:
    found = {argument.name: argument for base in cls.node.bases for argument in _inherited(cls, base)}
    for node in cls.node.body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            return _parameters(node, cls)
    found |= {argument.name: argument for argument in _fields(cls)}
    return sorted(found.values(), key=lambda argument: bool(argument.default))  # what must be given comes first


def _inherited(cls: _Class, base: ast.expr) -> list[Argument]:
    for node in ast.walk(cls.module):
        if isinstance(node, ast.ClassDef) and node.name == ast.unparse(base):
            return _arguments(_Class(node, cls.module))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith(PACKAGE):
            for alias in node.names:
                if (alias.asname or alias.name) == ast.unparse(base):
                    return _arguments(_find(str(node.module), alias.name))
    return []


def _fields(cls: _Class) -> list[Argument]:
    if not any("dataclass" in ast.unparse(each) for each in cls.node.decorator_list):
        return []
    found = []
    templates = _templates(cls.node)
    for field, below in itertools.zip_longest(cls.node.body, cls.node.body[1:]):
        if not isinstance(field, ast.AnnAssign) or "ClassVar" in ast.unparse(field.annotation):
            continue
        name, default = ast.unparse(field.target), _default(field.value, cls.module)
        if name.startswith("_") or default == NOT_GIVEN:
            continue
        text = ast.get_docstring(ast.Module([below], [])) if isinstance(below, ast.Expr) else None
        note = " (templated)" if name in templates else ""
        found.append(Argument(name, f"{text}{note}" if text else "", default))
    return found


def _templates(node: ast.ClassDef) -> set[str]:
    """The fields that Airflow renders."""
    for each in node.body:
        if isinstance(each, ast.AnnAssign) and ast.unparse(each.target) == "template_fields" and each.value:
            return set(ast.literal_eval(each.value))
    return set()


def _default(value: ast.expr | None, module: ast.Module) -> str:
    if value is None:
        return ""
    if isinstance(value, ast.Call) and ast.unparse(value.func) in ("field", "dataclasses.field"):
        given = {str(each.arg): each.value for each in value.keywords}
        if "init" in given:
            return NOT_GIVEN
        made = given.get("default_factory", given.get("default"))
        return _default(made.body if isinstance(made, ast.Lambda) else made, module)
    if isinstance(value, ast.Name):
        value = _constant(value, module)
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return f'`"{value.value}"`' if value.value else ""
    return f"`{ast.unparse(value)}`"


def _constant(name: ast.Name, module: ast.Module) -> ast.expr:
    for node in module.body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == name.id and node.value:
            return node.value
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name.id:
            return node.value
    return name


def _parameters(function: ast.FunctionDef, cls: _Class) -> list[Argument]:
    given = function.args
    positional = [*given.posonlyargs, *given.args]
    needed: list[ast.expr | None] = [None] * (len(positional) - len(given.defaults))
    names = [each.arg for each in (*positional, *given.kwonlyargs)]
    defaults = [*needed, *given.defaults, *given.kw_defaults]
    texts = _described(ast.get_docstring(cls.node)) | _described(ast.get_docstring(function))
    return [
        Argument(name, texts.get(name, ""), _default(default, cls.module))
        for name, default in zip(names, defaults, strict=True)
        if name != "self"
    ]


def _described(docstring: str | None) -> dict[str, str]:
    """The texts behind ``:param name:``, up to the next field or an empty line."""
    found = re.finditer(
        r"^:param (\w+):(.*?)(?=^:|^\s*$|\Z)", inspect.cleandoc(docstring or ""), re.MULTILINE | re.DOTALL
    )
    return {each[1]: each[2].strip() for each in found}


def _markdown(text: str) -> str:
    """What docstrings use of reStructuredText, in one line of Markdown."""
    text = re.sub(r":\w+:`~?\.?(?:[\w.]+\.)?(\w+)`", r"`\1`", " ".join(text.split()))
    text = re.sub(r"``(.+?)``", r"`\1`", text).replace("|", r"\|")
    return text[:1].upper() + text[1:]


def main() -> None:
    """Update all pages."""
    for page in sorted(DOCS.rglob("*.md")):
        before = page.read_text(encoding="utf-8")
        after = updated(before)
        if after != before:
            page.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
