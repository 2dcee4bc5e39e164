"""What holds on the databases of ``databases.OWN`` holds with other drivers of theirs, too: PyMySQL."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import ModuleType

import pytest

from tests.sinks.commit import test_committer, test_schema_change
from tests.support.databases import TestDatabase

pytestmark = pytest.mark.airflow


def laws(module: ModuleType) -> list[Callable[[TestDatabase], None]]:
    """The tests of a module that ask for a database and nothing else, and are for MariaDB, too."""
    found = vars(module).values()
    tests = [each for each in found if inspect.isfunction(each) and each.__name__.startswith("test_")]
    alone = [each for each in tests if list(inspect.signature(each).parameters) == ["database"]]
    return [each for each in alone if all("mariadb" in names for names in databases_of(each))]


def databases_of(test: Callable[..., None]) -> list[list[str]]:
    """The databases that a test names, if it names some."""
    marks: list[pytest.Mark] = getattr(test, "pytestmark", [])
    lists = [mark.args[1] for mark in marks if mark.name == "parametrize" and mark.args[0] == "database"]
    return [[each if isinstance(each, str) else each.values[0] for each in names] for names in lists]


@pytest.mark.parametrize("law", laws(test_committer) + laws(test_schema_change), ids=lambda law: law.__name__[5:])
@pytest.mark.parametrize("database", ["mariadb-pymysql"], indirect=True)
def test_chunks(database: TestDatabase, law: Callable[[TestDatabase], None]) -> None:
    law(database)
