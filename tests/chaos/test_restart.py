"""The server crashes and comes back at each named point of a commit; the load goes on as if nothing had happened."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chaos.campaign import POINTS
from tests.chaos.servers import MariadbServer, PostgresServer, Server
from tests.support.children import everything, rows_of
from tests.support.databases import MariaDatabase, PostgresDatabase, TestDatabase

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(900)]
SIZE = 50


def crashing_hook(server: Server, points: tuple[str, ...]) -> Any:
    """A hook class that crashes the server, and starts it again, once at each point, each in a chunk of its own."""
    from airflow_parallel_provider.hooks.sink_table import SinkTableHook

    left = list(points)

    class CrashingHook(SinkTableHook):
        def reached(self, here: str) -> None:
            if left and here == left[0]:
                left.pop(0)
                server.crash()
                server.start()

    return CrashingHook


@pytest.mark.parametrize(
    "points", [("before_commit",), pytest.param(POINTS, marks=pytest.mark.slow)], ids=["one", "all"]
)
@pytest.mark.parametrize("kind", [PostgresServer, MariadbServer])
def test_server_that_crashes_in_the_middle_of_a_commit(kind: type[Server], points: tuple[str, ...]) -> None:
    with kind() as server:
        is_postgres = isinstance(server, PostgresServer)
        database: TestDatabase = PostgresDatabase(where=server.where) if is_postgres else MariaDatabase(server.where)
        with database.opened(cls=crashing_hook(server, points), lock_timeout=60) as hook:
            for chunk in range(6):
                hook.write_chunk(f"{chunk:08d}", rows_of(chunk, SIZE), first_position=chunk * SIZE)
            hook.consolidate()

        assert server.crashes == len(points)
        assert database.rows(columns="id, name") == everything(6, SIZE)
        assert [row[:3] for row in database.ledger()] == [(f"{chunk:08d}", SIZE, SIZE) for chunk in range(6)]
