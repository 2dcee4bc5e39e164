"""Database servers of the tests' own, in a folder of their own on a free port, that may be killed and started again.

They run with the durability a production server has: what was committed is there after a crash.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

from tests.support.databases import DuckDatabase, MariaDatabase, PostgresDatabase, SqliteDatabase, TestDatabase

_START_SECONDS = 60.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def program(*names: str) -> str:
    """Path of the first of these programs; the test is skipped when there is none."""
    folders = [os.environ.get("PATH", ""), "/usr/sbin", *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin")))]
    for name in names:
        found = shutil.which(name, path=os.pathsep.join(folders))
        if found:
            return str(Path(found).resolve())
    assert not os.environ.get("CI"), f"no program {' or '.join(names)}: the server's own programs are needed here"
    pytest.skip(f"no program {' or '.join(names)} here to start a server with")


class Server:
    """A server that is started, crashed, and gone at the end."""

    user: str
    """Whose rights it runs with, when the tests run as root: a server refuses root's."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="chaos-"))
        self.port = free_port()
        self.as_user: dict[str, Any] = {}
        if os.geteuid() == 0:
            entry = pwd.getpwnam(self.user)
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
            self.as_user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        self._process: subprocess.Popen[bytes] | None = None
        self.crashes = 0

    def __enter__(self) -> Self:
        try:
            self.make()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.send_signal(self.quick_end)
            self._process.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)

    quick_end = signal.SIGQUIT

    def make(self) -> None:
        """Make an empty database cluster."""
        raise NotImplementedError

    def command(self) -> list[str]:
        """What starts it, in the foreground."""
        raise NotImplementedError

    @property
    def where(self) -> str:
        """As the tests' databases take it."""
        raise NotImplementedError

    def ask(self) -> None:
        """Connect once; raises when no server answers."""
        raise NotImplementedError

    def run(self, *command: str) -> None:
        subprocess.run(command, check=True, capture_output=True, timeout=120, cwd=self.folder, **self.as_user)

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, **self.as_user
            )
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                self.ask()
            except Exception:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise
                time.sleep(0.02)
            else:
                return

    def crash(self) -> None:
        """End it at once, without a checkpoint and without a message to its clients."""
        assert self._process is not None
        self._process.send_signal(self.quick_end)
        self._process.wait(30)
        self._process = None
        self.crashes += 1


class PostgresServer(Server):
    """PostgreSQL. It is crashed with SIGQUIT, "immediate shutdown": SIGKILL would leave its processes behind."""

    user = "postgres"

    def make(self) -> None:
        initdb = program("initdb")
        self._binary = str(Path(initdb).with_name("postgres"))
        where = str(self.folder / "data")
        self.run(initdb, "-D", where, "-U", "chaos", "--auth=trust", "--no-sync", "-E", "UTF8", "--no-locale")

    def command(self) -> list[str]:
        settings = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": "", "fsync": "on"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [self._binary, "-D", str(self.folder / "data"), *options]

    @property
    def where(self) -> str:
        return f"host=127.0.0.1 port={self.port} user=chaos dbname=postgres"

    def ask(self) -> None:
        import psycopg

        psycopg.connect(self.where, connect_timeout=3).close()


class MariadbServer(Server):
    """MariaDB or MySQL, crashed with SIGKILL."""

    user = "mysql"
    quick_end = signal.SIGKILL

    def make(self) -> None:
        self._binary = program("mariadbd", "mysqld")
        where = f"--datadir={self.folder / 'data'}"
        options = ["--no-defaults", where, "--auth-root-authentication-method=normal", "--skip-test-db"]
        self.run(program("mariadb-install-db", "mysql_install_db"), *options)

    def command(self) -> list[str]:
        settings = {
            "datadir": self.folder / "data",
            "port": self.port,
            "bind-address": "127.0.0.1",
            "socket": self.folder / "s",
            "pid-file": self.folder / "pid",
            "innodb-flush-log-at-trx-commit": 1,
            "innodb-buffer-pool-size": "32M",
        }
        return [self._binary, "--no-defaults", *(f"--{name}={value}" for name, value in settings.items())]

    @property
    def where(self) -> str:
        return f"host=127.0.0.1 port={self.port} user=root password="

    def ask(self) -> None:
        import mysql.connector

        mysql.connector.connect(
            host="127.0.0.1", port=self.port, user="root", password="", connection_timeout=3
        ).close()


FILES: dict[str, Callable[[Path], TestDatabase]] = {"sqlite": SqliteDatabase, "duckdb": DuckDatabase}
"""Databases without a server that could crash."""


@contextmanager
def private_database(backend: str, folder: Path) -> Iterator[tuple[TestDatabase, Server | None]]:
    """An empty database on a server of its own that may be crashed; of SQLite and DuckDB a file."""
    if backend in FILES:
        yield FILES[backend](folder / "warehouse.db"), None
        return
    with (PostgresServer if backend == "postgres" else MariadbServer)() as server:
        where = server.where
        yield (PostgresDatabase(where=where) if backend == "postgres" else MariaDatabase(where)), server
