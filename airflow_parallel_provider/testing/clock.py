"""Time that passes without waiting: pauses between attempts are written down instead of slept."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from unittest import mock

from airflow_parallel_provider.engine.plan.retry import Retry

_real_pause = Retry.pause


class VirtualClock:
    """Notes every pause it was asked to let pass. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pauses: list[float] = []

    @property
    def pauses(self) -> list[float]:
        """Seconds of each pause, in the order they were asked for."""
        with self._lock:
            return list(self._pauses)

    @property
    def seconds(self) -> float:
        """All pauses together: what waiting them out one after the other would have taken."""
        return sum(self.pauses)

    def let_pass(self, seconds: float) -> None:
        """Note a pause; returns at once."""
        with self._lock:
            self._pauses.append(seconds)

    def __repr__(self) -> str:
        return f"VirtualClock({len(self.pauses)} pauses, {self.seconds:g} s)"


@dataclass(frozen=True, slots=True)
class ClockedRetry(Retry):
    """A :class:`Retry` that takes its pauses on a virtual clock. Stays in the task process."""

    clock: VirtualClock | None = None

    @classmethod
    def of(cls, retry: Retry, clock: VirtualClock) -> ClockedRetry:
        """The same number of attempts on the same errors."""
        return cls(
            retry.attempts,
            backoff=retry.backoff,
            max_backoff=retry.max_backoff,
            jitter=retry.jitter,
            on=retry.on,
            clock=clock,
        )

    def pause(self, attempt: int) -> float:
        """Zero; the clock hears of the real pause."""
        if self.clock is not None:
            self.clock.let_pass(longest_pause(self, attempt))
        return 0.0


def longest_pause(retry: Retry, attempt: int) -> float:
    """Seconds ``retry`` waits at most after attempt number ``attempt`` failed: jitter draws from zero up to this."""
    return _real_pause(Retry(backoff=retry.backoff, max_backoff=retry.max_backoff, jitter=False), attempt)


@contextlib.contextmanager
def fast_retries() -> Iterator[VirtualClock]:
    """Inside the ``with`` block no :class:`Retry` waits; the clock it gives has the pauses.

    For pipelines that a test does not build itself (in an operator, in a DAG). A pause is noted without jitter, so that
    a test can compare it.

    What it does not do: shorten the pauses between two tries of a stage's ``setup``, rename time elsewhere
    (``time.sleep`` in your functions still sleeps), or keep two tests apart that run at once in one process: it holds
    for the whole process.
    """
    clock = VirtualClock()

    def pause(retry: Retry, attempt: int) -> float:
        clock.let_pass(longest_pause(retry, attempt))
        return 0.0

    with mock.patch.object(Retry, "pause", pause):
        yield clock
