"""Numbers of JSON with more digits than a float: exact wherever the column can hold them, else refused."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from airflow_parallel_provider.errors import SchemaMismatch
from airflow_parallel_provider.values import json_text
from tests.support.databases import OWN, TestDatabase, on_each_backend
from tests.support.turns import in_turn

pytestmark = pytest.mark.airflow
OWN_BACKENDS = pytest.mark.parametrize("database", OWN, indirect=True)

LONG, FRACTION = "12345678901234567.89", "0.1234567890123456789"


def rows_of(*numbers: str) -> list[dict[str, Any]]:
    """As a JSON file or an API gives them."""
    text = ", ".join(f'{{"id": {at}, "value": {number}}}' for at, number in enumerate(numbers))
    rows: list[dict[str, Any]] = json_text.loads(f"[{text}]")
    return rows


def texts_in(database: TestDatabase) -> list[str]:
    return [text.strip() for (text,) in database.rows(columns="CAST(value AS CHAR(100))", order="id")]


@OWN_BACKENDS
def test_column_of_decimals(database: TestDatabase) -> None:
    if database.name == "sqlite":  # its own DECIMAL is a float: a declared column is a text
        options: dict[str, Any] = {"columns": {"id": int, "value": "decimal(38, 19)"}}
    else:
        database.execute(f"CREATE TABLE {database.place('scores')} (id INTEGER, value DECIMAL(38, 19))")
        options = {}

    with database.opened(**options) as hook:
        hook.write_chunk("00000000", rows_of(LONG, FRACTION, "1.10", "-7"))

    assert [Decimal(text) for text in texts_in(database)] == [Decimal(LONG), Decimal(FRACTION), Decimal("1.1"), -7]


@on_each_backend
def test_new_column_holds_decimals_if_it_must(database: TestDatabase) -> None:
    with database.opened() as hook:
        hook.write_chunk("00000000", rows_of("1.5", LONG))

    assert [Decimal(text) for text in texts_in(database)] == [Decimal("1.5"), Decimal(LONG)]


@on_each_backend
def test_new_column_holds_floats_if_there_are_long_fractions_only(database: TestDatabase) -> None:
    with database.opened() as hook:
        hook.write_chunk("00000000", rows_of("1.5", FRACTION))

    assert [value for (value,) in database.rows(columns="value", order="id")] == [1.5, float(FRACTION)]


@OWN_BACKENDS
@pytest.mark.parametrize("number", [LONG, "9007199254740993.0", "9007199254740.993", "1e400"])
@in_turn("mariadb", "duckdb", "postgres-psycopg2")
def test_column_of_floats_takes_no_number_that_it_would_change(database: TestDatabase, number: str) -> None:
    database.execute(f"CREATE TABLE {database.place('scores')} (id INTEGER, value DOUBLE PRECISION)")
    if database.name == "duckdb":
        database.execute("DROP TABLE scores", "CREATE TABLE scores (id INTEGER, value DOUBLE)")

    wanted = r"column 'value'.*(more digits than a float holds|beyond the range of a float)"
    with database.opened() as hook, pytest.raises(SchemaMismatch, match=wanted):
        hook.write_chunk("00000000", rows_of("1.5", number))


@on_each_backend
def test_later_chunk_does_not_lose_digits(database: TestDatabase) -> None:
    """The column was made for floats when no longer number was known."""
    with database.opened() as hook:
        hook.write_chunk("00000000", rows_of("1.5"))
        with pytest.raises(SchemaMismatch, match=r"column 'value'.*more digits than a float holds"):
            hook.write_chunk("00000001", rows_of(LONG), first_position=100)


@OWN_BACKENDS
def test_columns_of_texts_and_json(database: TestDatabase) -> None:
    with database.opened(columns={"id": int, "value": str, "kept": dict}) as hook:
        rows = [{**row, "kept": {"v": [row["value"]]}} for row in rows_of(LONG, FRACTION)]
        hook.write_chunk("00000000", rows)

    assert texts_in(database) == [LONG, FRACTION]
    kept = [text.strip() for (text,) in database.rows(columns="CAST(kept AS CHAR(100))", order="id")]
    assert [text.replace(" ", "") for text in kept] == [f'{{"v":[{LONG}]}}', f'{{"v":[{FRACTION}]}}']
