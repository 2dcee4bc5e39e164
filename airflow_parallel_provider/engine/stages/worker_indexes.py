# SPDX-License-Identifier: Apache-2.0
"""Who has which index among the workers of a stage."""

from __future__ import annotations

import threading

from airflow_parallel_provider.engine.dataflow.channel import ChannelBroken


class WorkerIndexes:
    """Hands out the indexes from 0 to ``count - 1``. Safe from any thread."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._holders = [0] * count
        self._changed = threading.Condition()
        self._broken = False

    def take(self) -> int:
        """The lowest index that is free. A stage that grows again waits for those that are just leaving.

        :raises ChannelBroken: when the run is being torn down.
        """
        with self._changed:
            while not self._broken:
                if 0 in self._holders:
                    index = self._holders.index(0)
                    self._holders[index] = 1
                    return index
                self._changed.wait()
        raise ChannelBroken

    def share(self, index: int) -> int:
        """One more worker has this index: the successor of one that has it."""
        with self._changed:
            self._holders[index] += 1
        return index

    def give_back(self, index: int) -> None:
        """A worker has ended."""
        with self._changed:
            self._holders[index] -= 1
            self._changed.notify_all()

    def break_(self) -> None:
        """The run is being torn down: wake those that wait."""
        with self._changed:
            self._broken = True
            self._changed.notify_all()
