"""A source that goes on for as long as the load test does, and the samples taken meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.engine.interfaces.records import CommittedChunk, LoadSpec
from airflow_parallel_provider.engine.interfaces.sink import Sink, WrappedSink
from airflow_parallel_provider.engine.interfaces.source import Source, WrappedSource

if TYPE_CHECKING:
    import psutil

_NEVER_WHOLE = 2**62
"""Items of a chunk that no run fills."""


class LoadTestSource(WrappedSource):
    """Repeats another source until enough items have been read or enough time has passed.

    :param items: read so many at most.
    :param seconds: stop reading after so long; asked between two items.
    """

    def __init__(self, inner: Source, items: int | None, seconds: float | None) -> None:
        super().__init__(inner)
        self.items = items
        self.seconds = seconds
        self.given = 0
        self.rounds = 0
        """How often the inner source was read to its end."""
        self.dried_up = False
        """The inner source could not be read again (a generator object), or was empty from the start."""
        self.acknowledges = False
        """Outside load tests the inner source hears of commits, as queues do."""

    def wrap_sink(self, sink: Sink) -> Sink:
        """The sink, of whose commits the inner source does not hear: a load test takes nothing out of a queue."""
        nowhere = Sink()
        told = self.inner.wrap_sink(nowhere)
        self.acknowledges = told is not nowhere
        return DiscardingSink(sink, told) if self.acknowledges else sink

    def __len__(self) -> int:
        """Number of items where only that ends it.

        :raises TypeError: when time may end it first.
        """
        if self.items is None or self.seconds is not None:
            raise TypeError("how many items are read in a time is not known before")
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
                self.dried_up = True
                return
            self.rounds += 1
            if self.acknowledges:  # what comes now is what has been there, and would count as done
                self.dried_up = True
                return


class DiscardingSink(WrappedSink):
    """A sink beside the one that a source listens to, which is opened and closed with it and told of no commit.

    So a queue is let go at the end, and delivers what was read again at once.
    """

    def __init__(self, inner: Sink, told: Sink) -> None:
        super().__init__(inner)
        self._told = told

    def prepare(self, spec: LoadSpec) -> None:
        """Both. Who listens is not to wait for what is done with a whole chunk, for that never comes."""
        self._told.prepare(replace(spec, chunk_size=_NEVER_WHOLE))
        try:
            self.inner.prepare(spec)
        except BaseException:
            self._told.close()  # nobody else will: this run ends before it begins
            raise

    def open(self) -> Mapping[str, CommittedChunk]:
        """Both."""
        self._told.open()
        return self.inner.open()

    def close(self) -> None:
        """Both."""
        try:
            self.inner.close()
        finally:
            self._told.close()


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the run."""

    seconds: float
    read: int
    """Items read from the source so far."""
    passed: int
    """Items that the last stage has taken up so far: finer than commits, which come in chunks."""
    memory: int
    """Resident bytes of the task process and all its workers."""


class Sampler:
    """Collects samples from the snapshots of a run, in bounded space.

    :param most: samples it keeps; when it is full every second one goes, and from then on every second look counts.
    """

    def __init__(self, most: int = 2000) -> None:
        self.samples: list[Sample] = []
        self._most = most
        self._looks = 0
        self._stride = 1
        self._process: psutil.Process | None = None

    def add(self, snapshot: Mapping[str, Any]) -> None:
        """Take a sample. Call it on the thread that runs the pipeline."""
        self._looks += 1
        if (self._looks - 1) % self._stride and not snapshot["final"]:
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

        if self._process is None:
            self._process = psutil.Process()
        total = 0
        for each in (self._process, *self._process.children(recursive=True)):
            try:
                total += each.memory_info().rss
            except psutil.Error:  # a worker that has just gone
                continue
        return total
