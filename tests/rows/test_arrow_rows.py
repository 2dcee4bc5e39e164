"""Arrow tables reach DuckDB and PostgreSQL without a Python object per value, and what arrives is the same."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest

from airflow_parallel_provider.errors import SchemaMismatch
from airflow_parallel_provider.rows.arrow_rows import ArrowRows
from tests.support.databases import TestDatabase

pa = pytest.importorskip("pyarrow")
pytestmark = pytest.mark.airflow
FAST = pytest.mark.parametrize("database", ["postgres", "duckdb"], indirect=True)
EACH = pytest.mark.parametrize(
    "database", ["sqlite", "postgres", "postgres-psycopg2", "mariadb", "duckdb"], indirect=True
)

COLUMNS: dict[str, tuple[Any, list[Any]]] = {
    "bool": (pa.bool_(), [True, False]),
    "tiny": (pa.int8(), [-128, 127]),
    "int": (pa.int64(), [2**63 - 1, -(2**63)]),
    "unsigned": (pa.uint32(), [2**32 - 1, 0]),
    "float": (pa.float64(), [0.1, -0.0, 1e-320, 1.7976931348623157e308, float("inf"), float("-inf"), float("nan")]),
    "real": (pa.float32(), [0.1, 3.5]),
    "decimal": (pa.decimal128(20, 4), [Decimal("1.5000"), Decimal("-0.0001"), Decimal("9999999999999999.9999")]),
    "text": (pa.string(), ["", 'it\'s "quoted", \\N \\.\r\n\t', "\\.", "NULL", " ", "\U0001f600"]),
    "long_text": (pa.large_string(), ["a,b", "x"]),
    "date": (pa.date32(), [date.min, date.max, date(2013, 1, 31)]),
    "naive": (pa.timestamp("us"), [datetime.min, datetime.max, datetime(2013, 1, 31, 5, 17, 0, 250)]),  # noqa: DTZ001, DTZ901
    "seconds": (pa.timestamp("s"), [datetime(2013, 1, 31, 5, 17)]),  # noqa: DTZ001
    "aware": (pa.timestamp("us", "Europe/Berlin"), [datetime(2013, 7, 31, 5, 17, 0, 250, tzinfo=UTC)]),
    "time": (pa.time64("us"), [time.min, time.max]),
}
ONLY_DUCKDB: dict[str, tuple[Any, list[Any]]] = {
    "bytes": (pa.binary(), [b'\0\xff,\n"', b""]),
    "span": (pa.duration("us"), [timedelta(days=-3, microseconds=5)]),
}


def table_of(columns: dict[str, tuple[Any, list[Any]]]) -> Any:
    """A table with each value once, and with a row of nothing but None."""
    rows = max(len(values) for _, values in columns.values()) + 1
    padded = {name: [*values, *[None] * (rows - len(values))] for name, (_, values) in columns.items()}
    schema = pa.schema([(name, arrow) for name, (arrow, _) in columns.items()])
    return pa.table({"seq": list(range(rows)), **padded}, pa.schema([("seq", pa.int64()), *schema]))


def shown(rows: list[tuple[Any, ...]]) -> list[list[str]]:
    return [[repr(value) for value in row] for row in rows]  # a NaN is not equal to itself, and -0.0 is to 0.0


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Turning an Arrow table into Python rows is an error."""

    def made(_self: ArrowRows) -> None:
        raise AssertionError("the table was turned into Python rows")

    monkeypatch.setattr(ArrowRows, "_materialize", made)
    return monkeypatch


@FAST
def test_arrow_table_goes_as_it_is(database: TestDatabase, untouched: pytest.MonkeyPatch) -> None:
    table = table_of(COLUMNS if database.name == "postgres" else {**COLUMNS, **ONLY_DUCKDB})
    batch = table.slice(0, 2).combine_chunks().to_batches()[0]

    with database.opened(load_column="load") as hook:
        receipt = hook.write_chunk("00000000", [table])
        hook.write_chunk("00000001", [table, table], first_position=100)
        hook.write_chunk("00000002", [batch], first_position=200)
    untouched.undo()
    with database.opened("by_hand", dead_letters=None, load_column="load") as hook:
        hook.write_chunk("00000000", [pa.table(table)])  # makes the table
        hook.write_chunk("00000001", [*table.to_pylist() * 2, *batch.to_pylist()], first_position=100)

    assert receipt.rows == table.num_rows
    listed = ", ".join(map(database.quote, table.column_names))
    order = f"{database.quote('seq')}"
    assert shown(database.rows(columns=listed, order=order)) == shown(database.rows("by_hand", listed, order))
    assert len(database.rows()) == 3 * table.num_rows + 2
    assert database.rows(columns="count(load), count(DISTINCT load)") == [(3 * table.num_rows + 2, 1)]


@pytest.mark.usefixtures("untouched")
@FAST
def test_column_of_one_null_is_a_row(database: TestDatabase) -> None:
    with database.opened() as hook:
        hook.write_chunk("00000000", [pa.table({"text": pa.array([None, "", "x"])})])

    assert sorted(database.rows(), key=repr) == [("",), ("x",), (None,)]


MISFITS = [
    ("smallint", pa.array([1, 2]), [(1,), (2,)]),
    ("numeric(6,1)", pa.array([Decimal("1.50")]), [(Decimal("1.5"),)]),
    ("double precision", pa.array([1, 2]), [(1.0,), (2.0,)]),
    ("varchar(40)", pa.array([1]), [("1",)]),
    ("bigint", pa.array([1.0, None]), [(1,), (None,)]),
    ("timestamp", pa.array([datetime(2013, 1, 31, 5, tzinfo=UTC)]), [(datetime(2013, 1, 31, 5),)]),  # noqa: DTZ001
    ("timestamp", pa.array([1], pa.timestamp("ns")), [(datetime(1970, 1, 1),)]),  # noqa: DTZ001
    ("varchar(40)", pa.array(["a", "a"]).dictionary_encode(), [("a",), ("a",)]),
]


@pytest.mark.parametrize(("sql_type", "values", "stored"), MISFITS, ids=[f"{m[1].type}-{m[0]}" for m in MISFITS])
@FAST
def test_column_of_another_type_goes_the_careful_way(
    database: TestDatabase, sql_type: str, values: Any, stored: list[Any]
) -> None:
    database.execute(f"CREATE TABLE {database.place('scores')} (value {sql_type})")

    with database.opened() as hook:
        hook.write_chunk("00000000", [pa.table({"value": values})])

    assert database.rows() == stored


@FAST
def test_integer_is_refused_by_a_narrow_column(database: TestDatabase) -> None:
    database.execute(f"CREATE TABLE {database.place('scores')} (value smallint)")

    with database.opened() as hook, pytest.raises(SchemaMismatch, match="an integer beyond 16 bit"):
        hook.write_chunk("00000000", [pa.table({"value": [70_000]})])


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_nul_in_a_text_is_named(database: TestDatabase) -> None:
    with database.opened() as hook, pytest.raises(SchemaMismatch, match=r"a text with a NUL character .*row 1"):
        hook.write_chunk("00000000", [pa.table({"value": ["a", "secret\x00"]})])


@FAST
def test_rows_that_the_table_refuses_are_found(database: TestDatabase) -> None:
    database.execute(f"CREATE TABLE {database.place('scores')} (id bigint PRIMARY KEY, name text)")

    with database.opened(max_rejected=1) as hook:
        hook.write_chunk("00000000", [pa.table({"id": [1, 2], "name": ["a", None]})])
        receipt = hook.write_chunk("00000001", [pa.table({"id": [2, 3], "name": ["b", "c"]})], first_position=100)

    assert (receipt.rows, receipt.rows_rejected) == (1, 1)
    assert database.rows() == [(1, "a"), (2, None), (3, "c")]


@pytest.mark.usefixtures("untouched")
@FAST
def test_merge_takes_tables_as_they_are_and_the_last_of_equal_keys_wins(database: TestDatabase) -> None:
    with database.opened(write_disposition="merge", primary_key=["id", "day"], load_column="load") as hook:
        days = pa.array([1, 1, 1, 2], pa.date32())
        hook.write_chunk("00000000", [pa.table({"id": [1, 2, 1, 1], "day": days, "n": [1, None, 3, 4]})])
        hook.write_chunk("00000001", [pa.table({"id": [2, 3], "day": days[:2], "n": [5, 6]})], first_position=100)

    first, second = date(1970, 1, 2), date(1970, 1, 3)
    found = database.rows(columns="id, day, n", order="id, day")
    assert found == [(1, first, 3), (1, second, 4), (2, first, 5), (3, first, 6)]


@EACH
def test_merge_and_aggregates_see_the_rows(database: TestDatabase) -> None:
    with database.opened(write_disposition="merge", primary_key="id", aggregates={"total": "sum(n)"}) as hook:
        hook.write_chunk("00000000", [pa.table({"id": [1, 2, 1], "n": [1, 2, 3]})])
        aggregates = hook.aggregates()

    assert database.rows() == [(1, 3), (2, 2)]
    assert aggregates["total"] == 6


@EACH
def test_json_of_arrow_is_json(database: TestDatabase) -> None:
    texts = ['{"a": 1}', "null", None, "1.10"]
    column = pa.ExtensionArray.from_storage(pa.json_(), pa.array(texts, pa.string()))

    with database.opened() as hook:
        hook.write_chunk("00000000", [pa.table({"id": range(4), "value": column})])

    cast = {"postgres": "value::text", "duckdb": "CAST(value AS VARCHAR)"}.get(database.name, "value")
    assert [value for (value,) in database.rows(columns=cast, order="id")] == texts


@FAST
@pytest.mark.parametrize("more", [{}, {"write_disposition": "merge", "primary_key": "id"}])
def test_months_of_arrow_are_kept(database: TestDatabase, more: dict[str, Any]) -> None:
    spans = [pa.MonthDayNano([1, 2, 3_000]), None, pa.MonthDayNano([0, 1, 0]), pa.MonthDayNano([-12, 0, -1_000])]

    with database.opened(**more) as hook:
        hook.write_chunk("00000000", [pa.table({"id": range(4), "value": spans})])

    texts = [value for (value,) in database.rows(columns="CAST(value AS varchar)", order="id")]
    postgres = ["1 mon 2 days 00:00:00.000003", None, "1 day", "-1 years -00:00:00.000001"]
    duckdb = ["1 month 2 days 00:00:00.000003", None, "1 day", "-1 year -00:00:00.000001"]
    assert texts == (postgres if database.name == "postgres" else duckdb)


@pytest.mark.parametrize("database", ["mariadb", "sqlite"], indirect=True)
def test_months_of_arrow_are_refused_where_they_have_no_type(database: TestDatabase) -> None:
    table = pa.table({"id": range(2), "value": [None, pa.MonthDayNano([1, 0, 0])]})

    with database.opened() as hook, pytest.raises(SchemaMismatch, match=r"value of type Interval \(chunk 0+, row 1\)"):
        hook.write_chunk("00000000", [table])
