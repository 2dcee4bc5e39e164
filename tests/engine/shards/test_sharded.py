"""What can be one load of several runs, and what cannot: refused by name, with the cure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_parallel_provider import (
    HttpPagesSource,
    ListSink,
    Pipeline,
    PlanError,
    QueueSource,
    RedisStream,
    Sink,
    SinkTable,
    StopToken,
)
from airflow_parallel_provider.engine.interfaces.records import ChunkResult
from airflow_parallel_provider.errors import RunStopped

ENTRIES: dict[str, Callable[[Pipeline], object]] = {
    "begin": Pipeline.begin,
    "run": lambda pipeline: pipeline.run(shard=(0, 2)),
    "finish": Pipeline.finish,
}

TABLE = SinkTable("scores", conn_id="warehouse")


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"load_key": None}, r"load_key=None: all shards write one load: name it"),
        ({"sink": ListSink()}, r"Pipeline.sink=ListSink: several shards need a ledger"),
        ({"sink": print}, r"Pipeline.sink=.*several shards need a ledger"),
        ({"sink": None}, r"Pipeline.sink=None"),
        ({"ordered": True}, r"Pipeline.ordered=True: the order holds within one run"),
        ({"sink": SinkTable("t", conn_id="w", write_disposition="merge", primary_key="id")}, r"SinkTable.newest"),
        ({"source": iter([1, 2])}, r"Pipeline.source=.*only once.*give the function"),
        ({"source": HttpPagesSource("http://x", conn_id="x")}, r"every page.*map the task over a parameter"),
        ({"source": QueueSource(RedisStream("orders", group="loader"))}, r"a queue gives each consumer other messages"),
    ],
)
def test_what_cannot_be_shared_is_refused(entry: str, options: dict[str, Any], message: str) -> None:
    pipeline = Pipeline(**{"source": [1], "stages": [], "sink": TABLE, "load_key": "nightly", **options})
    with pytest.raises(PlanError, match=message):
        ENTRIES[entry](pipeline)


@pytest.mark.parametrize("shard", [(2, 2), (-1, 2), (0, 0), (0,), 3, ("0", 2), (True, 2), (0, 2, 1), (0.0, 1)])
def test_shard_is_a_pair_of_numbers(shard: Any) -> None:
    with pytest.raises(PlanError, match=r"Pipeline.run\(shard\)=.*shard i of n"):
        Pipeline([1], [], TABLE, load_key="nightly").run(shard=shard)


class Stuck(Sink):
    """Does not open until it is interrupted."""

    def __init__(self, stop: StopToken) -> None:
        self.stop = stop
        self.interrupted = StopToken()
        self.closed = False

    def check_shards(self) -> None:
        """It may be shared."""

    def open(self) -> Any:
        self.stop.stop("no more")
        self.interrupted.wait()
        raise OSError("interrupted")

    def commit(self, chunk: ChunkResult) -> int:
        raise NotImplementedError

    def interrupt(self) -> None:
        self.interrupted.stop("")

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("entry", ["begin", "finish"])
def test_stop_request_interrupts_the_sink(entry: str) -> None:
    stop = StopToken()
    sink = Stuck(stop)
    pipeline = Pipeline([1], [], sink, load_key="nightly")

    with pytest.raises(RunStopped, match="no more"):
        getattr(pipeline, entry)(stop=stop)

    assert sink.closed
