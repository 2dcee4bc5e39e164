"""A shard that is done takes chunks of others that are at work; the ledger's key decides who is in."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from airflow_parallel_provider import Pipeline, RunReport, SinkTable, Stage
from airflow_parallel_provider.engine.dataflow import sink_writer
from airflow_parallel_provider.engine.interfaces.records import ChunkResult
from airflow_parallel_provider.errors import RunFailed, SinkFailed

pytestmark = pytest.mark.airflow


@pytest.fixture(autouse=True)
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "w.db"
    monkeypatch.setenv("AIRFLOW_CONN_W", json.dumps({"conn_type": "sqlite", "host": str(path)}))
    return path


def row(number: int) -> dict[str, int]:
    return {"id": number}


class Slow(SinkTable):
    """Commits its first chunk, then waits until another shard has done something."""

    waits_for = threading.Event()
    _first: bool = True

    def commit(self, chunk: ChunkResult) -> int | None:
        if not self._first:
            self.waits_for.wait(60)
        self._first = False
        return super().commit(chunk)


def pipeline(source: Any = range(200), sink: Any = SinkTable, stage: Any = row, **options: Any) -> Pipeline:
    # One chunk in flight: a shard holds no more than it is working on.
    made = sink("t", conn_id="w", columns={"id": int}, aggregates={"n": "count"})
    given = {"chunk_size": 10, "max_in_flight": 10, "load_key": "l", **options}
    return Pipeline(source, [Stage(stage, kind="inline")], made, **given)


def ids(database: Path) -> list[int]:
    with closing(sqlite3.connect(database)) as connection:
        return [each for (each,) in connection.execute("SELECT id FROM t ORDER BY 1")]


def test_idle_shard_takes_the_chunks_of_a_slow_one(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink_writer, "_LOOK_EVERY", 0.0)
    done, begun = threading.Event(), threading.Event()
    monkeypatch.setattr(Slow, "waits_for", done)
    reports: dict[str, RunReport] = {}

    def row_of_slow(number: int) -> dict[str, int]:
        if number >= 20:
            begun.set()  # one chunk is in flight, so the first one is in
        return row(number)

    slow = pipeline(sink=Slow, stage=row_of_slow)
    pipeline().begin()
    thread = threading.Thread(target=lambda: reports.update(slow=slow.run(shard=(0, 2))))
    thread.start()
    assert begun.wait(60)
    reports["fast"] = pipeline().run(shard=(1, 2))
    done.set()
    thread.join()

    assert reports["fast"].chunks_committed == 19  # its own ten, and all but the first of the other
    assert (reports["slow"].chunks_committed, reports["slow"].chunks_skipped) == (1, 9)
    for report in reports.values():
        assert report.items_read == report.items_committed + report.items_skipped
    assert pipeline().finish().aggregates == {"n": 200}
    assert ids(database) == list(range(200))


def test_shard_does_not_take_what_belongs_to_shards_that_have_not_begun(database: Path) -> None:
    pipeline().begin()

    assert pipeline().run(shard=(0, 3)).chunks_committed == 7
    assert pipeline().run(shard=(1, 3)).chunks_committed == 7
    assert pipeline().run(shard=(2, 3)).chunks_committed == 6


def test_lost_shard_is_done_by_others_before_its_retry(database: Path) -> None:
    class Dying(SinkTable):
        def commit(self, chunk: ChunkResult) -> int | None:
            if chunk.index >= 4:
                raise OSError("gone")
            return super().commit(chunk)

    pipeline().begin()
    with pytest.raises(Exception, match="gone"):
        pipeline(sink=Dying).run(shard=(0, 2))
    helped = pipeline().run(shard=(1, 2))
    again = pipeline().run(shard=(0, 2))

    assert (helped.chunks_committed, again.chunks_committed, again.chunks_skipped) == (18, 0, 10)
    assert pipeline().finish().rows_committed == 200


def test_look_that_fails_costs_the_help_only(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink_writer, "_LOOK_EVERY", 0.0)

    class Blind(SinkTable):
        def committed_now(self) -> Any:
            raise OSError("not now")

    pipeline().begin()
    for index in range(2):
        assert pipeline(sink=Blind).run(shard=(index, 2)).chunks_committed == 10
    assert pipeline().finish().rows_committed == 200


def test_source_that_cannot_jump_is_not_read_again(database: Path) -> None:
    reads: list[int] = []

    def items() -> Iterator[int]:
        reads.append(1)
        return iter(range(200))

    pipeline(items).begin()
    for index in range(2):
        pipeline(items).run(shard=(index, 2))
    assert len(reads) == 2


def poisoned(number: int) -> dict[str, int]:
    if number == 64:  # in chunk 6, which belongs to shard 0 of two and three
        raise ValueError("no such item")
    return row(number)


class Poisoned(SinkTable):
    """Has one chunk that it cannot take."""

    def commit(self, chunk: ChunkResult) -> int | None:
        if chunk.index == 6:
            raise OSError("no room for this one")
        return super().commit(chunk)


@pytest.mark.parametrize("bad", [{"stage": poisoned}, {"sink": Poisoned}])
@pytest.mark.parametrize("tries", [1, 2])
def test_chunk_that_fails_fails_only_its_own_shard(database: Path, bad: dict[str, Any], tries: int) -> None:
    pipeline(**bad).begin()
    for _ in range(tries):
        with pytest.raises(RunFailed, match=r"1 of|no room"):
            pipeline(**bad).run(shard=(0, 3))
    helped = [pipeline(**bad).run(shard=(index, 3)) for index in (1, 2)]

    assert [report.state for report in helped] == ["success", "success"]
    for report in helped:
        fates = report.items_committed + report.items_skipped + report.items_unfinished
        assert (report.items_read, report.items_dead_lettered, report.error) == (fates, 0, None)
    # The first one that was free has tried it once, and the other has left it alone.
    assert [report.items_unfinished for report in helped] == [10, 0]
    assert [len(report.warnings) for report in helped] == [1, 0]
    assert "left to that shard: " in helped[0].warnings[0]
    with pytest.raises(SinkFailed, match=r"of 20 chunks 1 are not in: 0*6\."):
        pipeline().finish()
    pipeline().run(shard=(0, 3))
    assert pipeline().finish().rows_committed == len(ids(database)) == 200


def test_chunk_is_helped_with_once_until_the_load_is_begun_again(database: Path) -> None:
    """Also if the process of the helper has died, so that nobody could note that the chunk failed."""

    class Died(BaseException):
        pass

    class Deadly(SinkTable):
        def commit(self, chunk: ChunkResult) -> int | None:
            if chunk.index == 6:
                raise Died
            return super().commit(chunk)

    pipeline().begin()
    with suppress(Died, RunFailed):
        pipeline(sink=Deadly).run(shard=(0, 3))
    with suppress(Died, RunFailed):
        pipeline(sink=Deadly).run(shard=(1, 3))
    pipeline(sink=Deadly).run(shard=(2, 3))
    with closing(sqlite3.connect(database)) as connection:
        ((taken,),) = connection.execute("SELECT taken_over FROM airflow_parallel_ledger__loads")
        done = {chunk for (chunk,) in connection.execute("SELECT chunk_id FROM airflow_parallel_ledger")}
    assert [int(chunk) for chunk in set(json.loads(taken)) - done] == [6]

    pipeline().begin()
    assert pipeline().run(shard=(2, 3)).chunks_committed == 1


def test_load_that_was_begun_anew_is_no_failure_of_help_only(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Late(SinkTable):
        """Its load is gone when it helps."""

        def commit(self, chunk: ChunkResult) -> int | None:
            if chunk.index % 2 == 0:
                with closing(sqlite3.connect(database)) as connection:
                    connection.execute("DELETE FROM airflow_parallel_ledger__loads")
                    connection.commit()
            return super().commit(chunk)

    pipeline().begin()
    with pytest.raises(RunFailed):
        pipeline(sink=Poisoned).run(shard=(0, 2))
    with pytest.raises(SinkFailed, match="no longer in the ledger"):
        pipeline(sink=Late).run(shard=(1, 2))


def test_balance_can_be_switched_off(database: Path) -> None:
    pipeline().begin()
    with pytest.raises(RunFailed):
        pipeline(sink=Poisoned, balance=False).run(shard=(0, 2))
    report = pipeline(balance=False).run(shard=(1, 2))

    assert (report.chunks_committed, report.items_read) == (10, 100)


def test_time_of_the_whole_goes_from_its_beginning_to_its_last_commit(database: Path) -> None:
    pipeline().begin()
    for index in range(2):
        pipeline().run(shard=(index, 2))
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE airflow_parallel_ledger__loads SET begun_at = '2026-11-30 12:00:00.000000'")
        connection.execute("UPDATE airflow_parallel_ledger SET committed_at = '2026-11-30 12:00:10.000000'")
        connection.execute(
            "UPDATE airflow_parallel_ledger SET committed_at = '2026-11-30 12:00:50.000000' WHERE first_position = 50"
        )
        connection.commit()
    for _ in range(2):  # a second end, perhaps days later, says the same
        report = pipeline().finish()
        assert (report.seconds, report.items_per_second) == (50.0, 4.0)
