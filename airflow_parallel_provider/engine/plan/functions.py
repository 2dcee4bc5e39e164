# SPDX-License-Identifier: Apache-2.0
"""What a function is, found without calling it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


def is_async(function: Callable[..., Any]) -> bool:
    """Whether a call of the function returns an awaitable or an async generator."""
    target = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
    return inspect.iscoroutinefunction(target) or inspect.isasyncgenfunction(target)


def _name_of(function: Any) -> str:
    while hasattr(function, "func") and not hasattr(function, "__name__"):  # functools.partial
        function = function.func
    name = getattr(function, "__name__", None) or type(function).__name__
    return "lambda" if name == "<lambda>" else str(name)


def has_process_method(function: Any) -> bool:
    """Whether a stage function is a class, or an instance of one, with a ``process`` method."""
    return not inspect.isroutine(function) and callable(getattr(function, "process", None))
