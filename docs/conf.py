"""How Sphinx makes the site: `make docs`, then open build/docs/index.html."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, ClassVar

from sphinx.util.docutils import SphinxDirective

import airflow_parallel_provider as provider

if TYPE_CHECKING:
    from docutils import nodes

project = "airflow-parallel-provider"
author = "the contributors"
version = release = provider.__version__
copyright = author  # noqa: A001 - Sphinx wants this name
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"airflow-parallel-provider {release}"
html_static_path: list[str] = []
html_extra_path = ["pipeline.svg"]
html_show_copyright = False
html_show_sphinx = False

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
# Links to examples and benchmarks lead out of docs/: right in the repository, no page of the site.
suppress_warnings = ["myst.xref_missing", "toc.empty_glob"]

add_module_names = False  # users import every class from the package, wherever it is defined
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "undoc-members": False, "show-inheritance": True}


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.add_directive("exports", Exports)


class Exports(SphinxDirective):
    """``.. exports:: engine bridge``: what the package exports from these parts, each from its docstring.

    ``:first: Pipeline Stage`` names what comes first; the others follow by name.
    """

    required_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar = {"first": str.split}

    def run(self) -> list[nodes.Node]:
        """Write the autodoc directives."""
        floors, first = self.arguments[0].split(), self.options.get("first", [])
        lines: list[str] = []
        modules = {name: module for module, names in provider._EXPORTS.items() for name in names}
        for name in (*first, *sorted(modules.keys() - first, key=str.lower)):
            module = modules[name]
            if module.split(".")[0] in floors:
                kind = "class" if inspect.isclass(value := getattr(provider, name)) else "function"
                kind = kind if callable(value) else "data"
                lines += [f".. auto{kind}:: airflow_parallel_provider.{module}.{name}", ""]
        return self.parse_text_to_nodes("\n".join(lines))
