"""What Snowflake's backend writes, refuses and finds."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest

from airflow_parallel_provider.errors import SchemaMismatch
from airflow_parallel_provider.sql.backends.snowflake.fields import field_table
from airflow_parallel_provider.values.json_text import JsonText
from airflow_parallel_provider.values.kinds import Kind
from airflow_parallel_provider.values.table_shape import TableColumn, TableShape
from tests.support.snowflake import SnowflakeDatabase

pytestmark = [pytest.mark.airflow, pytest.mark.system]

TEXTS = ["", " ", "a,b", 'say "no"', "two\nlines", "\\N", "NULL", "it's 100 %", "007", "é漢😀", "\ttab"]


def write(database: SnowflakeDatabase, rows: Any, **options: Any) -> Any:
    with database.opened(**options) as hook:
        return hook.write_chunk("00000000", rows)


def column(database: SnowflakeDatabase, what: str = '"v"') -> list[Any]:
    return [value for (value,) in database.rows(columns=what, order='"id"')]


@pytest.mark.parametrize("merge", [False, True])
def test_texts_come_back_as_they_were(snowflake: SnowflakeDatabase, merge: bool) -> None:
    options: dict[str, Any] = {"write_disposition": "merge", "primary_key": "id"} if merge else {}
    write(snowflake, [{"id": at, "v": text} for at, text in enumerate([*TEXTS, None])], **options)

    assert column(snowflake) == [*TEXTS, None]


@pytest.mark.parametrize(
    ("values", "type_name", "shown", "expected"),
    [
        ([True, False, None], "BOOLEAN", '"v"', [True, False, None]),
        ([2**63 - 1, -(2**63), None], "NUMBER", '"v"', [2**63 - 1, -(2**63), None]),
        ([0.1, 1e300, -5e-324, None], "FLOAT", '"v"', [0.1, 1e300, -5e-324, None]),
        ([Decimal("1.000000001"), Decimal("-99.5")], "NUMBER", '"v"', [Decimal("1.000000001"), Decimal("-99.5")]),
        ([b"\x00\xff,\n\"", b"", None], "BINARY", '"v"', [b"\x00\xff,\n\"", b"", None]),
        ([date(1, 1, 1), date(9999, 12, 31), None], "DATE", '"v"', [date(1, 1, 1), date(9999, 12, 31), None]),
        ([time(23, 59, 59, 999_999), None], "TIME", '"v"', [time(23, 59, 59, 999_999), None]),
        (
            [datetime(2020, 2, 29, 1, 2, 3, 4, UTC).replace(tzinfo=None), None], "TIMESTAMP_NTZ", 'TO_VARCHAR("v")',
            ["2020-02-29 01:02:03.000004", None],
        ),
        (
            [datetime(2020, 2, 29, 1, 2, 3, 4, UTC), None], "TIMESTAMP_TZ", 'TO_VARCHAR("v")',
            ["2020-02-29 01:02:03.000004+00", None],
        ),
        ([timedelta(seconds=1.5), None], "NUMBER", '"v"', [Decimal("1.5"), None]),
        ([uuid.UUID(int=5), None], "TEXT", '"v"', [str(uuid.UUID(int=5)), None]),
        ([{"a": [1, "x"]}, None], "VARIANT", 'TO_VARCHAR("v")', ['{"a":[1,"x"]}', None]),
    ],
    ids=["bool", "int", "float", "decimal", "bytes", "date", "time", "naive", "instant", "duration", "uuid", "json"],
)  # fmt: skip
def test_types(
    snowflake: SnowflakeDatabase, values: list[Any], type_name: str, shown: str, expected: list[Any]
) -> None:
    write(snowflake, [{"id": at, "v": value} for at, value in enumerate(values)])

    found = column(snowflake, shown)
    assert [bytes(each) if isinstance(each, bytearray) else each for each in found] == expected
    (declared,) = snowflake.fetch(
        "SELECT data_type FROM information_schema.columns "
        f"WHERE table_schema = '{snowflake.schema}' AND table_name = 'scores' AND column_name = 'v'"
    )
    assert declared == (type_name,)


def test_not_a_number_stays_one(snowflake: SnowflakeDatabase) -> None:
    write(snowflake, [{"id": 0, "v": float("nan")}, {"id": 1, "v": float("-inf")}])

    assert str(column(snowflake)) == "[nan, -inf]"


def test_a_row_of_nothing_but_null(snowflake: SnowflakeDatabase) -> None:
    """Its line would be empty, which the service refuses."""
    write(snowflake, [{"v": "x"}, {"v": None}])

    assert sorted(snowflake.rows(), key=str) == [("x",), (None,)] or len(snowflake.rows()) == 2


def test_an_arrow_table_goes_as_it_is(snowflake: SnowflakeDatabase) -> None:
    import pyarrow as pa

    table = pa.table(
        {
            "id": pa.array([0, 1], pa.int32()),
            "v": pa.array(["a,b", None]),
            "w": pa.array([0.1, None], pa.float32()),
            "t": pa.array([datetime(2020, 1, 1, 12, tzinfo=UTC), None], pa.timestamp("us", "Europe/Berlin")),
        }
    )
    with snowflake.opened() as hook:
        hook.write_chunk("00000000", [table])

    assert column(snowflake) == ["a,b", None]
    assert column(snowflake, '"w"') == [0.10000000149011612, None]
    assert column(snowflake, 'TO_VARCHAR("t")') == ["2020-01-01 12:00:00+00", None]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (JsonText('{"a": ' + "1" * 39 + "}"), "more than 38 digits"),
        (JsonText('{"a": 1.234567890123456789e5}'), "more than 17 digits"),
        (JsonText('{"a": 1, "a": 2}'), "an object has twice"),
    ],
)
def test_json_that_a_variant_would_change_is_refused(snowflake: SnowflakeDatabase, value: Any, reason: str) -> None:
    with pytest.raises(SchemaMismatch, match=reason):
        write(snowflake, [{"id": 0, "v": value}])


def test_an_integer_that_no_number_holds_is_refused(snowflake: SnowflakeDatabase) -> None:
    with pytest.raises(SchemaMismatch, match="more than 38 digits"):
        write(snowflake, [{"id": 10**38}])


def test_a_column_of_another_type_is_refused() -> None:
    shape = TableShape("scores", None, (TableColumn("v", Kind.OTHER, "ARRAY"),))
    with pytest.raises(SchemaMismatch, match=r"'v' \(ARRAY\).*VARCHAR or VARIANT"):
        field_table(shape, ["v"], [("1",)])


def test_existing_table_with_names_in_upper_case(snowflake: SnowflakeDatabase) -> None:
    """As nearly all tables there are: made without quotes."""
    snowflake.execute(f"CREATE TABLE {snowflake.schema}.ORDERS (ID NUMBER(5,0), NAME VARCHAR(3))")
    with snowflake.opened("ORDERS") as hook:
        hook.write_chunk("00000000", [{"ID": 1, "NAME": "a"}])
        with pytest.raises(SchemaMismatch, match="it has 'ID': write it the same way"):
            hook.write_chunk("00000001", [{"id": 1}], first_position=1)

    assert snowflake.rows("ORDERS") == [(1, "a")]


def test_names_with_percent_and_quotes(snowflake: SnowflakeDatabase) -> None:
    with snowflake.opened('50 % "off"', write_disposition="merge", primary_key="a %s", max_rejected=1) as hook:
        hook.write_chunk("00000000", [{"a %s": 1, 'b"': "x"}, {"a %s": None, 'b"': "y"}])

    assert snowflake.rows('50 % "off"') == [(1, "x")]


def test_merge(snowflake: SnowflakeDatabase) -> None:
    """Of equal keys the last row stays, in a chunk and across chunks; a key with a NULL equals no other."""
    snowflake.execute(f'CREATE TABLE {snowflake.place("scores")} ("id" NUMBER(38,0), "v" VARCHAR)')
    with snowflake.opened(write_disposition="merge", primary_key="id") as hook:
        hook.write_chunk("00000000", [{"id": 1, "v": "a"}, {"id": 2, "v": "b"}, {"id": 1, "v": "c"}])
        hook.write_chunk(
            "00000001", [{"id": 2, "v": "d"}, {"id": None, "v": "e"}, {"id": None, "v": "f"}], first_position=3
        )

    assert sorted(snowflake.rows(), key=str) == [(1, "c"), (2, "d"), (None, "e"), (None, "f")]
    assert snowflake.staged_files() == []


def test_merge_of_the_newest(snowflake: SnowflakeDatabase) -> None:
    options: dict[str, Any] = {"write_disposition": "merge", "primary_key": "id", "newest": "at"}
    with snowflake.opened(**options) as hook:
        hook.write_chunk(
            "00000000",
            [{"id": 1, "at": 5, "v": "new"}, {"id": 1, "at": 3, "v": "old"}, {"id": 2, "at": None, "v": "x"}],
        )
        hook.write_chunk("00000001", [{"id": 1, "at": 4, "v": "late"}, {"id": 2, "at": 0, "v": "y"}], first_position=3)

    assert snowflake.rows() == [(1, 5, "new"), (2, 0, "y")]


@pytest.mark.parametrize("merge", [False, True])
def test_rows_that_the_database_refuses_are_put_aside(snowflake: SnowflakeDatabase, merge: bool) -> None:
    options: dict[str, Any] = {"write_disposition": "merge", "primary_key": "id"} if merge else {}
    snowflake.execute(f'CREATE TABLE {snowflake.place("scores")} ("id" NUMBER(38,0), "v" VARCHAR NOT NULL)')
    rows = [{"id": at, "v": None if at in (3, 7) else f"v{at}"} for at in range(10)]

    receipt = None
    with snowflake.opened(max_rejected=2, **options) as hook:
        receipt = hook.write_chunk("00000000", rows)

    assert (receipt.rows, receipt.rows_rejected) == (8, 2)
    assert column(snowflake, '"id"') == [0, 1, 2, 4, 5, 6, 8, 9]
    assert len(snowflake.rows("scores__rejected")) == 2


def test_schema_change(snowflake: SnowflakeDatabase) -> None:
    with snowflake.opened(on_schema_change="add_columns") as hook:
        hook.write_chunk("00000000", [{"id": 1}])
        hook.write_chunk("00000001", [{"id": 2, "v": "x"}], first_position=1)

    assert snowflake.rows() == [(1, None), (2, "x")]
