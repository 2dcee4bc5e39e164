# SPDX-License-Identifier: Apache-2.0
"""Copies a pipeline with another source, other stages or another sink."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from airflow_parallel_provider.engine.interfaces.sink import Sink, as_sink
from airflow_parallel_provider.engine.interfaces.source import as_source
from airflow_parallel_provider.engine.pipeline import Pipeline

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.plan.stage import Stage

Part = TypeVar("Part")


@runtime_checkable
class Wrapper(Protocol):
    """A source or sink that wraps another one and must stay when that one is exchanged."""

    def around(self, inner: Any) -> Any:
        """The same wrapper around another part."""


def rebuilt(
    pipeline: Pipeline,
    *,
    source: Any = None,
    stages: Sequence[Stage] | None = None,
    sink: Any = None,
    **settings: Any,
) -> Pipeline:
    """A copy of ``pipeline`` with the given parts exchanged; the original does not change.

    :param settings: attributes of the pipeline, already checked.
    """
    # A copy, not a new pipeline, so that it also has the settings that a later version adds.
    made = copy.copy(pipeline)
    if source is not None:
        made.source = _exchanged(pipeline.source, as_source(source))
    if stages is not None:
        made.stages = tuple(stages)
    if sink is not None:
        new: Sink = as_sink(sink)
        # A pipeline without a sink may still have a wrapper for one.
        made.sink = _exchanged(pipeline.sink or getattr(pipeline, "sink_wrapper", None), new)
    for name, value in settings.items():
        assert hasattr(made, name), name
        setattr(made, name, value)
    return made


def _exchanged(old: object, new: Part) -> Part:
    if isinstance(old, Wrapper):
        wrapped: Part = old.around(new)
        return wrapped
    return new
