"""What the declarations of all sources have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from airflow_parallel_provider.engine.interfaces.source import Source


class DeclaredSource(Source):
    """A source that is declared in a DAG file, and whose texts Airflow may render."""

    template_fields: ClassVar[tuple[str, ...]] = ()
    """What Airflow renders when the source is in a template field of an operator."""

    def __bool__(self) -> bool:
        # Airflow asks before it renders, and would take the length for the answer.
        return True

    def __iter__(self) -> Iterator[Any]:
        """Yield the items."""
        raise NotImplementedError
