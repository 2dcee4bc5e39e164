"""``on_rerun``: what a new generation of a load does about the rows of the one before."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from airflow_parallel_provider.engine.interfaces.records import DeadLetter, LoadSpec
from airflow_parallel_provider.errors import LoadMismatch, PlanError, SchemaMismatch, SinkError
from airflow_parallel_provider.sinks.table import SinkTable
from tests.support.databases import TestDatabase, on_each_backend, on_each_database, on_two_databases

pytestmark = pytest.mark.airflow
OWN_BACKENDS = on_each_backend


def airflow(generation: str, **changes: Any) -> LoadSpec:
    """As the operator names a load of its own."""
    settings = {"load_key": f"dag/task#{generation}", "chunk_size": 100, "source": "list", **changes}
    return LoadSpec(**settings, family="dag/task", generation=generation)


def named(generation: str) -> LoadSpec:
    """As the operator names a load when the author gave the key."""
    return LoadSpec("nightly", 100, "list", family="nightly", generation=generation)


def rows_of(*ids: int) -> list[dict[str, Any]]:
    return [{"id": each, "name": f"n{each}"} for each in ids]


def load(database: TestDatabase, spec: LoadSpec, *chunks: list[dict[str, Any]], **options: Any) -> int:
    """Load what is not in; how many chunks were."""
    hook = database.hook(**options)
    with hook:
        there = hook.open(spec)
        for number, rows in enumerate(chunks):
            if f"{number:08d}" not in there:
                hook.write_chunk(f"{number:08d}", rows, first_position=number * 100)
        hook.consolidate()
    return len(there)


def ids(database: TestDatabase) -> list[int]:
    return [row[0] for row in database.rows(columns="id")]


@on_each_database
def test_replace_removes_the_rows_of_the_earlier_generation_only(database: TestDatabase) -> None:
    load(database, LoadSpec("other", 100, "list"), rows_of(100), on_rerun="replace")
    load(database, airflow("a"), rows_of(1, 2), rows_of(3), on_rerun="replace")

    skipped = load(database, airflow("b"), rows_of(4), on_rerun="replace")

    assert skipped == 0
    assert ids(database) == [4, 100]
    assert len(database.ledger()) == 2


@on_each_database
def test_replace_and_the_new_ledger_begin_in_one_transaction(database: TestDatabase) -> None:
    """The rows of the earlier generation go when the new one begins, not before and not twice."""
    load(database, airflow("a"), rows_of(1, 2), on_rerun="replace")
    dead_letter = DeadLetter(0, "score", "ValueError: bad", 1, "", 0)
    with database.opened(spec=airflow("b"), on_rerun="replace") as hook:
        begun = ids(database)
        hook.write_chunk("00000000", rows_of(5), dead_letters=[dead_letter])

    skipped = load(database, airflow("b", attempt=2), rows_of(5), rows_of(6), on_rerun="replace")

    assert begun == []
    assert skipped == 1
    assert ids(database) == [5, 6]
    assert len(database.rows("scores__dead_letters")) == 1


@on_each_database
def test_attempt_of_the_earlier_generation_that_is_still_alive_is_shut_out(database: TestDatabase) -> None:
    zombie = database.opened(spec=airflow("a"), on_rerun="replace")
    zombie.write_chunk("00000000", rows_of(1))

    load(database, airflow("b"), rows_of(2), on_rerun="replace")
    with pytest.raises(LoadMismatch, match="a later generation has begun and replaced it"):
        zombie.write_chunk("00000001", rows_of(3), first_position=100)
    zombie.close()

    assert ids(database) == [2]


@on_two_databases
def test_resume_goes_on_where_the_earlier_generation_ended(database: TestDatabase) -> None:
    load(database, airflow("a"), rows_of(1), on_rerun="resume")

    skipped = [load(database, airflow(gen), rows_of(1), rows_of(2), on_rerun="resume") for gen in ("b", "c", "c")]

    assert skipped == [1, 2, 2]
    assert ids(database) == [1, 2]


@on_two_databases
def test_append_adds_the_rows_again(database: TestDatabase, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for gen in ("a", "b", "b"):
            load(database, airflow(gen), rows_of(1), on_rerun="append")

    assert ids(database) == [1, 1]
    assert not caplog.records


@on_two_databases
def test_default_of_a_clear_is_to_start_over_and_to_say_so(
    database: TestDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    load(database, airflow("a"), rows_of(1, 2))
    with caplog.at_level(logging.WARNING):
        load(database, airflow("b"), rows_of(1, 2))

    assert ids(database) == [1, 1, 2, 2]
    assert ["has 2 rows of earlier generations" in record.getMessage() for record in caplog.records] == [True]


@on_two_databases
def test_default_with_a_load_column_is_to_replace(database: TestDatabase) -> None:
    for gen in ("a", "b"):
        load(database, airflow(gen), rows_of(1, 2), load_column="loaded by")

    assert ids(database) == [1, 2]


@on_two_databases
def test_key_of_the_author_resumes_by_default(database: TestDatabase) -> None:
    skipped = [load(database, named(gen), rows_of(1), on_rerun=None) for gen in ("monday", "tuesday")]
    with_append = load(database, named("wednesday"), rows_of(1), on_rerun="append")

    assert skipped == [0, 1]
    assert with_append == 0
    assert ids(database) == [1, 1]


@on_two_databases
def test_key_of_the_author_can_replace(database: TestDatabase) -> None:
    for gen in ("monday", "tuesday", "tuesday"):
        load(database, named(gen), rows_of(1, 2), on_rerun="replace")

    assert ids(database) == [1, 2]


@on_two_databases
def test_retry_goes_on_although_on_rerun_was_changed_between(database: TestDatabase) -> None:
    with database.opened(spec=airflow("a")) as hook:
        hook.write_chunk("00000000", rows_of(1))

    skipped = load(database, airflow("a", attempt=2), rows_of(1), rows_of(2), on_rerun="append")

    assert skipped == 1
    assert ids(database) == [1, 2]


@on_two_databases
def test_rows_that_cannot_be_distinguished_are_not_replaced(database: TestDatabase) -> None:
    load(database, airflow("a"), rows_of(1, 2))

    with (
        database.hook(on_rerun="replace", on_schema_change="add_columns") as hook,
        pytest.raises(LoadMismatch, match=r"would remove the 2 rows .* load_column=None \(now: '_load_id'\)"),
    ):
        hook.open(airflow("b"))

    assert ids(database) == [1, 2]
    assert len(database.ledger()) == 1


@OWN_BACKENDS
def test_merge_and_replace(database: TestDatabase) -> None:
    options: dict[str, Any] = {"write_disposition": "merge", "primary_key": "id", "on_rerun": "replace"}
    load(database, airflow("a"), rows_of(1, 2), **options)
    load(database, airflow("b"), rows_of(2, 3), **options)

    assert ids(database) == [2, 3]


@on_each_database
def test_load_column_marks_rows_and_lets_them_be_discarded(database: TestDatabase) -> None:
    for key, each in (("one", 1), ("two", 2)):
        load(database, LoadSpec(key, 100, "list"), rows_of(each), load_column="load")
    marks = {row[0] for row in database.rows(columns=database.quote("load"))}

    with database.hook(load_column="load") as hook:
        chunks = hook.discard("one", rows=True)

    assert {len(mark) for mark in marks} == {32}
    assert len(marks) == 2
    assert chunks == 1
    assert ids(database) == [2]


@on_two_databases
def test_rows_without_a_mark_are_not_discarded(database: TestDatabase) -> None:
    with database.hook() as hook, pytest.raises(SinkError, match=r"it takes SinkTable\(load_column="):
        hook.discard("nightly", rows=True)


@on_each_database
def test_table_without_the_load_column_is_refused_or_given_it(database: TestDatabase) -> None:
    database.execute(f"CREATE TABLE {database.place('scores')} (id INTEGER, name VARCHAR(9))")

    with database.hook(on_rerun="replace") as hook, pytest.raises(SchemaMismatch, match="has no column '_load_id'"):
        hook.open(airflow("a"))
    for gen in ("a", "b"):
        load(database, airflow(gen), rows_of(1), on_rerun="replace", on_schema_change="add_columns")

    assert ids(database) == [1]


@on_two_databases
def test_row_that_names_the_load_column_itself_is_refused(database: TestDatabase) -> None:
    with database.opened(on_rerun="replace") as hook, pytest.raises(SchemaMismatch, match="name another one as load_c"):
        hook.write_chunk("00000000", [{"id": 1, "_load_id": "mine"}])


@on_two_databases
def test_consolidate_compares_the_table_with_the_ledger(
    database: TestDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    with database.opened(load_column="load") as hook:
        hook.write_chunk("00000000", rows_of(1, 2))
        database.execute(f"DELETE FROM {database.place('scores')} WHERE id = 1")
        with pytest.raises(SinkError, match="has 2 committed rows"):
            hook.consolidate()
        state = database.rows("airflow_parallel_ledger__loads", "state")
        with caplog.at_level(logging.WARNING):
            hook.consolidate(on_mismatch="warn")

    assert state == [("open",)]
    assert "has 1" in caplog.text
    assert database.rows("airflow_parallel_ledger__loads", "state") == [("complete",)]


@on_each_database
def test_ledger_of_an_earlier_version_is_extended(database: TestDatabase) -> None:
    load(database, LoadSpec("nightly", 100, "list"), rows_of(1))
    loads = database.place("airflow_parallel_ledger__loads")
    chunks = database.place("airflow_parallel_ledger")
    database.execute(f"ALTER TABLE {loads} DROP COLUMN family", f"ALTER TABLE {loads} DROP COLUMN generation")
    database.execute(f"ALTER TABLE {chunks} DROP COLUMN failed_items")

    skipped = load(database, LoadSpec("nightly", 100, "list"), rows_of(1))

    assert skipped == 1
    assert ids(database) == [1]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"on_rerun": "restart"}, r"on_rerun='restart': write 'resume', 'replace' or 'append'"),
        ({"on_schema_change": "evolve"}, r"on_schema_change='evolve': write 'fail' or 'add_columns'"),
        ({"load_column": ""}, r"load_column='': give a name"),
        ({"load_column": "id", "primary_key": "id"}, r"load_column='id': .* give it another name"),
        ({"on_rerun": "replace", "columns": ["_load_id"]}, r"load_column='_load_id': .* give it another name"),
    ],
)
def test_mistakes_are_found_at_once(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(PlanError, match=complaint):
        SinkTable("scores", conn_id="warehouse", **options)
