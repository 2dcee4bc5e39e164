# SPDX-License-Identifier: Apache-2.0
"""Exports of a package that are imported when they are first used."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


def load_export(package: str, exports: Mapping[str, Collection[str]], name: str) -> Any:
    """Import one export and keep it as an attribute of its package.

    :param package: ``__name__`` of the package.
    :param exports: the exported names by module; modules are relative to the package.
    :raises AttributeError: when the package exports no such name.
    """
    for module, names in exports.items():
        if name in names:
            value = getattr(import_module(f"{package}.{module}"), name)
            setattr(sys.modules[package], name, value)
            return value
    raise AttributeError(f"module {package!r} has no attribute {name!r}")
