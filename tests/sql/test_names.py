"""No name, wherever it comes from, becomes SQL."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from airflow_parallel_provider.engine.interfaces.records import LoadSpec
from airflow_parallel_provider.errors import PlanError, SchemaMismatch, SinkError
from tests.support.databases import OWN, SPEC, SqliteDatabase, TestDatabase
from tests.support.given import examples

pytestmark = pytest.mark.airflow

NASTY = [
    'x"; DROP TABLE victim; --',
    "x`; DROP TABLE victim; --",
    "x]; DROP TABLE victim; --",
    "x'); DROP TABLE victim; --",
    '"', "`", "'", "\\", '\\"', "--", "/*", ";", "?", ":x", ":1", "%s", "%(c0)s", "%%", "{0}", "{}", "$1", "@x", "#",
    "select", "a b", "a.b", "public.x", "VALUES (1)", "ON DUPLICATE KEY", "excluded", "n", "n_", "c0", "c1", "rowid",
    "\n", "\t", "A", "tableoid_", "_", "[x]", "名", "é",
]  # fmt: skip


def names(database: TestDatabase) -> st.SearchStrategy[str]:
    """Any name the database might have; MariaDB's are of the basic plane, and its drivers do not like some."""
    mariadb = database.name == "mariadb"
    dead_letters = st.characters(
        exclude_categories=["Cs", "Cc", "Zl", "Zp"] if mariadb else ["Cs"],
        exclude_characters="%`" if mariadb else "\x00",
        max_codepoint=0xFFFF if mariadb else None,
    )
    nasty = [name for name in NASTY if not mariadb or not set("%`\n") & set(name)]
    return st.sampled_from(nasty) | st.text(dead_letters, min_size=1, max_size=15)


@pytest.mark.hypothesis
@pytest.mark.parametrize("database", OWN, indirect=True)
def test_names_are_only_names(database: TestDatabase) -> None:
    """Append and merge through any names: the rows are there, or a clear error is; nothing else is touched."""
    database.execute(f"CREATE TABLE {database.place('victim')} (id INTEGER)")
    database.execute(f"INSERT INTO {database.place('victim')} VALUES (1)")
    name = names(database)
    loads = itertools.count()
    written = []

    @examples(25, long=200)
    @given(name, st.lists(name, min_size=2, max_size=3, unique_by=str.casefold), st.sampled_from(["append", "merge"]))
    @example('x"; DROP TABLE victim; --', ['a"', "b`"], "merge")
    def check(table: str, columns: list[str], disposition: Any) -> None:
        assume(table != "victim")
        rows = [dict.fromkeys(columns, at) for at in range(2)]
        spec = LoadSpec(f"load {next(loads)}", 10, "list")
        options = {"write_disposition": disposition, "primary_key": columns[:1], "dead_letters": None}
        try:
            with database.opened(table, spec, **options) as hook:
                hook.write_chunk("00000000", rows)
                hook.write_chunk("00000001", [{**rows[1], columns[0]: 2}], first_position=10)
        except (PlanError, SinkError):
            return  # refused: there is no such name here
        listed = ", ".join(map(database.quote, columns))
        first = database.quote(columns[0])
        found = database.fetch(f"SELECT {listed} FROM {database.place(table)} ORDER BY {first}")
        assert found == [(0,) * len(columns), (1,) * len(columns), (2, *(1,) * (len(columns) - 1))]
        database.execute(f"DROP TABLE {database.place(table)}")
        written.append(table)

    check()

    assert len(written) >= 12
    assert database.rows("victim") == [(1,)]


@pytest.mark.parametrize(
    ("name", "complaint"),
    [("a\ud800", "not valid Unicode"), ("", "is empty or holds a NUL"), ("a\x00b", "is empty or holds a NUL")],
)
def test_name_no_database_can_have_is_refused(sqlite: SqliteDatabase, name: str, complaint: str) -> None:
    with (
        sqlite.opened() as hook,
        pytest.raises(SchemaMismatch, match=f"a column of table 'scores' has the name .*{complaint}"),
    ):
        hook.write_chunk("00000000", [{name: 1}])


@pytest.mark.parametrize("database", ["sqlite", "mariadb", "duckdb"], indirect=True)
def test_columns_that_differ_only_in_case_are_named(database: TestDatabase) -> None:
    with (
        database.opened() as hook,
        pytest.raises(SchemaMismatch, match=r"'Id' and 'ID' differ only in case.*rename one"),
    ):
        hook.write_chunk("00000000", [{"Id": 1, "ID": 2}])


@pytest.mark.parametrize("database", ["postgres", "mariadb"], indirect=True)
def test_names_that_would_be_cut_are_refused(database: TestDatabase) -> None:
    """PostgreSQL keeps the first 63 bytes without a word: two tables would become one."""
    with database.opened(dead_letters=None) as hook, pytest.raises(SchemaMismatch, match=r"of 70 bytes.*shorten it"):
        hook.write_chunk("00000000", [{"é" * 35: 1}])
    with (
        database.hook("t" * 58) as hook,
        pytest.raises(SinkError, match=r"SinkTable.dead_letters has the name .*shorten"),
    ):
        hook.open(SPEC)


@pytest.mark.parametrize("name", ["%s", "a`b", "a\nb", "😀"])
@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
def test_names_that_mariadb_or_its_drivers_cannot_have_are_refused(database: TestDatabase, name: str) -> None:
    with (
        database.opened() as hook,
        pytest.raises(SchemaMismatch, match=r"names in this database cannot contain .*: rename it"),
    ):
        hook.write_chunk("00000000", [{name: 1}])
    with database.hook(name) as hook, pytest.raises(SchemaMismatch, match=r"SinkTable\.table has the name"):
        hook.open(SPEC)
