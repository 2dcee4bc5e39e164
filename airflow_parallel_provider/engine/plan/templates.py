# SPDX-License-Identifier: Apache-2.0
"""Templates: texts that Airflow renders to a number when the task starts."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any, Final

from airflow_parallel_provider.errors import PlanError

Render = Callable[[Any], Any]
"""Makes the value of a template."""

NOTHING: Final = frozenset({"", "None", "null"})
"""The texts of a template that renders to nothing."""


def is_template(value: object) -> bool:
    """Whether this is a text that Airflow renders when the task starts."""
    return isinstance(value, str) and ("{{" in value or "{%" in value)


def holds_template(value: object) -> bool:
    """Whether this is a template, or a pair that contains one: ``(1, "{{ params.most }}")``."""
    return any(map(is_template, value if isinstance(value, (tuple, list)) else (value,)))


def rendered_number(field: str, value: Any, *, optional: bool = False) -> Any:
    """``"500"`` as 500, ``"0.01"`` as 0.01; any other value than a text stays as it is.

    :param field: for the error.
    :param optional: whether the field may be left out; ``"None"`` and an empty text are then None.
    :raises PlanError: when the text is not a number.
    """
    if not isinstance(value, str):
        return value
    text = value.strip()
    if optional and text in NOTHING:
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    raise PlanError(field, value, "the template must render to a number" + (", or to nothing" if optional else ""))


def rendered_workers(field: str, value: Any) -> Any:
    """``"8"`` as 8, ``"(1, 8)"`` and ``("1", "8")`` as (1, 8), ``"auto"`` as it is.

    :raises PlanError: when the text is none of these.
    """
    if isinstance(value, (tuple, list)):
        return tuple(rendered_number(field, each) for each in value)
    if not isinstance(value, str) or value.strip() == "auto":
        return value.strip() if isinstance(value, str) else value
    try:
        made = ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        made = None
    if isinstance(made, (int, float, tuple, list)):
        return made
    raise PlanError(field, value, 'the template must render to a number, to (min, max) or to "auto"')
