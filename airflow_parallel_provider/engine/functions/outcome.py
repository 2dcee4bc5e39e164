# SPDX-License-Identifier: Apache-2.0
"""How the calls of a stage's function ended."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.engine.dataflow.keys import ResultShape
from airflow_parallel_provider.engine.functions.retry_after import retry_after_of
from airflow_parallel_provider.foreign.calls import type_name
from airflow_parallel_provider.foreign.errors import MESSAGE_LENGTH, message_text, trace_of, traceback_text
from airflow_parallel_provider.foreign.frames import location_of
from airflow_parallel_provider.foreign.shown import text_of
from airflow_parallel_provider.foreign.text import clean

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.interfaces.failed_part import FailedPart
    from airflow_parallel_provider.engine.plan.retry import Retry


class InvalidReturn(Exception):
    """The function returned what no stage may return: a mistake in the pipeline, not in an item."""


@dataclass(slots=True)
class CallFailure:
    """How one call failed, in plain text, so that it can be sent between any two processes."""

    error: str
    """Type of the error, for example ``ValueError``."""
    message: str
    location: str = ""
    """Where it was raised in the author's own code, as ``file.py:31`` (see :mod:`.foreign.frames`); failures of one
    type and location are one cause."""
    traceback: str = ""
    retryable: bool = False
    fatal: bool = False
    """The pipeline itself is wrong: end the run."""
    kind: str = "raised"
    """raised | timeout | lost | transport | parts"""
    parts: Sequence[FailedPart] = ()
    """Only for ``parts``: what failed of an item whose other results are in the outcome."""
    retry_after: float | None = None
    """Seconds for which the service that the function has called asks to be left alone."""


@dataclass(slots=True)
class Outcome:
    """How the calls of one message ended."""

    results: list[Any] = field(default_factory=list)
    """Results of all calls, one after the other."""
    shapes: list[ResultShape] | None = None
    """What each call returned; None only without ``batch_size``, where each item has exactly one result."""
    failures: dict[int, CallFailure] = field(default_factory=dict)
    """By number of the call in the message."""
    nanoseconds: array[int] = field(default_factory=lambda: array("Q"))
    """Duration of each call that ended."""

    def first(self, calls: int) -> Outcome:
        """A copy that holds only the first ``calls`` calls."""
        if self.shapes is None:
            return Outcome(self.results[:calls], None, {}, self.nanoseconds[:calls])
        shapes = self.shapes[:calls]
        count = sum(len(shape) if isinstance(shape, list) else abs(shape) for shape in shapes)
        failures = {number: failure for number, failure in self.failures.items() if number < calls}
        return Outcome(self.results[:count], shapes, failures, self.nanoseconds[:calls])


def failure_of_parts(parts: Sequence[FailedPart]) -> CallFailure:
    """The failure of a call that made some of its results."""
    first = parts[0]
    return CallFailure(text_of(first.error, 200), text_of(first.message, MESSAGE_LENGTH), kind="parts", parts=parts)


def merge_outcomes(outcomes: list[Outcome]) -> Outcome:
    """One outcome for the calls of several outcomes, of one call each."""
    if len(outcomes) == 1:
        return outcomes[0]
    merged = Outcome(shapes=[])
    assert merged.shapes is not None
    for number, outcome in enumerate(outcomes):
        merged.results.extend(outcome.results)
        merged.shapes.extend([1] if outcome.shapes is None else outcome.shapes)
        merged.nanoseconds.extend(outcome.nanoseconds)
        if outcome.failures:
            merged.failures[number] = outcome.failures[0]
    return merged


def describe_error(error: BaseException, *, retryable: bool = False, kind: str = "raised") -> CallFailure:
    """Describe an error as plain, clean text. Never raises, even where the error's own methods do, or hang."""
    return CallFailure(
        error=clean(type_name(error), 200),
        message=message_text(error),
        location=clean(location_of(trace_of(error)), 200),
        traceback=traceback_text(error),
        retryable=retryable,
        fatal=issubclass(type(error), InvalidReturn),
        kind=kind,
    )


def failure_of(error: BaseException, retry: Retry) -> CallFailure:
    """Describe an error that a stage's function raised, and decide whether the call may be retried.

    This happens where the call is made, because ``retry`` may look at the error object itself.
    """
    if issubclass(type(error), InvalidReturn):
        return describe_error(error)
    try:
        retryable = retry.accepts(error)
    except BaseException:  # noqa: BLE001 - a broken predicate means: no retry
        retryable = False
    failure = describe_error(error, retryable=retryable)
    failure.retry_after = retry_after_of(error)
    return failure
