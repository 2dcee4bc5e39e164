"""Mapped task instances that share a table or a load key: refused by name, and no row is lost or counted twice."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from airflow_parallel_provider import Pipeline, RunFailed, RunReport, SinkTable
from airflow_parallel_provider.engine.interfaces.records import LoadSpec
from airflow_parallel_provider.errors import LoadMismatch, SchemaMismatch
from tests.support.databases import OWN, QUEUEING, TestDatabase, on_each_backend, on_each_database, on_two_databases

pytestmark = pytest.mark.airflow
OWN_BACKENDS = pytest.mark.parametrize("database", OWN, indirect=True)
REPLACE = {"write_disposition": "replace"}
START, LATER = "2026-11-21T08:00:00+00:00", "2026-11-22T08:00:00+00:00"


def instance(
    map_index: int, *, key: str | None = None, start: str = START, source: str = "list", mapped: int | None = None
) -> LoadSpec:
    """As the operator names the load of a mapped task instance."""
    family = key or f"dag/task[{map_index}]/run"
    generation = f"{start}/2"
    ids = {"dag_id": "dag", "run_id": "manual__2026-11-21T08:00:00+00:00", "task_id": "task"}
    return LoadSpec(
        load_key=key or f"{family}#{generation}",
        chunk_size=100,
        source=source,
        labels={**ids, "map_index": str(map_index), "generation": generation},
        family=family,
        generation=generation,
        mapped=mapped,
    )


def load(database: TestDatabase, spec: LoadSpec, *ids: int, **options: Any) -> None:
    with database.opened(spec=spec, **options) as hook:
        hook.write_chunk("00000000", [{"id": each} for each in ids])
        hook.consolidate()


def ids(database: TestDatabase) -> list[int]:
    return [row[0] for row in database.rows(columns="id")]


# -- replace --------------------------------------------------------------------------------------


@on_each_database
def test_second_task_instance_does_not_replace_the_rows_of_the_first(database: TestDatabase) -> None:
    load(database, instance(0), 1, 2, **REPLACE)

    with pytest.raises(LoadMismatch, match=r"task instance 0 of the mapped task 'task' also replaces it.*instance 3"):
        load(database, instance(3), 3, 4, **REPLACE)

    assert ids(database) == [1, 2]


@pytest.mark.parametrize("database", QUEUEING, indirect=True)
def test_nothing_is_replaced_if_another_task_instance_begins_meanwhile(database: TestDatabase) -> None:
    load(database, LoadSpec("before", 100, "list"), 100, **REPLACE)
    with database.opened(spec=instance(0), **REPLACE) as first:
        first.write_chunk("00000000", [{"id": 1}])
        with pytest.raises(LoadMismatch, match="only the rows of the one that ends last"):
            database.opened(spec=instance(1), **REPLACE)
        with pytest.raises(LoadMismatch, match=r"task instance 1 .*also replaces it"):
            first.consolidate()

    assert ids(database) == [100]


@on_two_databases
def test_task_instances_that_replace_a_table_each_are_none_of_this(database: TestDatabase) -> None:
    load(database, instance(0), 1, table="one", **REPLACE)
    load(database, instance(1), 2, table="two", **REPLACE)

    assert (database.rows("one"), database.rows("two")) == ([(1,)], [(2,)])


@on_two_databases
def test_table_may_be_replaced_by_other_runs_and_by_a_clear(database: TestDatabase) -> None:
    load(database, instance(0), 1, **REPLACE)
    load(database, instance(0, start=LATER), 2, **REPLACE)

    assert ids(database) == [2]


@on_two_databases
def test_refused_task_instance_may_replace_once_the_mapping_has_changed(database: TestDatabase) -> None:
    """A Clear of the run, whose task is mapped over one item now."""
    load(database, instance(1), 1, **REPLACE)
    with pytest.raises(LoadMismatch):
        load(database, instance(0), 2, **REPLACE)

    load(database, instance(0, start=LATER, mapped=1), 3, **REPLACE)

    assert ids(database) == [3]


# -- one load key for all -------------------------------------------------------------------------


@on_each_database
def test_task_instance_does_not_skip_the_chunks_of_another(database: TestDatabase) -> None:
    load(database, instance(0, key="2026-11-29"), 1, 2)

    for start in (START, LATER):  # as it is, and cleared alone
        with pytest.raises(LoadMismatch, match=r"begun by task instance 0 .*ti\.map_index.*discard"):
            load(database, instance(1, key="2026-11-29", start=start), 3, 4)

    assert ids(database) == [1, 2]


@on_two_databases
def test_task_instance_does_not_remove_the_rows_of_another(database: TestDatabase) -> None:
    load(database, instance(0, key="2026-11-29"), 1, 2, on_rerun="replace")

    with pytest.raises(LoadMismatch, match="begun by task instance 0"):
        load(database, instance(1, key="2026-11-29", start=LATER), 3, on_rerun="replace")

    assert ids(database) == [1, 2]


@on_two_databases
def test_load_key_with_the_map_index_is_a_load_of_its_own(database: TestDatabase) -> None:
    load(database, instance(0, key="2026-11-29/0"), 1)
    load(database, instance(1, key="2026-11-29/1"), 2)

    assert ids(database) == [1, 2]


class _Together(SinkTable):
    """Opens its load, and waits until all have."""

    _barrier: threading.Barrier

    def open(self) -> Any:
        found = super().open()
        self._barrier.wait(30)
        return found


def run_together(
    database: TestDatabase, sources: Sequence[Any], monkeypatch: pytest.MonkeyPatch
) -> tuple[list[RunReport], list[RunFailed]]:
    """Run pipelines with one load key in as many threads; all have opened the load before one commits."""
    monkeypatch.setattr("airflow_parallel_provider.sql.database.get_connection", lambda *_: database.connection)
    barrier = threading.Barrier(len(sources))
    reports: list[RunReport] = []
    errors: list[RunFailed] = []

    def run(source: Any) -> None:
        sink = _Together("scores", conn_id="warehouse", schema=database.schema, columns={"id": int}, lock_timeout=30)
        sink._barrier = barrier
        try:
            reports.append(Pipeline(source, [], sink, chunk_size=100, load_key="2026-11-29").run())
        except RunFailed as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(source,)) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return reports, errors


def rows_from(first: int) -> list[dict[str, int]]:
    return [{"id": each} for each in range(first, first + 500)]


@pytest.mark.parametrize("database", QUEUEING, indirect=True)
def test_attempts_that_begin_together_with_other_items_are_refused(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports, errors = run_together(database, [rows_from(n * 1000) for n in range(4)], monkeypatch)

    (report,) = reports
    assert (report.rows_committed, report.items_skipped) == (500, 0)
    assert [type(error.__cause__) for error in errors] == [LoadMismatch] * 3
    assert all("was begun differently: source was" in str(error) for error in errors)
    assert ids(database) in [list(range(n * 1000, n * 1000 + 500)) for n in range(4)]


@pytest.mark.parametrize("database", QUEUEING, indirect=True)
def test_chunks_that_another_attempt_has_committed_meanwhile_count_as_skipped(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports, errors = run_together(database, [rows_from(0)] * 4, monkeypatch)

    assert not errors
    assert sum(report.rows_committed for report in reports) == 500
    assert sum(report.chunks_committed for report in reports) == 5
    assert all(report.items_committed + report.items_skipped == report.items_read == 500 for report in reports)
    assert all(report.chunks_committed + report.chunks_skipped == 5 for report in reports)
    assert ids(database) == list(range(500))


# -- a Clear with fewer task instances ------------------------------------------------------------


@on_each_backend
@pytest.mark.parametrize("disposition", ["append", "merge"])
def test_rows_of_task_instances_that_are_no_more_are_removed(database: TestDatabase, disposition: str) -> None:
    options = {"on_rerun": "replace", "write_disposition": disposition}
    options |= {"primary_key": "id"} if disposition == "merge" else {}
    load(database, LoadSpec("another task", 100, "list"), 100, **options)
    for index in range(4):
        load(database, instance(index, mapped=4), index, **options)
    assert ids(database) == [0, 1, 2, 3, 100]

    for index in range(3):
        load(database, instance(index, start=LATER, mapped=3), 10 + index, **options)

    assert ids(database) == [10, 11, 12, 100]
    assert len(database.ledger()) == 4


@on_two_databases
@pytest.mark.parametrize("on_rerun", ["append", "resume"])
def test_rows_stay_where_the_author_wants_that(database: TestDatabase, on_rerun: str) -> None:
    for index in range(2):
        load(database, instance(index, mapped=2), index, on_rerun=on_rerun)

    load(database, instance(0, start=LATER, mapped=1), 0, on_rerun=on_rerun)

    assert 1 in ids(database)


@on_two_databases
def test_a_clear_of_one_task_instance_leaves_the_others(database: TestDatabase) -> None:
    for index in range(3):
        load(database, instance(index, mapped=3), index, on_rerun="replace")

    load(database, instance(1, start=LATER, mapped=3), 11, on_rerun="replace")

    assert ids(database) == [0, 2, 11]


# -- types ----------------------------------------------------------------------------------------


@on_each_database
def test_error_says_that_another_task_instance_may_have_decided_the_types(database: TestDatabase) -> None:
    load(database, instance(0), 1)
    late = instance(1)
    with database.opened(spec=late) as hook, pytest.raises(SchemaMismatch, match=r"declare them \(SinkTable.columns\)"):
        hook.write_chunk("00000000", [{"id": "one"}])


@on_two_databases
@pytest.mark.parametrize("mapped", [True, False])
def test_error_says_so_only_where_that_can_be(database: TestDatabase, mapped: bool) -> None:
    options: dict[str, Any] = {"columns": {"id": int}} if mapped else {}
    spec = instance(1) if mapped else LoadSpec("nightly", 100, "list")
    with database.opened(spec=spec, **options) as hook, pytest.raises(SchemaMismatch) as failed:
        hook.write_chunk("00000000", [{"id": 1}])
        hook.write_chunk("00000001", [{"id": "one"}], first_position=100)
    assert "mapped" not in str(failed.value)
