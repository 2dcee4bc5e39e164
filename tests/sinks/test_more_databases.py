"""What holds on the databases of ``conftest.OWN`` holds with other drivers of theirs, too: PyMySQL."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import ModuleType

import pytest

from tests.sinks import test_schema_change, test_write_chunk
from tests.sinks.databases import TestDatabase

pytestmark = pytest.mark.airflow


def laws(module: ModuleType) -> list[Callable[[TestDatabase], None]]:
    """The tests of a module that ask for a database and nothing else."""
    found = vars(module).values()
    tests = [each for each in found if inspect.isfunction(each) and each.__name__.startswith("test_")]
    alone = [each for each in tests if list(inspect.signature(each).parameters) == ["database"]]
    return [each for each in alone if each.__name__ != "test_merge_is_refused_where_it_is_not_known"]


@pytest.mark.parametrize("law", laws(test_write_chunk) + laws(test_schema_change), ids=lambda law: law.__name__[5:])
@pytest.mark.parametrize("database", ["mariadb-pymysql"], indirect=True)
def test_chunks(database: TestDatabase, law: Callable[[TestDatabase], None]) -> None:
    law(database)
