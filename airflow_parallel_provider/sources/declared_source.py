# SPDX-License-Identifier: Apache-2.0
"""The base class of all sources that a DAG file declares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from airflow_parallel_provider.engine.interfaces.source import Source


class DeclaredSource(Source):
    """A source that a DAG file declares and whose texts Airflow may render."""

    template_fields: ClassVar[tuple[str, ...]] = ()
    """The attributes that Airflow renders when the source is in a template field of an operator."""

    def __bool__(self) -> bool:
        # Airflow checks the truth value before it renders; without this method Python would call __len__.
        return True

    def __iter__(self) -> Iterator[Any]:
        """Yield the items."""
        raise NotImplementedError
