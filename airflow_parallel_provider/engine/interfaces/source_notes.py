# SPDX-License-Identifier: Apache-2.0
"""What a source has counted and what its author should know, for the report; whatever the code of its class does."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

from airflow_parallel_provider.engine.interfaces.source import Source
from airflow_parallel_provider.foreign.calls import Conversion, convert
from airflow_parallel_provider.foreign.text import clean

_MOST, _LONGEST = 20, 300
"""Figures of a source, and of one figure with parts; characters of a text."""


def figures_of(source: Source) -> dict[str, Any]:
    """What a source has counted; empty if its code fails, or takes too long now or did before."""

    def read(conversion: Conversion) -> dict[str, Any]:
        return _counted(source.figures, 0) if _may_ask(source, conversion) else {}

    return convert(read, {})


def warnings_of(source: Source) -> list[str]:
    """What the author should know of how a source reads; nothing if its code fails."""

    def read(conversion: Conversion) -> list[str]:
        found = itertools.islice(source.warnings, _MOST) if _may_ask(source, conversion) else ()
        return [clean(each, _LONGEST) for each in found]

    return convert(read, [])


def _may_ask(source: Source, conversion: Conversion) -> bool:
    # Perhaps a class of the author's.
    return conversion.may_call(type(source))


def _counted(found: Mapping[str, Any], depth: int) -> dict[str, Any]:
    """Numbers and texts, and one level of them within."""
    counted: dict[str, Any] = {}
    for name, value in itertools.islice(found.items(), _MOST):
        if type(value) is int or (type(value) is float and math.isfinite(value)):
            counted[clean(name, _LONGEST)] = value
        elif type(value) is str:
            counted[clean(name, _LONGEST)] = clean(value, _LONGEST)
        elif type(value) is dict and depth == 0:
            counted[clean(name, _LONGEST)] = _counted(value, 1)
    return counted
