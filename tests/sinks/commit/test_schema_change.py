"""``on_schema_change``: columns that come later."""

from __future__ import annotations

from contextlib import closing
from decimal import Decimal
from typing import Any

import pytest

from airflow_parallel_provider.errors import SchemaMismatch, SinkError
from tests.support.databases import TestDatabase, on_each_database, on_two_databases
from tests.support.turns import in_turn

pytestmark = pytest.mark.airflow


@on_two_databases
def test_unknown_column_is_refused_by_default(database: TestDatabase) -> None:
    with database.opened() as hook:
        hook.write_chunk("00000000", [{"id": 1}])
        with pytest.raises(SchemaMismatch, match="has no column 'note'"):
            hook.write_chunk("00000001", [{"id": 2, "note": "new"}], first_position=100)


def test_columns_are_added_between_two_chunks(database: TestDatabase) -> None:
    with database.opened(on_schema_change="add_columns", primary_key="id") as hook:
        hook.write_chunk("00000000", [{"id": 1}])
        hook.write_chunk("00000001", [{"id": 2, "note": "a", "price": Decimal("1.5")}], first_position=100)
        hook.write_chunk("00000002", [{"id": 3, "price": 2, "when": None}], first_position=200)

    found = database.rows(columns=f"id, note, price, {database.quote('when')}")
    assert [(each, note, price and Decimal(str(price)), when) for each, note, price, when in found] == [
        (1, None, None, None),
        (2, "a", Decimal("1.5"), None),
        (3, None, Decimal(2), None),
    ]


@on_each_database
def test_declared_columns_are_added_at_the_start(database: TestDatabase) -> None:
    database.execute(f"CREATE TABLE {database.place('scores')} (id INTEGER)")

    with database.opened(on_schema_change="add_columns", columns={"id": int, "note": "text(20)"}):
        pass

    assert database.rows(columns="id, note") == []


@pytest.mark.parametrize("database", ["postgres", "mariadb"], indirect=True)
def test_table_that_is_in_use_while_a_column_is_added_is_waited_for(database: TestDatabase) -> None:
    """That no column could be added has nothing to do with the rights of the login."""
    with database.opened(on_schema_change="add_columns", lock_timeout=1) as hook:
        hook.write_chunk("00000000", [{"id": 1}])
        with closing(database.raw()) as reader:
            cursor = reader.cursor()
            cursor.execute(f"SELECT * FROM {database.place('scores')}")
            cursor.fetchall()
            with pytest.raises(SinkError, match=r"could not be committed within 1 s .*another attempt may hold"):
                hook.write_chunk("00000001", [{"id": 2, "note": "a"}], first_position=100)
            reader.rollback()
        hook.write_chunk("00000001", [{"id": 2, "note": "a"}], first_position=100)

    assert database.rows(columns="id, note") == [(1, None), (2, "a")]


@on_each_database
def test_two_attempts_add_the_same_column(database: TestDatabase) -> None:
    options: dict[str, Any] = {"on_schema_change": "add_columns"}
    one, two = database.opened(**options), database.opened(**options)
    one.write_chunk("00000000", [{"id": 1}])
    two.write_chunk("00000001", [{"id": 2}], first_position=100)
    one.write_chunk("00000002", [{"id": 3, "note": "one"}], first_position=200)
    two.write_chunk("00000003", [{"id": 4, "note": "two"}], first_position=300)
    one.close()
    two.close()

    assert [row[1] for row in database.rows(columns="id, note")] == [None, None, "one", "two"]


@on_each_database
@pytest.mark.parametrize("name", ['a"b; DROP TABLE scores', "select", "with space", "50 % off"])
@in_turn("mariadb", "duckdb")
def test_name_of_an_added_column_is_only_a_name(database: TestDatabase, name: str) -> None:
    if database.name == "mariadb" and "%" in name:
        pytest.skip("no name on MariaDB holds a percent sign, see test_names")
    with database.opened(on_schema_change="add_columns") as hook:
        hook.write_chunk("00000000", [{"id": 1}])
        hook.write_chunk("00000001", [{"id": 2, name: "x"}], first_position=100)

    assert [row[-1] for row in database.rows()] == [None, "x"]


def test_column_that_differs_in_case_only_is_not_added_where_case_means_nothing(database: TestDatabase) -> None:
    with database.opened(on_schema_change="add_columns") as hook:
        hook.write_chunk("00000000", [{"id": 1}])
        if database.name == "postgres":
            hook.write_chunk("00000001", [{"ID": 2}], first_position=100)
        elif not database.generic:
            with pytest.raises(SchemaMismatch, match="it has 'id': write it the same way"):
                hook.write_chunk("00000001", [{"ID": 2}], first_position=100)
