"""The Snowflake of the tests; without its packages these tests are skipped: ``make test-snowflake``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.snowflake import SnowflakeDatabase, snowflake_server


@pytest.fixture(scope="session")
def snowflake_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    pytest.importorskip("fakesnow", reason="needs fakesnow: make test-snowflake")
    with snowflake_server(tmp_path_factory.mktemp("snowflake") / "server.log") as port:
        yield port


@pytest.fixture
def snowflake(snowflake_port: int) -> Iterator[SnowflakeDatabase]:
    database = SnowflakeDatabase(snowflake_port)
    yield database
    database.end_sessions()
