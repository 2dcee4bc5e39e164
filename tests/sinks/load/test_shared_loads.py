"""Shards of one load: N writers at once, one end; what keeps their chunks together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from airflow_parallel_provider import Pipeline, RunFailed, RunReport, SinkTable, Stage
from airflow_parallel_provider.errors import ToleranceExceeded
from tests.support.databases import QUEUEING, TestDatabase, on_each_database, on_two_databases
from tests.support.sync import at_once
from tests.support.turns import in_turn

pytestmark = pytest.mark.airflow

Make = Callable[..., Pipeline]


def row(number: int) -> dict[str, int]:
    if number < 0:
        raise ValueError("negative")
    return {"id": number, "value": number * 2}


@pytest.fixture
def make(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes a pipeline of the load: each shard has its own, as on another machine."""
    monkeypatch.setattr("airflow_parallel_provider.sql.database.get_connection", lambda *_: database.connection)

    def made(source: Any = range(1000), *, stages: Any = None, **options: Any) -> Pipeline:
        names = ("tolerance", "generation", "family", "ordered", "load_key", "chunk_size")
        run = {name: options.pop(name) for name in names if name in options}
        sink = SinkTable("scores", conn_id="warehouse", schema=database.schema, lock_timeout=30, **options)
        return Pipeline(
            source, [Stage(row)] if stages is None else stages, sink, **{"chunk_size": 50, "load_key": "nightly", **run}
        )

    return made


def run_at_once(pipelines: list[Pipeline]) -> list[RunReport]:
    """Run one shard on each of some pipelines at the same time."""
    shards = len(pipelines)
    return at_once(*(partial(each.run, shard=(index, shards)) for index, each in enumerate(pipelines)))


def ids(database: TestDatabase) -> list[Any]:
    return [each for (each,) in database.rows(columns=database.quote("id"))]


DISPOSITIONS = {
    "append": {},
    "merge": {"write_disposition": "merge", "primary_key": "id", "newest": "value"},
    "replace": {"write_disposition": "replace"},
}


@pytest.mark.parametrize("database", QUEUEING, indirect=True)
@pytest.mark.parametrize("disposition", DISPOSITIONS)
@in_turn("mariadb", "postgres-psycopg2")
def test_all_rows_of_all_shards_are_in_and_the_table_is_replaced_once(
    database: TestDatabase, make: Make, disposition: str
) -> None:
    options: dict[str, Any] = {**DISPOSITIONS[disposition], "aggregates": {"n": "count", "sum": "sum(value)"}}
    make(range(5000, 5010), load_key="before", **options).run()
    make(**options).begin()

    reports = run_at_once([make(**options) for _ in range(4)])

    assert sum(report.rows_committed for report in reports) == 1000
    assert not any(report.aggregates for report in reports)
    before = list(range(5000, 5010))
    assert ids(database) == (before if disposition == "replace" else [*range(1000), *before])
    whole = make(**options).finish()
    assert (whole.items_read, whole.rows_committed, whole.chunks_committed) == (1000, 1000, 20)
    assert whole.aggregates == {"n": 1000, "sum": 999000}
    assert ids(database) == (list(range(1000)) if disposition == "replace" else [*range(1000), *before])
    assert not [table for table in database.tables() if "staging" in table]


@on_each_database
def test_shard_that_comes_late_skips_everything(database: TestDatabase, make: Make) -> None:
    options = {"write_disposition": "replace"}
    make(**options).begin()
    for index in range(2):
        make(**options).run(shard=(index, 2))
    make(**options).finish()

    late = make(**options).run(shard=(1, 3))

    assert (late.rows_committed, late.items_skipped) == (0, late.items_read)
    assert ids(database) == list(range(1000))
    assert make(**options).finish().rows_committed == 1000


@on_two_databases
def test_load_is_not_finished_before_all_chunks_are_in(database: TestDatabase, make: Make) -> None:
    make(write_disposition="replace").begin()
    with pytest.raises(RunFailed, match="no shard has read the source to its end"):
        make(write_disposition="replace").finish()
    make(write_disposition="replace").run(shard=(1, 2))

    with pytest.raises(RunFailed, match=r"of 20 chunks 10 are not in: 00000000, 00000002.* and 5 more"):
        make(write_disposition="replace").finish()

    assert not database.exists("scores")


@on_two_databases
def test_shard_needs_a_load_that_was_begun(database: TestDatabase, make: Make) -> None:
    make(range(1000)).run()  # without shards

    with pytest.raises(RunFailed, match=r"has not been begun for shards.*Pipeline\.begin"):
        make().run(shard=(0, 2))
    with pytest.raises(RunFailed, match="sharded was None"):
        make().begin()
    assert len(ids(database)) == 1000


@on_two_databases
def test_shard_must_agree_with_the_load(database: TestDatabase, make: Make) -> None:
    make().begin()

    for other in ({"chunk_size": 40}, {"source": range(999)}, {"load_column": "load"}):
        with pytest.raises(RunFailed, match="was begun differently"):
            make(**other).run(shard=(0, 2))
    assert not database.exists("scores")


@on_two_databases
def test_source_that_is_longer_for_another_shard_is_found(database: TestDatabase, make: Make) -> None:
    length = iter((1000, 1100))

    def items() -> Iterator[int]:
        return iter(range(next(length)))

    make(items).begin()
    make(items).run(shard=(0, 2))

    with pytest.raises(RunFailed, match="22 chunks for this shard, and 20 for another one"):
        make(items).run(shard=(1, 2))


@on_two_databases
def test_shards_read_what_was_there_when_the_load_began(database: TestDatabase, make: Make, tmp_path: Any) -> None:
    from airflow_parallel_provider import FilesSource

    for name in "abc":
        (tmp_path / f"{name}.txt").write_text("1\n2\n")

    def shard_of(**more: Any) -> Pipeline:
        stage = Stage(lambda file: {"id": file.path.rsplit("/", 1)[1]})
        return make(FilesSource(f"{tmp_path}/*.txt"), stages=[stage], chunk_size=1, **more)

    shard_of().begin()
    (tmp_path / "aa.txt").write_text("3\n")  # would be the second file
    for index in range(2):
        shard_of().run(shard=(index, 2))
    shard_of().begin()  # a second try of the beginning does not change what the shards read
    assert shard_of().finish().items_read == 3
    assert ids(database) == ["a.txt", "b.txt", "c.txt"]


@on_two_databases
def test_beginning_again_without_a_chunk_starts_over_and_an_old_shard_notices(
    database: TestDatabase, make: Make, tmp_path: Any
) -> None:
    from airflow_parallel_provider import FilesSource

    (tmp_path / "a.txt").write_text("1\n")

    class Meanwhile(SinkTable):
        """Before its first commit the load begins again, with another listing."""

        def commit(self, chunk: Any) -> int | None:
            (tmp_path / "0.txt").write_text("0\n")
            shard_of().begin()
            return super().commit(chunk)

    def shard_of() -> Pipeline:
        stage = Stage(lambda file: {"id": file.path.rsplit("/", 1)[1]})
        return make(FilesSource(f"{tmp_path}/*.txt"), stages=[stage], chunk_size=1)

    shard_of().begin()
    old = shard_of()
    old.sink = Meanwhile("scores", conn_id="warehouse", schema=database.schema, lock_timeout=30)

    with pytest.raises(RunFailed, match="sharded was"):
        old.run(shard=(0, 1))
    shard_of().run(shard=(0, 1))
    shard_of().finish()
    assert ids(database) == ["0.txt", "a.txt"]


@on_two_databases
def test_tolerance_is_that_of_the_whole(database: TestDatabase, make: Make) -> None:
    def items() -> Iterator[int]:
        return iter([-1, -2, -3, -4, -5, *range(995)])  # all in the first shard

    for tolerance in (0.01, 0.001):
        options = {"tolerance": tolerance, "load_key": f"of {tolerance}"}
        make(items, **options).begin()
        for index in range(4):
            make(items, **options).run(shard=(index, 4))
        if tolerance == 0.01:
            assert make(items, **options).finish().items_dead_lettered == 5
        else:
            with pytest.raises(ToleranceExceeded, match=r"5 of 1,000 items failed"):
                make(items, **options).finish()


@on_two_databases
def test_shard_stops_when_the_whole_has_too_many_failures(database: TestDatabase, make: Make) -> None:
    items = [-1, *range(1, 99), -2]
    make(items, tolerance=1).begin()
    make(items, tolerance=1).run(shard=(0, 2))

    with pytest.raises(ToleranceExceeded, match=r"\(1 in earlier tries\)"):
        make(items, tolerance=1).run(shard=(1, 2))


@on_two_databases
def test_new_generation_replaces_the_load_with_all_its_shards(database: TestDatabase, make: Make) -> None:
    def generation(name: str, source: Any) -> Pipeline:
        return make(source, on_rerun="replace", family="dag/task", load_key=f"dag/task#{name}", generation=name)

    generation("a", range(1000)).begin()
    generation("a", range(1000)).run(shard=(0, 2))
    generation("b", range(100)).begin()

    with pytest.raises(RunFailed, match="has not been begun for shards, or was replaced"):
        generation("a", range(1000)).run(shard=(1, 2))
    for index in range(3):
        generation("b", range(100)).run(shard=(index, 3))
    assert generation("b", range(100)).finish().rows_committed == 100
    assert ids(database) == list(range(100))


@on_two_databases
def test_rejected_rows_of_all_shards_are_held_against_the_limit(database: TestDatabase, make: Make) -> None:
    class Together(SinkTable):
        """Knows nothing of what the other shard rejects."""

        def open(self) -> Any:
            found = super().open()
            self._running().loader.load.committer.rejection_limit.count = 0
            return found

    def shard_of() -> Pipeline:
        made = make(range(100), chunk_size=10, tolerance=10)
        validate = {"validate": lambda row: row["id"] % 50 != 7}  # in two shards of two
        made.sink = Together(
            "scores",
            conn_id="warehouse",
            schema=database.schema,
            write_disposition="replace",
            max_rejected=1,
            **validate,
        )
        return made

    shard_of().begin()
    reports = [shard_of().run(shard=(index, 2)) for index in range(2)]
    assert [report.rows_rejected for report in reports] == [1, 1]
    with pytest.raises(RunFailed, match="rejected 2 rows together, max_rejected=1"):
        shard_of().finish()
    assert not database.exists("scores")
