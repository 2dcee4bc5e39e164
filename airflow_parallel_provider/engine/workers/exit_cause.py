# SPDX-License-Identifier: Apache-2.0
"""Why a worker process ended, in words."""

from __future__ import annotations

import signal

from airflow_parallel_provider.engine.processes.system import exit_text, was_signalled
from airflow_parallel_provider.engine.resources.oom import kernel_kills


class ExitCause:
    """What is known about the end of one worker process after the other.

    :param memory_limit: of the stage, in bytes; None: no limit.
    """

    def __init__(self, memory_limit: int | None) -> None:
        self._memory_limit = memory_limit
        self._ended_at_rss = 0
        self._kernel_kills = 0
        self.peak_rss = 0
        """Most resident memory of the process that ended last, in bytes."""

    def reset(self) -> None:
        """A new process has started."""
        self._ended_at_rss, self._kernel_kills = 0, kernel_kills()

    def ended_over_limit(self, rss: int) -> None:
        """The process is killed because it holds ``rss`` bytes, far more than the memory limit."""
        self._ended_at_rss = rss

    def describe(self, status: int | None) -> str:
        """Why the process ended, with the memory that it held where that is the reason; empty when nothing is known.

        :param status: wait status; None: not known.
        """
        if self._ended_at_rss:
            return f"ended at {self._ended_at_rss:,} bytes of memory, memory_limit={self._memory_limit or 0:,}"
        if status is None:
            return ""
        if was_signalled(status, signal.SIGKILL) and kernel_kills() > self._kernel_kills:
            return f"killed by the kernel for lack of memory; it held {self.peak_rss:,} bytes"
        return exit_text(status)
