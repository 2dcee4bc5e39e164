"""A schema of its own on the Snowflake of the tests (:mod:`tests.support.snowflake_server`), which it starts."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import uuid4

from tests.support.databases import TestDatabase


@contextmanager
def snowflake_server(log: Path) -> Iterator[int]:
    """Run the server; give its port. In this process, and those forked from it, the connector then connects to it."""
    import snowflake.connector

    place = log.with_suffix(".port")
    command = [sys.executable, "-m", "tests.support.snowflake_server", str(place)]
    connect, port = snowflake.connector.connect, 0

    def to_server(**options: Any) -> Any:
        # Airflow's hook has no fields for these.
        return connect(**{**options, "host": "127.0.0.1", "port": port, "protocol": "http"})

    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            port = _announced(place, process, log)
            with patch("snowflake.connector.connect", to_server), patch("snowflake.connector.Connect", to_server):
                yield port
        finally:
            process.kill()


def _announced(place: Path, process: Any, log: Path) -> int:
    """The port that the server has written, when it listens."""
    for _ in range(600):
        if place.exists():
            return int(place.read_text())
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    raise AssertionError(f"the server does not start: {log.read_text()}")


class SnowflakeDatabase(TestDatabase):
    """A schema, reached through Airflow's SnowflakeHook."""

    name = "snowflake"
    modules = ("snowflake.connector", "airflow.providers.snowflake.hooks.snowflake")

    def __init__(self, port: int) -> None:
        from airflow.sdk import Connection

        self.port = port
        self.schema = f"SINK_{uuid4().hex[:12].upper()}"
        extra = {"account": "here", "database": "WAREHOUSE", "warehouse": "SMALL"}
        self.connection = Connection(
            conn_id="warehouse", conn_type="snowflake", login="loader", password="secret", schema=self.schema,
            extra=json.dumps(extra),
        )  # fmt: skip

    def raw(self) -> Any:
        import snowflake.connector

        return snowflake.connector.connect(
            user="loader", password="secret", account="here", database="WAREHOUSE", schema=self.schema
        )

    def tables(self) -> list[str]:
        return [
            name
            for (name,) in self.fetch(
                f"SELECT table_name FROM information_schema.tables WHERE table_schema = '{self.schema}'"
            )
        ]

    def end_sessions(self) -> None:
        """Roll back what dead clients have left open: the service does so after some minutes."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/end_sessions", method="POST")
        urllib.request.urlopen(request).read()

    def staged_files(self) -> list[str]:
        """Files in the stage of the user."""
        found = urllib.request.urlopen(f"http://127.0.0.1:{self.port}/staged_files?schema={self.schema}").read()
        return list(json.loads(found))
