"""What holds on the databases of ``conftest.OWN`` holds on DuckDB, and with PyMySQL."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest

from airflow_parallel_provider.errors import UnsafeTable
from tests.sinks import test_replace, test_schema_change, test_write_chunk
from tests.sinks.databases import SPEC, TestDatabase

pytestmark = pytest.mark.airflow
VALUES: dict[str, list[Any]] = {
    "bool": [True, False],
    "int": [2**63 - 1, -(2**63)],
    "hugeint": [2**63, -(2**100), 10**38 - 1],
    "float": [math.inf, -0.5, 1e-320],
    "text": ["it's \x00 \U0001f600", ""],
    "bytes": [b"\0\xff", b""],
    "date": [date.min, date.max],
    "datetime": [datetime.min, datetime.max],  # noqa: DTZ901
    "datetimetz": [datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)],
    "time": [time.min, time.max],
    "timedelta": [timedelta(days=-3, microseconds=5), timedelta(microseconds=-1)],
    "uuid": [UUID(int=7)],
    "decimal": [Decimal("1.5"), Decimal("-0.0000000001"), Decimal(10**27)],
    "json": [{"a": [1, None]}, []],
}


def laws(module: ModuleType) -> list[Callable[[TestDatabase], None]]:
    """The tests of a module that ask for a database and nothing else."""
    found = vars(module).values()
    tests = [each for each in found if inspect.isfunction(each) and each.__name__.startswith("test_")]
    alone = [each for each in tests if list(inspect.signature(each).parameters) == ["database"]]
    return [each for each in alone if each.__name__ != "test_merge_is_refused_where_it_is_not_known"]


@pytest.mark.parametrize("law", laws(test_write_chunk) + laws(test_schema_change), ids=lambda law: law.__name__[5:])
@pytest.mark.parametrize("database", ["mariadb-pymysql", "duckdb"], indirect=True)
def test_chunks(database: TestDatabase, law: Callable[[TestDatabase], None]) -> None:
    law(database)


@pytest.mark.parametrize("law", laws(test_replace), ids=lambda law: law.__name__[5:])
@pytest.mark.parametrize("database", ["duckdb"], indirect=True)
def test_replacing(database: TestDatabase, law: Callable[[TestDatabase], None]) -> None:
    law(database)


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("database", ["duckdb"], indirect=True)
def test_values_come_back_as_they_went(database: TestDatabase, kind: str) -> None:
    values = [*VALUES[kind], None]
    with database.opened(columns={"id": int, "value": kind}) as hook:
        hook.write_chunk("00000000", list(enumerate(values)))

    got = [row[0] for row in database.rows(columns='"value"', order="id")]
    assert [json.loads(each) if kind == "json" and each else each for each in got] == values


@pytest.mark.parametrize("database", ["duckdb"], indirect=True)
def test_database_in_memory_is_refused(database: TestDatabase) -> None:
    database.connection.host = ":memory:"

    with database.hook() as hook, pytest.raises(UnsafeTable, match="DuckDB database in memory"):
        hook.open(SPEC)
