# SPDX-License-Identifier: Apache-2.0
"""A source that lasts as long as the load test, and the samples that are taken meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from airflow_parallel_provider.engine.interfaces.records import CommittedChunk, LoadSpec
from airflow_parallel_provider.engine.interfaces.sink import Sink
from airflow_parallel_provider.engine.interfaces.source import Source
from airflow_parallel_provider.engine.interfaces.wrapped_sink import WrappedSink
from airflow_parallel_provider.engine.interfaces.wrapped_source import WrappedSource

_NEVER_FULL = 2**62
"""A chunk size that no run reaches."""


class LoadTestSource(WrappedSource):
    """Repeats another source until enough items have been read or enough time has passed.

    :param items: most items; None: no limit.
    :param seconds: stop reading after this time, which is checked between two items; None: no limit.
    """

    def __init__(self, inner: Source, items: int | None, seconds: float | None) -> None:
        super().__init__(inner)
        self.items = items
        self.seconds = seconds
        self.given = 0
        self.rounds = 0
        """How often the inner source was read to its end."""
        self.exhausted = False
        """The inner source could not be read again (a generator object), or was empty from the start."""
        self.acknowledges = False
        """Outside load tests the inner source acts on commits, as a queue does."""

    @property
    def narrow(self) -> None:
        """None: a load test reads all items, whatever a table has."""
        return

    def wrap_sink(self, sink: Sink) -> Sink:
        """A sink whose commits the inner source does not notice: a load test removes nothing from a queue."""
        unused = Sink()
        wrapped = self.inner.wrap_sink(unused)
        self.acknowledges = wrapped is not unused
        return NoAcknowledgmentSink(sink, wrapped) if self.acknowledges else sink

    def __len__(self) -> int:
        """Number of items, if only that ends the source.

        :raises TypeError: when a time limit may end it first.
        """
        if self.items is None or self.seconds is not None:
            raise TypeError("the number of items is unknown before the time limit is reached")
        return self.items

    def __iter__(self) -> Iterator[Any]:
        """The items, over and over."""
        end = None if self.seconds is None else time.monotonic() + self.seconds
        while True:
            before = self.given
            for item in self.inner:
                if self.given == self.items or (end is not None and time.monotonic() >= end):
                    return
                self.given += 1
                yield item
            if self.given == before:
                self.exhausted = True
                return
            self.rounds += 1
            if self.acknowledges:  # a queue would only deliver the same messages again
                self.exhausted = True
                return


class NoAcknowledgmentSink(WrappedSink):
    """Commits in one sink, and keeps the commits from the sink that acknowledges messages of the source.

    It opens and closes the acknowledging sink as usual. So the queue is released at the end, and delivers the messages
    again at once.
    """

    def __init__(self, inner: Sink, acknowledging: Sink) -> None:
        super().__init__(inner)
        self._acknowledging = acknowledging

    def prepare(self, spec: LoadSpec) -> None:
        """Prepare both. The source must not wait for the acknowledgment of a whole chunk, which never comes."""
        self._acknowledging.prepare(replace(spec, chunk_size=_NEVER_FULL))
        try:
            self.inner.prepare(spec)
        except BaseException:
            self._acknowledging.close()  # the run does not begin, so close() is not called
            raise

    def open(self) -> Mapping[str, CommittedChunk]:
        """Open both."""
        self._acknowledging.open()
        return self.inner.open()

    def close(self) -> None:
        """Close both."""
        try:
            self.inner.close()
        finally:
            self._acknowledging.close()


@dataclass(frozen=True, slots=True)
class Sample:
    """The state of the run at one moment."""

    seconds: float
    read: int
    """Items read from the source so far."""
    passed: int
    """Items that the last stage has started so far: a finer measure than commits, which come in chunks."""
    memory: int
    """Resident bytes of the task process and all its workers."""


class Sampler:
    """Collects samples from the snapshots of a run, in bounded space.

    Programs that this process started before the sampler was made are no workers of the run: their memory is left out.

    :param most: most samples. When they are reached, every second sample is dropped, and from then on the sampler uses
        only every second snapshot.
    """

    def __init__(self, most: int = 2000) -> None:
        self.samples: list[Sample] = []
        self._most = most
        self._snapshots = 0
        self._stride = 1
        import psutil  # a load test only: importing the command line must stay cheap

        self._process = psutil.Process()
        self._others = set(self._process.children())

    def add(self, snapshot: Mapping[str, Any]) -> None:
        """Take a sample. Call it on the thread that runs the pipeline."""
        self._snapshots += 1
        if (self._snapshots - 1) % self._stride and not snapshot["final"]:
            return
        if len(self.samples) >= self._most:
            del self.samples[1::2]
            self._stride *= 2
        read, passed = snapshot["items_read"], snapshot["items_read"]
        if snapshot["stages"]:
            last = snapshot["stages"][-1]
            passed = last["items_in"] - last["queue_now"]
        self.samples.append(Sample(snapshot["seconds"], read, passed, self._memory()))

    def _memory(self) -> int:
        import psutil

        total = self._process.memory_info().rss
        for child in self._process.children():
            if child in self._others:
                continue
            try:
                total += child.memory_info().rss
                total += sum(each.memory_info().rss for each in child.children(recursive=True))
            except psutil.Error:  # a worker that has just ended
                continue
        return total
