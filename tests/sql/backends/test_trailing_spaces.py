"""Keys that differ only in spaces at the end, which most collations of MySQL and MariaDB ignore."""

from __future__ import annotations

from string import ascii_lowercase
from typing import Any

import pytest

from airflow_parallel_provider import ListSink, Pipeline, SqlSource
from airflow_parallel_provider.engine.interfaces.records import DeadLetter, LoadSpec
from airflow_parallel_provider.errors import SchemaMismatch, SinkError
from tests.support.databases import OWN, SPEC, TestDatabase, on_two_databases
from tests.support.turns import in_turn

pytestmark = pytest.mark.airflow
KEYS = ["a", "a ", "a  ", " a", "b", "B"]
MERGE: dict[str, Any] = {"write_disposition": "merge", "primary_key": ["id"]}
ON_MYSQL = pytest.mark.parametrize("database", ["mariadb", "mariadb-pymysql"], indirect=True)
ON_MARIADB = pytest.mark.parametrize("database", ["mariadb"], indirect=True)


def given(pairs: list[tuple[str, int]], *, frame: bool = False) -> list[Any]:
    pa = pytest.importorskip("pyarrow")
    rows = [{"id": key, "points": points} for key, points in pairs]
    return [pa.Table.from_pylist(rows)] if frame else rows


@pytest.mark.parametrize("frame", [False, True], ids=["rows", "arrow"])
@pytest.mark.parametrize("disposition", ["append", "merge", "replace"])
@pytest.mark.parametrize("database", OWN, indirect=True)
@in_turn("sqlite", "duckdb", "postgres-psycopg2")
def test_new_table_keeps_them_apart(database: TestDatabase, disposition: Any, frame: bool) -> None:
    chunks = [[(key, at) for at, key in enumerate(KEYS)]]
    if disposition == "merge":
        chunks.append([(key, at + 10) for at, key in enumerate(KEYS)])

    with database.opened(write_disposition=disposition, primary_key=["id"]) as hook:
        for number, pairs in enumerate(chunks):
            hook.write_chunk(f"{number:08d}", given(pairs, frame=frame), first_position=number * 10)
        hook.consolidate()

    assert dict(database.rows()) == dict(chunks[-1])


def with_padding(database: TestDatabase, more: str = "") -> None:
    database.execute(
        f"CREATE TABLE {database.place('scores')} (id VARCHAR(20) PRIMARY KEY, points INTEGER{more}) "
        "CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci"
    )


@ON_MYSQL
@pytest.mark.parametrize(
    ("first", "second"),
    [(None, [("a", 1), ("a ", 2)]), ([("a", 1)], [("b", 3), ("a ", 2)]), ([("a ", 1)], [("a", 2), ("a ", 3)])],
    ids=["one chunk", "what is there", "what is there and one chunk"],
)
def test_table_that_ignores_them_is_told(
    database: TestDatabase, first: list[tuple[str, int]] | None, second: list[tuple[str, int]]
) -> None:
    with_padding(database)
    with database.opened(**MERGE) as hook:
        if first is not None:
            hook.write_chunk("00000000", given(first))
        before = database.rows()
        with pytest.raises(
            SchemaMismatch, match=r"the \(id\) of a row differs .* only in spaces .* a NO PAD collation"
        ):
            hook.write_chunk("00000001", given(second), first_position=10)

    assert database.rows() == before


@ON_MYSQL
def test_only_the_row_that_collides_is_rejected(database: TestDatabase) -> None:
    with_padding(database)
    with database.opened(max_rejected=1, **MERGE) as hook:
        hook.write_chunk("00000000", given([("a", 1), ("b ", 2)]))
        receipt = hook.write_chunk("00000001", given([("A", 3), ("a ", 4), ("b ", 5)]), first_position=10)

    assert receipt.rows_rejected == 1
    assert database.rows() == [("a", 3), ("b ", 5)]
    ((reason,),) = database.rows("scores__rejected", "reason")
    assert "only in spaces at the end" in reason


@ON_MYSQL
def test_another_unique_index_is_told_apart(database: TestDatabase) -> None:
    with_padding(database, ", mail VARCHAR(9) UNIQUE")
    with database.opened(**MERGE) as hook:
        hook.write_chunk("00000000", [{"id": "a", "points": 1, "mail": "m"}])
        with pytest.raises(SchemaMismatch, match="in another unique index"):
            hook.write_chunk("00000001", [{"id": "b", "points": 1, "mail": "m"}], first_position=1)
        with pytest.raises(SchemaMismatch, match="only in spaces at the end"):
            hook.write_chunk("00000001", [{"id": "a ", "points": 1, "mail": "n"}], first_position=1)


@ON_MARIADB
def test_newest_does_not_hide_them(database: TestDatabase) -> None:
    with_padding(database)
    with database.opened(newest="points", **MERGE) as hook:
        with pytest.raises(SchemaMismatch, match="only in spaces at the end"):
            hook.write_chunk("00000000", given([("a", 2), ("a ", 1)]))
        hook.write_chunk("00000000", given([("a", 2), ("a", 1)]))

    assert database.rows() == [("a", 2)]


def pad_control_tables(database: TestDatabase) -> None:
    """As an earlier version has made them."""
    for name in database.tables():
        if name.startswith("airflow_parallel_ledger") or name.endswith("__dead_letters"):
            database.execute(f"ALTER TABLE {database.place(name)} CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")


@ON_MARIADB
@pytest.mark.parametrize("old", [False, True], ids=["new", "old"])
def test_loads_whose_keys_differ_only_in_spaces(database: TestDatabase, old: bool) -> None:
    with database.hook() as hook:
        list(hook.dead_letters())  # creates the control tables
    if old:
        pad_control_tables(database)
    for key in ("nightly", "nightly "):
        with database.opened(spec=LoadSpec(key, 100, "list")) as hook:
            dead = DeadLetter(0, "s", "E: x", 1, "", key)
            hook.write_chunk("00000000", given([(key, 1)]), items=2, dead_letters=[dead])

    with database.hook() as hook:
        assert [letter.item() for letter in hook.dead_letters("nightly ")] == ["nightly "]
        assert hook.discard("nightly") == 1
        assert [letter.item() for letter in hook.dead_letters()] == ["nightly "]

    assert [key for (key,) in database.rows("airflow_parallel_ledger__loads", "load_key")] == ["nightly "]
    assert len(database.ledger()) == 1


@on_two_databases
def test_id_of_a_chunk_has_none(database: TestDatabase) -> None:
    with database.opened() as hook, pytest.raises(SinkError, match="chunk_id='a ': some databases ignore spaces"):
        hook.write_chunk("a ", given([("a", 1)]))


@pytest.mark.parametrize("database", ["sqlite", "postgres", "mariadb"], indirect=True)
def test_source_reads_them_all(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_parallel_provider.sql import database as module

    monkeypatch.setattr(module, "get_connection", lambda *_: database.connection)
    keys = sorted(f"{letter}{' ' * spaces}" for letter in ascii_lowercase for spaces in range(12))
    with database.opened(spec=SPEC, **MERGE) as hook:
        hook.write_chunk("00000000", given([(key, 1) for key in keys]))
    sink = ListSink()

    source = SqlSource("scores", conn_id="warehouse", schema=database.schema, key="id", range_size=100)
    Pipeline(source, [], sink, chunk_size=3).run()

    assert sorted(row["id"] for row in sink.rows) == keys
