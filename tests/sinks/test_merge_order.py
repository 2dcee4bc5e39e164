"""Of two rows with one key the later in the source stays in a merge, whatever order chunks end in, whatever failed."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from pathlib import Path
from typing import Any

import pytest

from airflow_parallel_provider import (
    FilesSource,
    FilesToTableOperator,
    ListSink,
    ParallelPipelineOperator,
    Pipeline,
    PlanError,
    ReplayDeadLettersOperator,
    RunFailed,
    RunReport,
    SinkTable,
    Stage,
)
from airflow_parallel_provider.engine.interfaces.records import ChunkResult
from airflow_parallel_provider.engine.interfaces.wrapped_sink import WrappedSink
from airflow_parallel_provider.errors import SinkFailed
from airflow_parallel_provider.sinks.replay import Replay
from tests.support.children import KILLED, Child, killing_hook
from tests.support.databases import TestDatabase, on_each_backend, on_two_backends
from tests.support.sync import Gate, Meeting

pytestmark = pytest.mark.airflow
MERGE: dict[str, Any] = {"write_disposition": "merge", "primary_key": ["id"]}
ON_SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


@pytest.fixture(autouse=True)
def connection(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hooks that are made from a declaration find the database of the test."""
    if "database" not in request.fixturenames:
        return
    database = request.getfixturevalue("database")
    from airflow_parallel_provider.sql import database as module

    monkeypatch.setattr(module, "get_connection", lambda *_: database.connection)


def declared(database: TestDatabase, **options: Any) -> SinkTable:
    return SinkTable("scores", conn_id="warehouse", schema=database.schema, lock_timeout=10, **{**MERGE, **options})


def ledger(database: TestDatabase) -> list[str]:
    return [row[0] for row in database.ledger()]


# -- which runs keep the order -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "ordered"),
    [
        ({}, True),
        ({"newest": "seen"}, False),
        ({"write_disposition": "append"}, False),
        ({"write_disposition": "replace"}, False),
    ],
)
def test_sink_decides_where_the_author_has_not(options: dict[str, Any], ordered: bool) -> None:
    sink = SinkTable("scores", conn_id="warehouse", **{**MERGE, **options})

    assert sink.order_matters is ordered
    assert WrappedSink(sink).order_matters is ordered
    assert Pipeline([], [], sink).ordered is ordered
    assert Pipeline([], [], sink).load_spec.ordered is ordered
    assert Pipeline([], [], sink, ordered=None).ordered is ordered
    assert Pipeline([], [], sink, ordered=True).ordered
    assert not Pipeline([], [], sink, ordered=False).ordered


def test_other_sinks_need_no_order() -> None:
    assert not Pipeline([], [], ListSink()).ordered
    assert not Pipeline([], [], lambda rows: None).ordered
    assert not Pipeline([], []).ordered


def test_operators_leave_it_to_the_sink_and_take_the_author_s_word() -> None:
    sink = SinkTable("scores", conn_id="warehouse", **MERGE)
    plain = ParallelPipelineOperator(task_id="one", source=[], stages=[], sink=sink)
    told = FilesToTableOperator(task_id="two", files=FilesSource("/nowhere/*"), sink=sink, ordered=False)

    assert plain._build(source=[], stages=[]).ordered
    assert not told._build(source=[], stages=[]).ordered


# -- chunks that end in another order ----------------------------------------------------------------------------------


class Late:
    """A row per item; the first two chunks have the same keys. The first item ends when the last one begins."""

    def __init__(self, last: int, meeting: Meeting) -> None:
        self.last = last
        self.meeting = meeting

    def row(self, number: int) -> dict[str, int]:
        if number == self.last:
            self.meeting.arrive()
        elif number == 0:
            self.meeting.expect()
        return {"id": number % 3 if number < 6 else number, "value": number}

    async def row_of_a_coroutine(self, number: int) -> dict[str, int]:
        return await asyncio.to_thread(self.row, number)


@pytest.mark.parametrize("kind", ["thread", "process", "async"])
@ON_SQLITE
def test_first_chunk_ends_last(database: TestDatabase, kind: Any, tmp_path: Path) -> None:
    late = Late(11, Meeting.at(tmp_path / "last"))
    function = late.row_of_a_coroutine if kind == "async" else late.row
    stages = [Stage(function, kind=kind, workers=6, name="late")]

    Pipeline(range(12), stages, declared(database), chunk_size=3).run()

    assert database.rows()[:3] == [(0, 3), (1, 4), (2, 5)]


@ON_SQLITE
def test_files_of_which_the_older_one_takes_longer(database: TestDatabase, tmp_path: Path) -> None:
    (tmp_path / "1-monday.csv").write_text("id,name\n" + "".join(f"{at},old\n" for at in range(30_000)))
    (tmp_path / "2-tuesday.csv").write_text("id,name\n5,new\n")
    load = FilesToTableOperator(task_id="load", files=str(tmp_path / "*.csv"), sink=declared(database), workers=2)

    load._build(source=load.source, stages=load.stages, chunk_size=1).run()

    assert database.fetch(f"SELECT name FROM {database.place('scores')} WHERE id = '5'") == [("new",)]


@ON_SQLITE
def test_batches_of_a_later_stage_hold_neighbors(database: TestDatabase, tmp_path: Path) -> None:
    """A function that returns one row for each batch does not say which item it comes from."""
    gate = Gate()

    def scatter(number: int) -> int:
        if number == 0:
            gate.pass_through()
        elif number == 8:
            gate.open()
        return number

    def gather(numbers: list[int]) -> list[dict[str, Any]]:
        return [{"id": 1, "value": " ".join(map(str, numbers))}]

    stages = [Stage(scatter, workers=3), Stage(gather, batch_size=3)]
    Pipeline(range(9), stages, declared(database), chunk_size=9).run()

    assert database.rows() == [(1, "6 7 8")]


# -- attempts that fail ------------------------------------------------------------------------------------------------


class Fails:
    """A row per item, of three keys; until it is mended an item fails, as soon as the gate is open."""

    def __init__(self, bad: int) -> None:
        self.bad = bad
        self.mended = False
        self.gate = Gate()

    def __call__(self, number: int) -> dict[str, int]:
        if number == self.bad and not self.mended:
            self.gate.pass_through()
            raise ValueError("not yet")
        return {"id": number % 3, "value": number}


class Counting(WrappedSink):
    """Opens a gate after so many commits."""

    def __init__(self, inner: SinkTable, commits: int, gate: Gate) -> None:
        super().__init__(inner)
        self.left = commits
        self.gate = gate

    def commit(self, chunk: ChunkResult) -> int | None:
        rows = super().commit(chunk)
        self.left -= 1
        if not self.left:
            self.gate.open()
        return rows


def attempt(
    function: Fails, sink: SinkTable, ordered: bool | None = None, commits: int = 3, **options: Any
) -> RunReport:
    stages = [Stage(function, workers=6, name="fails")]
    target = Counting(sink, commits, function.gate)
    given: dict[str, Any] = {"chunk_size": 3, "load_key": "nightly", **options}
    return Pipeline(range(12), stages, target, ordered=ordered, **given).run()


@ON_SQLITE
def test_author_who_says_so_gets_chunks_as_they_end(database: TestDatabase) -> None:
    function = Fails(0)
    function.mended = True

    def wait(number: int) -> int:
        if number == 0:
            function.gate.pass_through()
        return number

    stages = [Stage(wait, workers=6), Stage(function, name="fails")]
    Pipeline(range(12), stages, Counting(declared(database), 3, function.gate), chunk_size=3, ordered=False).run()

    assert database.rows() == [(0, 0), (1, 1), (2, 2)]


@on_two_backends
def test_chunks_behind_one_that_failed_wait_for_the_retry(database: TestDatabase) -> None:
    """Without the order the gate opens at once; with it no other chunk can commit, and the wait ends by itself."""
    function = Fails(4)
    function.gate.pass_through = lambda: function.gate.wait(0.5)  # type: ignore[method-assign,assignment]

    with pytest.raises(RunFailed):
        attempt(function, declared(database), commits=2)
    before = ledger(database)
    function.mended = True
    attempt(function, declared(database))

    assert before == ["00000000"]
    assert ledger(database) == [f"{number:08d}" for number in range(4)]
    assert database.rows() == [(0, 9), (1, 10), (2, 11)]


@on_each_backend
def test_chunks_that_were_in_before_an_earlier_one_are_merged_again(database: TestDatabase) -> None:
    """An earlier attempt had another order: its author has said so, or an old version has begun the load."""
    function = Fails(4)
    more: dict[str, Any] = {"validate": lambda row: row["value"] != 6, "aggregates": {"rows": "count"}}
    with pytest.raises(RunFailed):
        attempt(function, declared(database, **more), ordered=False, tolerance=1)
    assert ledger(database) == ["00000000", "00000002", "00000003"]

    function.mended = True
    report = attempt(function, declared(database, **more), tolerance=1)

    assert ledger(database) == [f"{number:08d}" for number in range(4)]
    assert database.rows() == [(0, 9), (1, 10), (2, 11)]
    assert report.items_skipped == 3
    assert report.aggregates == {"rows": 11}
    assert len(database.rows("scores__rejected")) == 1


@on_each_backend
def test_their_dead_letters_are_not_doubled(database: TestDatabase) -> None:
    function = Fails(4)

    def dies_later(number: int) -> dict[str, int]:
        if number == 7:
            raise KeyError("never")
        return function(number)

    dies_later.gate = function.gate  # type: ignore[attr-defined]
    with pytest.raises(RunFailed):
        attempt(dies_later, declared(database), ordered=False, tolerance=1)  # type: ignore[arg-type]
    function.mended = True
    attempt(dies_later, declared(database), tolerance=1)  # type: ignore[arg-type]

    assert database.rows("scores__dead_letters", "position") == [(7,)]


def merge_in_a_child(database: TestDatabase, visits: int, point: str) -> None:
    from airflow_parallel_provider.sinks.load.table_loader import TableLoader

    killing: Any = killing_hook(visits, point)
    TableLoader.reached = killing.reached  # type: ignore[method-assign]
    TableLoader.seen = 0  # type: ignore[attr-defined]
    merge_thirty(database)


def merge_thirty(database: TestDatabase) -> None:
    stages = [Stage(lambda number: {"id": number % 4, "value": number}, workers=4, name="row")]
    Pipeline(range(30), stages, declared(database), chunk_size=3, load_key="nightly").run()


@on_two_backends
@pytest.mark.parametrize("point", ["after_claim", "after_rows", "before_commit", "after_commit"])
def test_attempts_that_are_killed(database: TestDatabase, point: str) -> None:
    for visits in (3, 2):
        attempt_of_a_child = functools.partial(merge_in_a_child, database, visits, point)
        assert Child(attempt_of_a_child).wait() == KILLED
        done = ledger(database)
        assert done == [f"{number:08d}" for number in range(len(done))]

    merge_thirty(database)

    assert len(ledger(database)) == 10
    assert database.rows() == [(0, 28), (1, 29), (2, 26), (3, 27)]


@ON_SQLITE
def test_attempt_that_says_ordered_false_again_skips_them(database: TestDatabase) -> None:
    function = Fails(4)
    with pytest.raises(RunFailed):
        attempt(function, declared(database), ordered=False)

    function.mended = True
    report = attempt(function, declared(database), ordered=False)

    assert report.items_skipped == 9
    assert database.rows() == [(0, 3), (1, 4), (2, 5)]


# -- replayed dead letters ---------------------------------------------------------------------------------------------


def with_a_dead_letter(database: TestDatabase, **options: Any) -> None:
    """Item 1 is dead; item 4 has brought a later row of the same key, and item 2 the only one of its own."""
    function = Fails(1)
    function.gate.open()
    stages = [Stage(lambda number: {**function(number), "seen": number}, workers=2, name="fails")]
    Pipeline(range(6), stages, declared(database, **options), chunk_size=2, tolerance=1, load_key="nightly").run()
    assert database.rows(columns="id, value") == [(0, 3), (1, 4), (2, 5)]


def replay(database: TestDatabase, *, tolerance: float = 0, overwrite: bool = False, key: int = 1, **sink: Any) -> Any:
    one = Replay(declared(database, **sink), "fails", own=f"replay {key}", overwrite=overwrite)
    stages = [Stage(lambda number: {"id": key, "value": number, "seen": number}, name="fails")]
    options: dict[str, Any] = {"chunk_size": 4, "tolerance": tolerance, "load_key": f"replay {key}"}
    return Pipeline(one.source(), stages, one.sink(), **options).run()


def unresolved(database: TestDatabase) -> int:
    return sum(row[0] is None for row in database.rows("scores__dead_letters", "resolved_at"))


@on_each_backend
def test_replayed_row_does_not_replace_the_one_that_is_there(database: TestDatabase) -> None:
    with_a_dead_letter(database)

    with pytest.raises(SinkFailed, match=r"overwrite=True\) to replace it, or SinkTable\(newest=\.\.\.\)"):
        replay(database)
    assert unresolved(database) == 1
    assert database.rows(columns="id, value") == [(0, 3), (1, 4), (2, 5)]


@on_each_backend
def test_replayed_row_that_may_be_rejected_is_kept_aside(database: TestDatabase) -> None:
    with_a_dead_letter(database)

    report = replay(database, tolerance=1)

    assert (report.rows_committed, report.rows_rejected, unresolved(database)) == (0, 1, 1), "nothing was written"
    assert database.rows(columns="id, value") == [(0, 3), (1, 4), (2, 5)]
    ((raw,),) = database.rows("scores__rejected", "raw")
    assert '"value": 1' in raw


@on_each_backend
def test_replayed_row_of_a_new_key_is_inserted(database: TestDatabase) -> None:
    with_a_dead_letter(database)

    replay(database, key=9)

    assert unresolved(database) == 0
    assert database.rows(columns="id, value") == [(0, 3), (1, 4), (2, 5), (9, 1)]


@on_each_backend
def test_replayed_row_replaces_the_one_that_is_there_if_the_author_says_so(database: TestDatabase) -> None:
    with_a_dead_letter(database)

    replay(database, overwrite=True)

    assert unresolved(database) == 0
    assert database.rows(columns="id, value") == [(0, 3), (1, 1), (2, 5)]


@on_each_backend
def test_newest_decides_of_replayed_rows_too(database: TestDatabase) -> None:
    with_a_dead_letter(database, newest="seen")

    report = replay(database, newest="seen")

    assert (report.rows_rejected, unresolved(database)) == (0, 0)
    assert database.rows(columns="id, value") == [(0, 3), (1, 4), (2, 5)]


def test_overwrite_where_it_means_nothing() -> None:
    def operator(**options: Any) -> ReplayDeadLettersOperator:
        sink = SinkTable("scores", conn_id="warehouse", **options)
        return ReplayDeadLettersOperator(task_id="replay", sink=sink, stages=[], overwrite=True)

    assert operator(**MERGE).overwrite
    with pytest.raises(PlanError, match="overwrite=True: only a merge replaces rows"):
        operator()
    with pytest.raises(PlanError, match="overwrite=True: newest='seen' decides which row stays"):
        operator(**MERGE, newest="seen")


def test_replays_keep_the_order_only_where_it_matters() -> None:
    sink = SinkTable("scores", conn_id="warehouse", **MERGE)
    assert Replay(sink, "one", own="r", overwrite=True).sink().order_matters
    assert not Replay(sink, "one", own="r").sink().order_matters
    newest = SinkTable("scores", conn_id="warehouse", newest="seen", **MERGE)
    assert not Replay(newest, "one", own="r").sink().order_matters
    assert dataclasses.replace(sink.spec, newest="seen") == newest.spec
