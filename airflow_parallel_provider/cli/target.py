# SPDX-License-Identifier: Apache-2.0
"""Finds the pipeline that ``module:attribute`` or ``path/to/file.py:attribute`` names."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from airflow_parallel_provider.engine.pipeline import Pipeline


class TargetError(Exception):
    """The command line does not name a pipeline; the text names the cure."""


def load_pipeline(target: str) -> Pipeline:
    """The pipeline that a target names.

    :param target: ``module:attribute`` or ``path/to/file.py:attribute``; the attribute (dots allowed, default
        ``pipeline``) is a :class:`Pipeline`, or a function without arguments that returns one.
    :raises TargetError: naming what is missing, or the error in the file.
    """
    place, colon, attribute = target.rpartition(":")
    if not colon:
        place, attribute = target, "pipeline"
    if not place or not attribute:
        raise TargetError(f"{target!r} names no pipeline: write module:attribute or path/to/file.py:attribute")
    is_file = place.endswith(".py") or "/" in place
    module = _from_file(Path(place)) if is_file else _from_name(place)
    return _pipeline_of(module, attribute, place)


def _from_name(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(f"{missing}."):
            cure = "is it installed, or in the current folder? For a file write path/to/file.py:attribute"
            raise TargetError(f"there is no module {missing!r}: {cure}") from error
        raise _broken(f"module {name}", error) from error
    except Exception as error:
        raise _broken(f"module {name}", error) from error


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise TargetError(f"there is no file {str(path)!r}")
    path = path.resolve()
    # As `python path/to/file.py` does: the file may import modules of its own folder.
    sys.path.insert(0, str(path.parent))
    try:
        if _imports_as(path, path.stem):
            return importlib.import_module(path.stem)  # worker processes can import it by this name
        return _by_location(path)
    except Exception as error:
        raise _broken(path.name, error) from error


def _imports_as(path: Path, name: str) -> bool:
    """Whether ``import name`` imports this file, not another module with the same name."""
    loaded = sys.modules.get(name)
    if loaded is not None:
        return getattr(loaded, "__file__", None) == str(path)
    if not name.isidentifier():
        return False
    importlib.invalidate_caches()
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin == str(path)


def _by_location(path: Path) -> ModuleType:
    name = f"parallel_target_{abs(hash(path)):x}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look for modules there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _pipeline_of(module: ModuleType, attribute: str, place: str) -> Pipeline:
    found: Any = module
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise TargetError(f"{place} has no {attribute!r}{_suggestions(module)}")
        found = getattr(found, name)
    if isinstance(found, Pipeline):
        return found
    if isinstance(found, type) or not callable(found):
        raise TargetError(
            f"{place}:{attribute} is {_kind(found)}: name a Pipeline, or a function that returns one"
            f"{_suggestions(module)}"
        )
    return _made_by(found, f"{place}:{attribute}")


def _made_by(function: Callable[[], Any], name: str) -> Pipeline:
    try:
        made = function()
    except Exception as error:
        raise _broken(f"{name}()", error) from error
    if not isinstance(made, Pipeline):
        raise TargetError(f"{name}() returned {_kind(made)}, not a Pipeline")
    return made


def _suggestions(module: ModuleType) -> str:
    names = sorted(name for name, value in vars(module).items() if isinstance(value, Pipeline))
    return f"; its pipelines: {', '.join(names)}" if names else ""


def _kind(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"of type {type(value).__name__}"


def _broken(what: str, error: Exception) -> TargetError:
    frames = [each for each in traceback.extract_tb(error.__traceback__) if not each.filename.startswith("<frozen")]
    last = frames[-1]
    where = "" if last.filename == __file__ else f" ({Path(last.filename).name}:{last.lineno})"
    return TargetError(f"{what} cannot be used: {type(error).__name__}: {error}{where}")
