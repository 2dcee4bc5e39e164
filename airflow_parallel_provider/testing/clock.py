# SPDX-License-Identifier: Apache-2.0
"""A virtual clock: pauses between attempts are recorded instead of slept."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from unittest import mock

from airflow_parallel_provider.engine.plan.retry import Retry

_real_pause = Retry.pause


class VirtualClock:
    """Records every pause. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pauses: list[float] = []

    @property
    def pauses(self) -> list[float]:
        """Seconds of each pause, in order."""
        with self._lock:
            return list(self._pauses)

    @property
    def seconds(self) -> float:
        """Seconds of all pauses together, as if they had followed one another."""
        return sum(self.pauses)

    def record(self, seconds: float) -> None:
        """Record a pause; returns at once."""
        with self._lock:
            self._pauses.append(seconds)

    def __repr__(self) -> str:
        return f"VirtualClock({len(self.pauses)} pauses, {self.seconds:g} s)"


@dataclass(frozen=True, slots=True)
class ClockedRetry(Retry):
    """A :class:`Retry` whose pauses are recorded on a virtual clock. Stays in the task process."""

    clock: VirtualClock | None = None

    @classmethod
    def of(cls, retry: Retry, clock: VirtualClock) -> ClockedRetry:
        """A retry with the same attempts and errors as ``retry``."""
        return cls(
            retry.attempts,
            backoff=retry.backoff,
            max_backoff=retry.max_backoff,
            jitter=retry.jitter,
            on=retry.on,
            clock=clock,
        )

    def pause(self, attempt: int) -> float:
        """Zero; the clock records the real pause."""
        if self.clock is not None:
            self.clock.record(longest_pause(self, attempt))
        return 0.0


def longest_pause(retry: Retry, attempt: int) -> float:
    """The longest pause in seconds after attempt number ``attempt`` failed; jitter draws from zero up to this."""
    return _real_pause(Retry(backoff=retry.backoff, max_backoff=retry.max_backoff, jitter=False), attempt)


@contextlib.contextmanager
def fast_retries() -> Iterator[VirtualClock]:
    """Let no :class:`Retry` wait inside the ``with`` block; yields the clock that records the pauses.

    For pipelines that a test does not build itself (in an operator, in a DAG). Pauses are recorded without jitter, so
    that a test can compare them.

    What it does not do: shorten the pauses between two attempts of a stage's ``setup``, change time elsewhere
    (``time.sleep`` in your functions still sleeps), or separate two tests that run at the same time in one process: it
    affects the whole process.
    """
    clock = VirtualClock()

    def pause(retry: Retry, attempt: int) -> float:
        clock.record(longest_pause(retry, attempt))
        return 0.0

    with mock.patch.object(Retry, "pause", pause):
        yield clock
