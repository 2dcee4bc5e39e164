"""The disk is full in the middle of a load: the run fails by that name, and when there is room a retry goes on."""

from __future__ import annotations

import random
import re
import resource
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from airflow_parallel_provider.bridge.task_run import is_terminal
from airflow_parallel_provider.engine.interfaces.records import LoadSpec
from airflow_parallel_provider.errors import SinkError
from tests.chaos.servers import FILES, MariadbServer, PostgresServer, Server
from tests.chaos.small_disk import SmallDisk, small_disk
from tests.support.children import Child
from tests.support.databases import MariaDatabase, PostgresDatabase, TestDatabase

pytestmark = pytest.mark.airflow
CHUNKS, SIZE = 40, 1_000
"""16 megabytes, 400 kilobytes per chunk."""
MEGABYTES = {"sqlite": 4, "duckdb": 4, "postgres": 4, "mariadb": 10}
"""InnoDB ends itself when a table cannot grow that has less than that."""
PLENTY = 64


def rows_of(chunk: int) -> list[dict[str, Any]]:
    """Of a chunk; they cannot be compressed much."""
    ids = range(chunk * SIZE, (chunk + 1) * SIZE)
    return [{"id": each, "name": random.Random(each).randbytes(200).hex()} for each in ids]


def everything(chunks: int) -> list[tuple[Any, ...]]:
    return [(row["id"], row["name"]) for chunk in range(chunks) for row in rows_of(chunk)]


def attempt(database: TestDatabase, number: int, chunks: int = CHUNKS, **options: Any) -> None:
    """One attempt at the load. Whatever may be rejected: no row is to blame for a full disk."""
    with database.hook(max_rejected=CHUNKS * SIZE, **options) as hook:
        done = hook.open(LoadSpec("nightly", SIZE, f"range({CHUNKS * SIZE})", attempt=number))
        for chunk in range(chunks):
            if f"{chunk:08d}" not in done:
                hook.write_chunk(f"{chunk:08d}", rows_of(chunk), first_position=chunk * SIZE)
        hook.consolidate()


def check_retry(database: TestDatabase) -> None:
    """What the first attempt has committed is there; the second one adds the rest."""
    there = len(database.ledger())
    assert 0 < there < CHUNKS
    assert database.rows(columns="id, name") == everything(there)

    attempt(database, 2)
    assert database.rows(columns="id, name") == everything(CHUNKS)
    assert [number for *_, number in database.ledger()] == [1] * there + [2] * (CHUNKS - there)
    assert not database.exists("scores__rejected")


@pytest.fixture(params=list(MEGABYTES.items()), ids=list(MEGABYTES))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[TestDatabase, SmallDisk]]:
    """A database whose tables are on a small disk."""
    name, megabytes = request.param
    with ExitStack() as stack:
        if name in FILES:
            disk = stack.enter_context(small_disk(tmp_path, megabytes))
            yield FILES[name](tmp_path / "warehouse.db"), disk
            return
        server = stack.enter_context(PostgresServer() if name == "postgres" else MariadbServer())
        yield _on_small_disk(server, stack, megabytes)


def _on_small_disk(server: Server, stack: ExitStack, megabytes: int) -> tuple[TestDatabase, SmallDisk]:
    user = server.as_user.get("user", 0)
    if isinstance(server, MariadbServer):
        maria = MariaDatabase(server.where)
        assert maria.schema
        return maria, stack.enter_context(small_disk(server.folder / "data" / maria.schema, megabytes, user))
    folder = server.folder / "small"
    folder.mkdir()
    disk = stack.enter_context(small_disk(folder, megabytes, user))
    with psycopg.connect(server.where, autocommit=True) as raw:
        raw.execute(f"CREATE TABLESPACE small LOCATION '{folder}'")
        raw.execute("ALTER DATABASE postgres SET default_tablespace = small")
    return PostgresDatabase(where=server.where), disk


def test_full_disk_fails_by_that_name_and_the_retry_goes_on(place: tuple[TestDatabase, SmallDisk]) -> None:
    database, disk = place

    with pytest.raises(
        SinkError, match=r"chunk 0\d+ could not .*the database's disk is full: .*: free space"
    ) as caught:
        attempt(database, 1, lock_timeout=1)
    assert not is_terminal(caught.value)
    disk.grow(PLENTY)

    check_retry(database)


@pytest.mark.parametrize("place", [("sqlite", 5), ("duckdb", 5), ("postgres", 7)], indirect=True, ids=lambda at: at[0])
def test_disk_that_is_too_small_for_a_copy_leaves_the_old_rows(place: tuple[TestDatabase, SmallDisk]) -> None:
    """There is room for a second copy of the rows (``replace``), but not for a third one."""
    database, disk = place
    database.execute(
        f"CREATE TABLE {database.place('scores')} (id BIGINT, name VARCHAR(400))",
        f"CREATE VIEW {database.place('seen')} AS SELECT * FROM {database.place('scores')}",
        f"INSERT INTO {database.place('scores')} VALUES (-1, 'old')",
    )
    options: dict[str, Any] = {"write_disposition": "replace", "chunks": 8}

    with pytest.raises(SinkError, match="the database's disk is full") as caught:
        attempt(database, 1, lock_timeout=1, **options)
    assert not is_terminal(caught.value)
    assert len(database.ledger()) == 8
    assert database.rows() == [(-1, "old")]
    disk.grow(PLENTY)

    attempt(database, 2, **options)
    assert database.rows("seen", "id, name") == everything(8)


@pytest.mark.parametrize("backend", FILES)
def test_file_that_may_not_grow_any_more(backend: str, tmp_path: Path) -> None:
    """A limit on the size of a file, which does not need root."""
    database = FILES[backend](tmp_path / "warehouse.db")
    said = tmp_path / "said"

    def limited() -> None:
        limit = MEGABYTES[backend] << 20
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            attempt(database, 1, lock_timeout=1)
        except SinkError as error:
            said.write_text(f"terminal: {is_terminal(error)}, {error}")

    assert Child(limited).wait() == 0
    assert re.match(r"terminal: False, .*(disk I/O error|disk is full)", said.read_text())

    check_retry(database)
