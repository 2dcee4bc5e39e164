"""Prepared statements that a pooler in transaction mode loses: switched off, and what failed is tried again."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.databases import TestDatabase
from tests.support.services import missing

pytestmark = [pytest.mark.airflow, pytest.mark.parametrize("database", ["postgres"], indirect=True)]
FORGET = "DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$"
"""Unlike a plain DEALLOCATE, psycopg does not notice this one."""


def test_statement_that_the_server_does_not_have_is_tried_again(
    database: TestDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    with database.opened(columns={"id": int}) as hook:
        for chunk in range(20):
            if chunk == 10:
                connection = hook.destination().database.connection()
                connection.exec_driver_sql(FORGET)
                connection.commit()
            hook.write_chunk(f"{chunk:08d}", [{"id": chunk}], first_position=chunk)
        raw = hook.destination().database.connection().connection.driver_connection

        assert raw.prepare_threshold is None

    assert database.rows() == [(chunk,) for chunk in range(20)]
    assert "a pooler in transaction mode (pgbouncer) is in between" in caplog.text
    assert caplog.text.count("pgbouncer") == 1


@pytest.fixture
def pooler(database: TestDatabase, tmp_path: Path) -> Iterator[int]:
    """Port of a pgbouncer in transaction mode, with so few sessions that transactions change them."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        missing("there is no pgbouncer on this machine: make pooler")
    host, port = database.upstream
    mine = _free_port()
    config = tmp_path / "pgbouncer.ini"
    server = f"host={host} port={port} user={database.connection.login}"
    config.write_text(
        f"[databases]\n* = {server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {mine}\n"
        "auth_type = any\npool_mode = transaction\ndefault_pool_size = 3\nserver_round_robin = 1\n"
        "unix_socket_dir =\nignore_startup_parameters = extra_float_digits,options\n"
    )
    config.chmod(0o644)
    tmp_path.chmod(0o755)
    arguments = [program, "-q", str(config)]
    if os.geteuid() == 0:
        arguments[1:1] = ["-u", "nobody"]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE) as process:
        try:
            _wait_until_it_listens(process, mine)
            yield mine
        finally:
            process.terminate()


def _free_port() -> int:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int) -> None:
    import socket

    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    missing("pgbouncer does not start here")


def test_loads_through_a_pooler_in_transaction_mode(database: TestDatabase, pooler: int) -> None:
    """Two connections with statements of the same names share the server's sessions."""
    through = database.through(pooler)
    through.connection.extra = None  # a pooler refuses startup options that it does not know
    with through.opened("first", lock_timeout=60) as first, through.opened("second", lock_timeout=60) as second:
        for chunk in range(40):
            for number, hook in enumerate((first, second)):
                hook.write_chunk(f"{chunk:08d}", [{"id": chunk, "x": number}], first_position=chunk)
        first.consolidate()
        second.consolidate()

    assert database.rows("first", "id") == database.rows("second", "id") == [(chunk,) for chunk in range(40)]
