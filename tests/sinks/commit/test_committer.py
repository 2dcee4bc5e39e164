"""What one chunk does to the table, the ledger and the dead letters, on every backend."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any, NamedTuple

import pytest

from airflow_parallel_provider.engine.interfaces.records import DeadLetter, LoadSpec
from airflow_parallel_provider.errors import LoadMismatch, SchemaMismatch, SinkError, UnsafeTable
from tests.support.databases import (
    GENERIC,
    SPEC,
    TestDatabase,
    on_each_backend,
    on_each_database,
    on_two_databases,
)

pytestmark = pytest.mark.airflow
OWN_BACKENDS = on_each_backend


def numbered(*ids: int) -> list[dict[str, Any]]:
    return [{"id": each, "score": each / 4} for each in ids]


def test_table_is_made_from_the_first_chunk(database: TestDatabase) -> None:
    with database.opened(primary_key="id") as hook:
        receipt = hook.write_chunk("00000000", numbered(1, 2), items=3, items_filtered=1)

    assert database.rows() == [(1, 0.25), (2, 0.5)]
    assert database.ledger() == [("00000000", 3, 2, 0, 1)]
    assert (receipt.items, receipt.rows, receipt.items_filtered) == (3, 2, 1)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_rows_that_are_no_list_are_refused(database: TestDatabase) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"id": [1]})
    with database.opened() as hook:
        for rows, kind in ((frame, "DataFrame"), (iter([{"id": 1}]), "list_iterator"), ("id", "str")):
            with pytest.raises(SinkError, match=rf"rows is a {kind}: give a list of rows.*\[frame\]"):
                hook.write_chunk("00000000", rows)
        hook.write_chunk("00000000", [frame])

    assert database.rows() == [(1,)]


@pytest.mark.parametrize("database", ["sqlite", "postgres", "duckdb"], indirect=True)
def test_error_for_a_view_that_takes_no_rows_says_so(database: TestDatabase) -> None:
    database.execute(f"CREATE TABLE {database.place('behind')} (id INTEGER)")
    database.execute(f"CREATE VIEW {database.place('scores')} AS SELECT id FROM {database.place('behind')}")
    try:
        with database.opened() as hook, pytest.raises(SchemaMismatch, match="if it is a view, name the table behind"):
            hook.write_chunk("00000000", [{"id": 1}])
    finally:
        database.execute(f"DROP VIEW {database.place('scores')}")


@OWN_BACKENDS
def test_value_for_a_column_that_the_database_works_out_is_refused(database: TestDatabase) -> None:
    stored = "" if database.name == "duckdb" else "STORED"
    database.execute(
        f"CREATE TABLE {database.place('scores')} (id INTEGER, twice INTEGER GENERATED ALWAYS AS (id * 2) {stored})"
    )
    with database.opened() as hook:
        with pytest.raises(SchemaMismatch, match=r"computes column 'twice' itself.*drop it in a stage"):
            hook.write_chunk("00000000", [{"id": 1, "twice": 2}])
        hook.write_chunk("00000000", [{"id": 1}])

    assert database.rows() == [(1, 2)]


@on_each_database
def test_table_that_is_dropped_during_a_load_is_not_made_anew(database: TestDatabase) -> None:
    """The rows of the chunks that are in would be missing without an error."""
    with database.opened() as hook:
        hook.write_chunk("00000000", numbered(1))
        database.execute(f"DROP TABLE {database.place('scores')}")
        for _ in range(2):
            with pytest.raises(
                SinkError, match=r"table '.*scores' no longer exists: it was dropped .*Discard the load"
            ):
                hook.write_chunk("00000001", numbered(2), first_position=100)

    assert not database.exists("scores")


@on_two_databases
def test_load_that_was_discarded_meanwhile_is_not_complete(database: TestDatabase) -> None:
    with database.opened() as hook:
        hook.write_chunk("00000000", numbered(1))
        hook.discard(SPEC.load_key)
        hook.write_chunk("00000001", numbered(2), first_position=100)
        with pytest.raises(LoadMismatch, match="is no longer in the ledger: it was discarded"):
            hook.consolidate()


def test_writing_a_chunk_again_changes_nothing(database: TestDatabase) -> None:
    with database.opened() as hook:
        first = hook.write_chunk("00000000", numbered(1, 2))
        again = hook.write_chunk("00000000", numbered(1, 2))

    assert database.rows() == [(1, 0.25), (2, 0.5)]
    assert (again.rows, again.attempt) == (first.rows, first.attempt)


@on_each_database
def test_later_attempt_sees_what_is_in_and_gets_the_first_receipt(database: TestDatabase) -> None:
    with database.opened() as hook:
        hook.write_chunk("00000000", numbered(1, 2))

    with database.hook() as hook:
        committed = hook.open(dataclasses.replace(SPEC, attempt=2))
        receipt = hook.write_chunk("00000000", numbered(7, 8))  # other results of the same items
        hook.write_chunk("00000001", numbered(3), first_position=100)

    assert list(committed) == ["00000000"]
    assert committed["00000000"].rows == 2
    assert receipt.attempt == 1
    assert [row[0] for row in database.rows()] == [1, 2, 3]
    assert [row[4] for row in database.ledger()] == [1, 2]


@on_two_databases
def test_other_load_keys_are_other_loads(database: TestDatabase) -> None:
    for key in ("monday", "tuesday"):
        with database.opened(spec=dataclasses.replace(SPEC, load_key=key)) as hook:
            hook.write_chunk("00000000", numbered(1))

    assert [row[0] for row in database.rows()] == [1, 1]


@on_two_databases
def test_one_ledger_serves_many_tables(database: TestDatabase) -> None:
    for table in ("one", "two"):
        with database.opened(table) as hook:
            hook.write_chunk("00000000", numbered(1))

    assert [database.rows(table)[0][0] for table in ("one", "two")] == [1, 1]


@on_two_databases
@pytest.mark.parametrize("rows", [[], [{"id": 1, "score": 1.5}]])
def test_chunk_without_rows_is_in_the_ledger(database: TestDatabase, rows: list[dict[str, Any]]) -> None:
    with database.opened() as hook:
        if rows:
            hook.write_chunk("00000000", rows)
        receipt = hook.write_chunk("00000001", [], items=100, items_filtered=100, first_position=100)

    assert receipt.rows == 0
    assert database.ledger()[-1] == ("00000001", 100, 0, 0, 1)
    assert database.exists("scores") == bool(rows)


@on_two_databases
def test_declared_table_is_there_even_when_nothing_comes(database: TestDatabase) -> None:
    with database.opened(columns={"id": int, "name": "text(20)"}, primary_key="id"):
        pass

    assert database.rows() == []


def test_dead_letters_come_with_their_chunk(database: TestDatabase) -> None:
    early = DeadLetter(1, "score", "ValueError: \x00 \ud800 bad", 3, "Traceback ...\x00", {"id": 1, "tags": ("a",)})
    late = DeadLetter(1, "save", "KeyError: 'x'", 1, "", None)
    with database.opened() as hook:
        receipt = hook.write_chunk("00000000", numbered(2), items=2, dead_letters=[early, late])

    found = database.rows(
        "scores__dead_letters", "number, chunk_id, load_key, position, stage, cause, attempts, traceback, item"
    )
    assert receipt.dead_letters == 2
    assert database.ledger() == [("00000000", 2, 1, 2, 1)]
    assert found[0] == (
        0, "00000000", "nightly", 1, "score", "ValueError: \\x00 \\ud800 bad", 3, "Traceback ...\\x00",
        '{"id": 1, "tags": {"$type": "tuple", "value": ["a"]}}',
    )  # fmt: skip
    assert found[1][4:] == ("save", "KeyError: 'x'", 1, "", "null")


@on_each_database
def test_dead_letters_are_gone_with_their_chunk(database: TestDatabase) -> None:
    dead_letter = DeadLetter(0, "score", "ValueError: bad", 1, "", 0)
    with database.opened() as hook:
        hook.write_chunk("00000000", numbered(1))
        with pytest.raises(SchemaMismatch):
            hook.write_chunk("00000001", [{"id": 2, "score": b"?"}], first_position=100, dead_letters=[dead_letter])
        hook.write_chunk("00000002", numbered(3), first_position=200)

    assert database.rows("scores__dead_letters") == []
    assert [row[0] for row in database.ledger()] == ["00000000", "00000002"]
    assert [row[0] for row in database.rows()] == [1, 3]


@on_two_databases
def test_dead_letters_may_be_counted_only(database: TestDatabase) -> None:
    dead_letter = DeadLetter(0, "score", "ValueError: bad", 1, "", 0)
    with database.opened(dead_letters=None) as hook:
        hook.write_chunk("00000000", [], items=1, dead_letters=[dead_letter])

    assert database.ledger() == [("00000000", 1, 0, 1, 1)]
    assert not database.exists("scores__dead_letters")


@on_two_databases
@pytest.mark.parametrize(
    ("change", "options", "complaint"),
    [
        ({"chunk_size": 50}, {}, r"chunk_size was 100 and is 50"),
        ({"source": "list of 999"}, {}, r"source was 'list of 1000' and is 'list of 999'"),
        ({}, {"primary_key": "id"}, r"primary_key was \[\] and is \['id'\]"),
        ({}, {"columns": {"id": int, "score": float}}, r"columns was None and is \[\['id', 'int'\]"),
    ],
)
def test_load_begun_differently_is_refused(
    database: TestDatabase, change: dict[str, Any], options: dict[str, Any], complaint: str
) -> None:
    with database.opened() as hook:
        hook.write_chunk("00000000", numbered(1))

    with database.hook(**options) as hook, pytest.raises(LoadMismatch, match=complaint) as raised:
        hook.open(dataclasses.replace(SPEC, **change))

    assert "'nightly'" in str(raised.value)
    assert "use another load_key" in str(raised.value)
    assert [row[0] for row in database.rows()] == [1]


@on_two_databases
def test_load_without_a_chunk_may_begin_in_another_way(database: TestDatabase) -> None:
    """A first try that fails on its first chunk is mended by a change of the declaration."""
    with database.opened() as hook, pytest.raises(SchemaMismatch):
        hook.write_chunk("00000000", [{"id": 1, "score": object()}])

    with database.hook(columns={"id": int, "score": float}) as hook:
        hook.open(dataclasses.replace(SPEC, chunk_size=50))
        hook.write_chunk("00000000", numbered(1))
        with pytest.raises(LoadMismatch, match="chunk_size was 50 and is 100"):
            hook.open(SPEC)

    assert database.rows() == [(1, 0.25)]


@on_two_databases
def test_other_items_under_the_same_chunk_id_are_refused(database: TestDatabase) -> None:
    with database.opened() as hook:
        hook.write_chunk("00000000", numbered(1, 2))
        with pytest.raises(LoadMismatch, match="2 items from position 0, this attempt 3 items from position 0"):
            hook.write_chunk("00000000", numbered(1, 2, 3))

    assert [row[0] for row in database.rows()] == [1, 2]


@on_each_database
def test_ledger_of_a_table_that_is_gone_is_refused(database: TestDatabase) -> None:
    with database.opened() as hook:
        hook.write_chunk("00000000", numbered(1))
    database.execute(f"DROP TABLE {database.place('scores')}")

    with database.hook() as hook, pytest.raises(LoadMismatch, match=r"1 committed rows in table .*scores'.*[Dd]iscard"):
        hook.open(SPEC)


@on_two_databases
def test_discarded_load_is_loaded_again(database: TestDatabase) -> None:
    dead_letter = DeadLetter(0, "score", "ValueError: bad", 1, "", 0)
    with database.opened() as hook:
        hook.write_chunk("00000000", numbered(1), dead_letters=[dead_letter])
        hook.write_chunk("00000001", numbered(2), first_position=100)

    with database.hook() as hook:
        chunks = hook.discard("nightly")
        committed = hook.open(dataclasses.replace(SPEC, chunk_size=7))

    assert chunks == 2
    assert committed == {}
    assert database.rows("scores__dead_letters") == []


@on_two_databases
def test_consolidated_load_says_its_sums_and_may_go_on(database: TestDatabase) -> None:
    with database.opened() as hook:
        hook.write_chunk("00000000", numbered(1, 2), items=5, items_filtered=3)
        hook.write_chunk("00000001", numbered(3), items=1, first_position=5)
        summary = hook.consolidate()
        states = [database.rows("airflow_parallel_ledger__loads", "state")]
        hook.open(SPEC)
        states.append(database.rows("airflow_parallel_ledger__loads", "state"))

    assert (summary.chunks, summary.items, summary.items_filtered, summary.rows) == (2, 6, 3, 3)
    assert states == [[("complete",)], [("open",)]]


@on_each_database
def test_purge_takes_only_old_complete_loads(database: TestDatabase) -> None:
    for key in ("old", "new", "open"):
        with database.opened(spec=dataclasses.replace(SPEC, load_key=key)) as hook:
            hook.write_chunk("00000000", numbered(1))
            if key != "open":
                hook.consolidate()
    database.execute(
        f"UPDATE {database.place('airflow_parallel_ledger__loads')} SET completed_at = '2020-01-01 00:00:00.000000' "
        "WHERE load_key = 'old'"
    )

    with database.hook() as hook:
        purged = hook.purge_ledger(timedelta(days=30))

    assert purged == 1
    assert sorted(database.rows("airflow_parallel_ledger__loads", "load_key")) == [("new",), ("open",)]
    assert len(database.ledger()) == 2


class Point(NamedTuple):
    id: int
    score: float


@dataclasses.dataclass
class Scored:
    id: int
    score: float


@on_two_databases
def test_rows_of_many_shapes_are_one_table(database: TestDatabase) -> None:
    rows = [{"id": 1, "score": 0.5}, Scored(2, 1.0), Point(3, 1.5), {"score": None, "id": 4}]

    with database.opened() as hook:
        hook.write_chunk("00000000", rows)

    assert database.rows() == [(1, 0.5), (2, 1.0), (3, 1.5), (4, None)]


@on_two_databases
def test_tuples_take_declared_names(database: TestDatabase) -> None:
    with database.opened(columns=["id", "score"]) as hook:
        hook.write_chunk("00000000", [(1, 0.5), (2, None)])

    assert database.rows(columns="id, score") == [(1, 0.5), (2, None)]


@on_each_database
def test_table_that_is_there_wins(database: TestDatabase) -> None:
    database.execute(
        f"CREATE TABLE {database.place('scores')} "
        "(extra VARCHAR(10) DEFAULT 'x', score FLOAT, id INTEGER NOT NULL, PRIMARY KEY (id))"
    )

    with database.opened() as hook:
        hook.write_chunk("00000000", [{"id": 1.0, "score": 2}])

    assert database.rows(columns="id, score, extra") == [(1, 2.0, "x")]


@OWN_BACKENDS
def test_merge_updates_and_inserts_and_the_last_of_equal_keys_wins(database: TestDatabase) -> None:
    options: dict[str, Any] = {"write_disposition": "merge", "primary_key": ["id"]}
    with database.opened(**options) as hook:
        hook.write_chunk("00000000", numbered(1, 2))
        receipt = hook.write_chunk(
            "00000001",
            [{"id": 2, "score": 7.0}, {"id": 3, "score": 8.0}, {"id": 2, "score": 9.0}],
            first_position=100,
        )

    assert database.rows() == [(1, 0.25), (2, 9.0), (3, 8.0)]
    assert receipt.rows == 3


@OWN_BACKENDS
def test_merge_of_columns_that_are_all_key(database: TestDatabase) -> None:
    with database.opened(write_disposition="merge", primary_key=["a", "b"]) as hook:
        hook.write_chunk("00000000", [{"a": 1, "b": "x"}, {"a": 1, "b": "y"}])
        hook.write_chunk("00000001", [{"a": 1, "b": "x"}, {"a": 2, "b": "x"}], first_position=100)

    assert database.rows(order="1, 2") == [(1, "x"), (1, "y"), (2, "x")]


@OWN_BACKENDS
def test_merge_leaves_columns_alone_that_no_row_names(database: TestDatabase) -> None:
    options: dict[str, Any] = {"write_disposition": "merge", "primary_key": ["id"]}
    with database.opened(**options) as hook:
        hook.write_chunk("00000000", [{"id": 1, "score": 0.5, "note": "keep"}])
        hook.write_chunk("00000001", [{"id": 1, "score": 9.5}], first_position=100)

    assert database.rows(columns="id, score, note") == [(1, 9.5, "keep")]


@OWN_BACKENDS
def test_merge_needs_the_key_in_the_table(database: TestDatabase) -> None:
    database.execute(f"CREATE TABLE {database.place('scores')} (id INTEGER, score FLOAT)")

    with (
        database.hook(write_disposition="merge", primary_key="id") as hook,
        pytest.raises(SchemaMismatch, match=r"no primary key or unique index on \(id\)"),
    ):
        hook.open(SPEC)


@OWN_BACKENDS
def test_merge_takes_a_unique_index_as_key(database: TestDatabase) -> None:
    database.execute(
        f"CREATE TABLE {database.place('scores')} (id INTEGER, score FLOAT)",
        f"CREATE UNIQUE INDEX {database.quote('by id')} ON {database.place('scores')} (id)",
    )

    with database.opened(write_disposition="merge", primary_key="id") as hook:
        hook.write_chunk("00000000", numbered(1, 1))

    assert database.rows() == [(1, 0.25)]


@pytest.mark.parametrize("database", GENERIC, indirect=True)
def test_merge_is_refused_where_it_is_not_known(database: TestDatabase) -> None:
    with (
        database.hook(write_disposition="merge", primary_key="id") as hook,
        pytest.raises(SinkError, match="write_disposition='merge' is not supported on this database: write 'append'"),
    ):
        hook.open(SPEC)


def test_row_that_does_not_fit_is_found_behind_thousands_that_do(database: TestDatabase) -> None:
    """On PostgreSQL rows are made fit while the server works on those before: nothing of them may stay."""
    rows: list[dict[str, Any]] = [{"id": number, "price": number / 4} for number in range(5_000)]
    bad = [*rows[:4_321], {"id": 4_321.5, "price": 1.0}, *rows[4_322:]]
    with database.opened(columns={"id": int, "price": float}) as hook:
        with pytest.raises(SchemaMismatch, match=r"column 'id' \(int\) cannot take a float.*row 4321\)"):
            hook.write_chunk("00000000", bad)
        assert database.rows() == database.ledger() == []
        hook.write_chunk("00000000", rows)

    assert database.rows() == [(row["id"], row["price"]) for row in rows]


def test_duplicate_key_in_append_fails_without_a_value_in_the_text(database: TestDatabase) -> None:
    with database.opened(primary_key="name") as hook:
        hook.write_chunk("00000000", [{"name": "secret-1"}])
        with pytest.raises(SchemaMismatch, match="refused the rows of chunk 00000001") as raised:
            hook.write_chunk("00000001", [{"name": "secret-2"}, {"name": "secret-1"}], first_position=100)

    assert "secret" not in str(raised.value)
    assert raised.value.__suppress_context__
    assert database.rows() == [("secret-1",)]
    assert [row[0] for row in database.ledger()] == ["00000000"]


@on_two_databases
def test_ledger_table_that_is_something_else_is_refused(database: TestDatabase) -> None:
    database.execute(f"CREATE TABLE {database.place('airflow_parallel_ledger')} (load_id VARCHAR(32), mine INTEGER)")

    with database.hook() as hook, pytest.raises(UnsafeTable, match=r"is something else .*give another name as ledger"):
        hook.open(SPEC)


@on_two_databases
def test_hook_says_what_is_missing(database: TestDatabase) -> None:
    hook = database.hook()
    with pytest.raises(SinkError, match=r"'.*scores' is not open: call open"):
        hook.write_chunk("00000000", [])
    with pytest.raises(SinkError, match="load_key=None: name the load"):
        hook.open(LoadSpec(None, 10, "list"))
    with hook:
        hook.open(SPEC)
        with pytest.raises(SinkError, match="chunk_id='': give a text of 1 to 64"):
            hook.write_chunk("", [])
        with pytest.raises(SinkError, match=r"on_mismatch='ignore': give 'fail' or 'warn'"):
            hook.consolidate(on_mismatch="ignore")  # type: ignore[arg-type]
        with pytest.raises(SinkError, match=r"older_than=30: give a datetime.timedelta"):
            hook.purge_ledger(30)  # type: ignore[arg-type]
