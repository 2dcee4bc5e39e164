"""A load that replaces all rows is killed during the swap: readers see the old rows or the new ones, all of them."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from airflow_parallel_provider.engine.interfaces.records import LoadSpec
from airflow_parallel_provider.hooks.sink_table import SinkTableHook
from airflow_parallel_provider.sql.backends.quoting import quote_for_dialect
from tests.chaos.replacing import (
    SWAP_POINTS,
    TABLE,
    ReplacingCampaign,
    replace_attempt,
    watching,
)
from tests.chaos.servers import private_database
from tests.chaos.test_campaign import LARGE, asked_for
from tests.support.children import KILLED, Child, killing_hook
from tests.support.databases import TestDatabase

pytestmark = pytest.mark.airflow
DATABASES = ["sqlite", "postgres", "mariadb"]
RACING = [*DATABASES, "duckdb"]
"""Where two attempts can be at one load at once: on DuckDB in one process only."""
CHUNKS, SIZE = 2, 30
WAYS = ["renamed", "copied", "new"]
"""By its name, into a table that a view hangs on (SQLite copies always), and where there was no table."""


def run(database: TestDatabase, load: int, cls: Any = None) -> int:
    """One attempt in a process of its own; its exit code."""
    return Child(lambda: replace_attempt(database, load, CHUNKS, SIZE, cls=cls, lock_timeout=20)).wait()


def spec_of(load: int, attempt: int = 1) -> LoadSpec:
    return LoadSpec(f"load {load}", SIZE, f"range({CHUNKS * SIZE})", attempt=attempt)


def made_by(database: TestDatabase) -> list[tuple[int, int]]:
    """Who has made the rows, and how many there are."""
    if not database.exists(TABLE):
        return []
    return [(int(load), int(count)) for load, count in database.fetch(
        f"SELECT made_by, COUNT(*) FROM {database.place(TABLE)} GROUP BY made_by"
    )]  # fmt: skip


def prepared(database: TestDatabase, way: str) -> None:
    if way == "new":
        return
    assert run(database, 0) == 0
    if way == "copied" and database.name == "mariadb":  # nothing but a trigger or a foreign key makes it copy
        database.execute(
            f"CREATE TRIGGER {database.place('untouched')} BEFORE UPDATE ON {database.place(TABLE)} "
            "FOR EACH ROW SET NEW.made_by = -1"
        )
    elif way == "copied":
        database.execute(f"CREATE VIEW {database.place('seen')} AS SELECT id FROM {database.place(TABLE)}")


QUICK = {("sqlite", "new"), ("sqlite", "copied"), ("postgres", "renamed"), ("mariadb", "copied")}
"""What ``make test`` tries: each database and each way. The long form tries every pair."""


def each(ways: Sequence[str]) -> pytest.MarkDecorator:
    pairs = [(database, way) for database in DATABASES for way in ways]
    marked = [pytest.param(*pair, marks=() if pair in QUICK else pytest.mark.slow) for pair in pairs]
    return pytest.mark.parametrize(("database", "way"), marked, indirect=["database"])


@each(WAYS)
def test_sigkill_at_each_point_of_the_swap(database: TestDatabase, way: str) -> None:
    renamed_alone = database.name == "mariadb" and way != "copied"
    died = []
    for point in SWAP_POINTS:
        prepared(database, way)
        with watching(database, CHUNKS * SIZE, there=way != "new"):
            code = run(database, 1, killing_hook(1, point))
            after_death = made_by(database)
            assert run(database, 1) == 0

        old, new = ([] if way == "new" else [(0, CHUNKS * SIZE)]), [(1, CHUNKS * SIZE)]
        if code == KILLED:
            died.append(point)
            assert after_death == (new if point.startswith("after") else old), point
        assert made_by(database) == new
        assert not [name for name in database.tables() if "staging" in name]
        forget(database)

    if renamed_alone:
        assert died == ["before_swap", "after_rename", "after_swap"]
    else:
        assert died == ["before_swap", "in_swap", "before_commit_of_swap", "after_swap"]


def forget(database: TestDatabase) -> None:
    """Table and ledger, so that the same load can be made again."""
    for table in (TABLE, "airflow_parallel_ledger", "airflow_parallel_ledger__loads"):
        cascade = " CASCADE" if database.name == "postgres" else ""
        database.execute(f"DROP TABLE {database.place(table)}{cascade}")
    if database.name == "sqlite":
        database.execute("DROP VIEW IF EXISTS seen")


_WRITES = re.compile(r"\s*(?!(?:SELECT(?!.*\bFOR (?:UPDATE|SHARE)\b)|SHOW|PRAGMA|DESCRIBE)\b)", re.DOTALL)


def dying_at_statement(number: int) -> Any:
    """A hook class that ends its process when the server has run so many statements of ``consolidate`` but reads."""
    import sqlalchemy as sa

    class MortalHook(SinkTableHook):
        def consolidate(self, **options: Any) -> Any:
            left = [number]

            def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
                left[0] -= bool(_WRITES.match(statement))
                if not left[0]:
                    os.kill(os.getpid(), signal.SIGKILL)

            sa.event.listen(sa.engine.Engine, "after_cursor_execute", count)
            return super().consolidate(**options)

    return MortalHook


@each(["renamed", "copied"])
def test_sigkill_after_each_statement(database: TestDatabase, way: str) -> None:
    prepared(database, way)
    load, code = 0, KILLED
    with watching(database, CHUNKS * SIZE, there=True):
        while code == KILLED:
            load += 1
            code = run(database, load, dying_at_statement(load))
            assert made_by(database) in ([(load - 1, CHUNKS * SIZE)], [(load, CHUNKS * SIZE)])
            assert run(database, load) == 0
            assert made_by(database) == [(load, CHUNKS * SIZE)]
        assert code == 0
    assert load > 3


ONE_OF_THEM = [name if name == "postgres" else pytest.param(name, marks=pytest.mark.slow) for name in DATABASES]


@pytest.mark.parametrize("database", ONE_OF_THEM, indirect=True)
def test_short(database: TestDatabase) -> None:
    figures = ReplacingCampaign(database, seed=2013, chunks=4, size=20).run(8)

    assert sum(figures.kills.values()) >= 8
    assert figures.looks > 10


def half_a_swap(_: Callable[..., Any]) -> Callable[..., Any]:
    """A swap that commits between its two halves."""

    def empty(_ddl: Any, connection: Any, table: Any) -> None:
        connection.exec_driver_sql(f"DELETE FROM {quote_for_dialect(connection, table.name, table.schema)}")
        connection.connection.driver_connection.execute("COMMIT")
        connection.connection.driver_connection.execute("BEGIN IMMEDIATE")

    return empty


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_harness_notices_a_swap_in_two_halves(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_parallel_provider.sql.backends.table_ddl import TableDdl

    monkeypatch.setattr(TableDdl, "empty", half_a_swap(TableDdl.empty))
    with pytest.raises(AssertionError, match=r"half a load|rows of \[\]"):
        ReplacingCampaign(database, seed=2013, chunks=4, size=20).run(50)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("backend", DATABASES)
def test_long(backend: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kills, seed = asked_for(default_kills=100)
    with private_database(backend, tmp_path) as (database, server):
        figures = ReplacingCampaign(database, seed, server=server, **LARGE).run(kills)

    with capsys.disabled():
        print(f"\nreplace {figures.line()} {figures.looks} looks", flush=True)
    assert figures.kills["before_swap"]
    assert figures.kills["after_swap"]
    assert figures.restarts or backend == "sqlite"
