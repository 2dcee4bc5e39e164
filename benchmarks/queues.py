"""The design of seed 002: processes for every stage, a bounded ``multiprocessing.Queue`` in front of each."""

from __future__ import annotations

import itertools
import multiprocessing as mp
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from benchmarks.spec import Laps

BOUND = 64


def _work(function: Callable[[Any], Any], inbox: Any, outbox: Any) -> None:
    for item in iter(inbox.get, None):
        outbox.put(function(item))


def queued(
    laps: Laps, source: Iterable[Any], functions: Sequence[Callable[[Any], Any]], workers: Sequence[int]
) -> Iterator[Any]:
    """Results in any order; ``workers[i]`` processes run ``functions[i]``."""
    channels = [mp.Queue(BOUND) for _ in range(len(functions) + 1)]
    stages = [
        [mp.Process(target=_work, args=(function, channels[at], channels[at + 1])) for _ in range(workers[at])]
        for at, function in enumerate(functions)
    ]
    for worker in itertools.chain(*stages):
        worker.start()

    def feed() -> None:
        for item in source:
            channels[0].put(item)
        for at, stage in enumerate(stages):
            for _ in stage:
                channels[at].put(None)
            for worker in stage:
                worker.join()  # then its results are in the next queue, and the next stage may get the end mark
        channels[-1].put(None)

    source_reader = threading.Thread(target=feed)
    source_reader.start()
    yield from iter(channels[-1].get, None)
    laps.done()
    source_reader.join()
