# SPDX-License-Identifier: Apache-2.0
"""How often a failed call is made again, and the pauses between attempts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from types import SimpleNamespace

from airflow_parallel_provider.checks import check_seconds, check_whole
from airflow_parallel_provider.errors import PlanError, TerminalError

RetryOn = type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool]


@dataclass(frozen=True, slots=True)
class Retry:
    """Repeat a failed call with growing pauses.

    A call is one item, or one batch in a stage with ``batch_size``. While a call waits for its next attempt its worker
    makes other calls. A :class:`~airflow_parallel_provider.errors.TerminalError` is never retried. An error that says
    when to come back (:class:`~airflow_parallel_provider.errors.RetryAfter`, ``Retry-After``) holds all calls of its
    stage.

    :param attempts: most attempts, the first one included; 1 means no retry.
    :param backoff: seconds before the second attempt; doubles with each further one.
    :param max_backoff: seconds, upper bound of one pause.
    :param jitter: draw each pause evenly between zero and its length, so that calls that failed together are not
        repeated together.
    :param on: exception type, tuple of types, or a predicate of the exception; None: everything but terminal errors
        and errors that are not an :class:`Exception` (``SystemExit``, ``KeyboardInterrupt``).
    :raises PlanError: when a number is out of range.
    """

    attempts: int = 3
    _: KW_ONLY
    backoff: float = 0.5
    max_backoff: float = 60.0
    jitter: bool = True
    on: RetryOn | None = None

    def __post_init__(self) -> None:
        check_whole("Retry.attempts", self.attempts)
        check_seconds("Retry.backoff", self.backoff, most=math.inf)
        check_seconds("Retry.max_backoff", self.max_backoff, most=math.inf)
        if self.on is not None and not _is_condition(self.on):
            raise PlanError("Retry.on", self.on, "give an exception type, a tuple of them, or a function of the error")

    def accepts(self, error: BaseException) -> bool:
        """Whether a call that raised ``error`` may be made again."""
        kind = type(error)  # not isinstance: an error may lie about its class
        if issubclass(kind, TerminalError):
            return False
        if self.on is None:
            return issubclass(kind, Exception)
        if isinstance(self.on, (type, tuple)):
            return issubclass(kind, self.on)
        return bool(self.on(error))

    def pause(self, attempt: int) -> float:
        """Seconds to wait after attempt number ``attempt`` (from 1) failed."""
        import tenacity  # takes 40 ms, so only runs that retry import it

        kind = tenacity.wait_random_exponential if self.jitter else tenacity.wait_exponential
        wait = kind(multiplier=self.backoff, max=self.max_backoff)
        return float(wait(SimpleNamespace(attempt_number=attempt)))  # type: ignore[arg-type]  # reads only that


def _is_condition(on: object) -> bool:
    if isinstance(on, tuple):
        return bool(on) and all(isinstance(each, type) and issubclass(each, BaseException) for each in on)
    if isinstance(on, type):
        return issubclass(on, BaseException)
    return callable(on)
