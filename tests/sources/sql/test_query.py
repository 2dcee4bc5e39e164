"""``SqlSource(query=)``: the rows of the author's own SELECT, on real databases."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest

from airflow_parallel_provider import ListSink, Pipeline, PlanError, RunFailed, SinkTable, SqlSource, Stage
from airflow_parallel_provider.errors import LoadMismatch, SinkFailed, SourceError
from airflow_parallel_provider.values.json_text import JsonText
from tests.support.databases import TestDatabase, fast_on

pytestmark = pytest.mark.airflow

on_databases_with_ranges = fast_on("sqlite", "postgres", of=("sqlite", "postgres", "postgres-psycopg2", "mariadb"))
on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
ROWS = 450


@pytest.fixture
def shop(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> TestDatabase:
    """Orders of some customers."""
    monkeypatch.setattr("airflow_parallel_provider.sql.database.get_connection", lambda *_: database.connection)
    orders, customers = database.place("orders"), database.place("customers")
    values = ", ".join(f"({each}, {each % 7}, {each}.25, '2026-01-{each % 28 + 1:02}')" for each in range(ROWS))
    names = ", ".join(f"({each}, 'name {each}')" for each in range(7))
    database.execute(
        f"CREATE TABLE {orders} (id INTEGER PRIMARY KEY, customer INTEGER, price DECIMAL(12,2), day DATE)",
        f"INSERT INTO {orders} VALUES {values}",
        f"CREATE TABLE {customers} (id INTEGER PRIMARY KEY, name VARCHAR(40))",
        f"INSERT INTO {customers} VALUES {names}",
    )
    return database


def source(database: TestDatabase, query: str, **options: Any) -> SqlSource:
    text = query.replace("{orders}", database.place("orders")).replace("{customers}", database.place("customers"))
    return SqlSource(query=text, **{"conn_id": "warehouse", "key": "id", "range_size": 100, **options})


JOIN = "SELECT o.id, o.price, o.day, c.name FROM {orders} o JOIN {customers} c ON c.id = o.customer"


@on_databases_with_ranges
def test_the_rows_of_a_join_in_ranges(shop: TestDatabase) -> None:
    it = source(shop, JOIN)
    rows = list(it)

    assert [row["id"] for row in rows] == list(range(ROWS))
    assert rows[8] == {"id": 8, "price": Decimal("8.25"), "day": date(2026, 1, 9), "name": "name 1"}
    assert len(it.get_state()["bounds"]) == 5  # type: ignore[index]


@pytest.mark.parametrize(
    ("query", "options", "ids"),
    [
        ("SELECT id FROM {orders} WHERE customer = 3;", {}, list(range(3, ROWS, 7))),
        ("-- of one\nSELECT id /* ; */ FROM {orders} WHERE customer = 3 -- the third", {}, list(range(3, ROWS, 7))),
        ("WITH few AS (SELECT * FROM {orders} WHERE id < 5) SELECT id FROM few", {}, [0, 1, 2, 3, 4]),
        ("SELECT id FROM {orders} ORDER BY id DESC LIMIT 2", {}, [448, 449]),
        ("SELECT id FROM {orders} WHERE id < 2 UNION ALL SELECT id FROM {orders} WHERE id = 7", {}, [0, 1, 7]),
        ("SELECT * FROM {orders}", {"where": "customer = 3 AND id < 9", "columns": ["id"]}, [3]),
        ("SELECT customer AS id FROM {orders} GROUP BY customer", {}, list(range(7))),
        ("SELECT id FROM {orders} WHERE 'a;b' = 'a;b' AND id < :most", {"parameters": {"most": 3}}, [0, 1, 2]),
        ("SELECT id FROM {orders} WHERE day = :day AND id < 40", {"parameters": {"day": "2026-01-03"}}, [2, 30]),
        (
            "SELECT id FROM {orders} WHERE (:c IS NULL OR customer = 3)",
            {"where": "id < :most", "parameters": {"most": 4, "c": "x"}},
            [3],
        ),
        ("SELECT id FROM {customers} WHERE name LIKE '%me 1' OR id % 5 = 2", {}, [1, 2]),
        ("SELECT id FROM {orders} WHERE id < 0", {}, []),
    ],
    ids=[
        "semicolon", "comments", "with", "order", "union", "where", "group", "literal", "date", "untyped", "percent",
        "none",
    ],
)  # fmt: skip
@on_databases_with_ranges
def test_what_a_select_may_be(shop: TestDatabase, query: str, options: dict[str, Any], ids: list[int]) -> None:
    assert [row["id"] for row in source(shop, query, **options)] == ids


@on_databases_with_ranges
def test_names_of_columns_are_kept(shop: TestDatabase) -> None:
    name = shop.quote("Total: of 5 %")
    rows = list(source(shop, f"SELECT id AS {shop.quote('ID')}, id + 1 AS {name} FROM {{orders}}", key="ID"))

    assert rows[3] == {"ID": 3, "Total: of 5 %": 4}


@on_databases_with_ranges
@pytest.mark.parametrize(
    ("query", "key", "message"),
    [
        ("SELECT id, id FROM {orders}", "id", r"SqlSource\.query=.*(have the same name).*name each with AS"),
        (
            "SELECT customer FROM {orders}",
            "customer",
            r"SqlSource\.key='customer': rows of the query have the same key",
        ),
        ("SELECT NULL AS id FROM {orders}", "id", r"SqlSource\.key='id': the column may be NULL, and is in some rows"),
        ("SELECT id FROM {orders}", "day", r"SqlSource\.key='day': the query has no such column"),
        ("SELECT id FROM {orders} WHERE id = :a", "id", r"SqlSource\.query=.*: give parameters= a value for a"),
    ],
    ids=["twice", "not unique", "null", "other", "parameter"],
)
def test_a_query_that_would_lose_rows_is_refused(shop: TestDatabase, query: str, key: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        source(shop, query, key=key).prepare()


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("DELETE FROM orders", "this is DELETE: it stands in brackets"),
        ("UPDATE orders SET id = 1", "this is UPDATE"),
        ("SELECT 1; DROP TABLE orders", "it has 2 statements"),
        ("-- nothing", "it has 0 statements"),
        ("WITH gone AS (SELECT 1) DELETE FROM orders", r"this is a WITH \.\.\. DELETE"),
        ("SHOW TABLES", "this is SHOW"),
        ("EXPLAIN SELECT 1", "this is EXPLAIN"),
        ("orders", "this is ORDERS"),
    ],
)
def test_what_is_not_one_select_is_refused_when_the_dag_is_parsed(query: str, message: str) -> None:
    with pytest.raises(PlanError, match=rf"SqlSource\.query=.*{message}"):
        SqlSource(query=query, conn_id="shop", key="id")


def test_a_template_is_checked_when_it_is_rendered() -> None:
    it = SqlSource(query="{{ params.query }}", conn_id="shop", key="id")
    assert "query" in it.template_fields
    it.query = "DROP TABLE orders"

    with pytest.raises(PlanError, match="this is DROP"):
        it.prepare()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"SqlSource\.table=None: name a table or view, or give query="),
        ({"table": "a", "query": "SELECT 1"}, r"SqlSource\.table='a': query= names its tables itself"),
        ({"schema": "a", "query": "SELECT 1"}, r"SqlSource\.schema='a': query= names its tables itself"),
    ],
)
def test_a_table_or_a_query(options: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        SqlSource(conn_id="shop", key="id", **options)


def test_the_text_is_part_of_the_load() -> None:
    first, second = (SqlSource(query=f"SELECT {each} AS id", conn_id="shop", key="id") for each in (1, 2))

    assert first.identity() != second.identity()
    assert first.identity().startswith("sql shop/query by id ")


def same(row: dict[str, Any]) -> dict[str, Any]:
    return row


def refuses_300(row: dict[str, Any]) -> dict[str, Any]:
    if row["id"] == 300:
        raise ValueError("not today")
    return row


def load(database: TestDatabase, it: SqlSource, function: Any = same, **options: Any) -> Any:
    sink = SinkTable("copies", conn_id="warehouse", schema=database.schema, write_disposition="merge", primary_key="id")
    given = {"chunk_size": 30, "max_in_flight": 30, "load_key": "once", "ordered": False, **options}
    return Pipeline(it, [Stage(function)], sink, **given)


@on_databases_with_ranges
def test_a_retry_reads_the_same_ranges(shop: TestDatabase) -> None:
    with pytest.raises(RunFailed, match="not today"):
        load(shop, source(shop, JOIN), refuses_300).run()

    report = load(shop, source(shop, JOIN)).run()

    assert report.items_skipped == 300
    assert [row[0] for row in shop.rows("copies", "id")] == list(range(ROWS))


@on_sqlite
def test_a_retry_refuses_other_rows(shop: TestDatabase) -> None:
    with pytest.raises(RunFailed, match="not today"):
        load(shop, source(shop, JOIN), refuses_300).run()
    shop.execute("DELETE FROM orders WHERE id = 310")

    with pytest.raises(RunFailed, match="100 rows in the first try, 99 now") as caught:
        load(shop, source(shop, JOIN)).run()
    assert isinstance(caught.value.__cause__, LoadMismatch)


@on_sqlite
def test_another_text_under_the_same_load_key_is_refused(shop: TestDatabase) -> None:
    with pytest.raises(RunFailed, match="not today"):
        load(shop, source(shop, JOIN), refuses_300).run()

    with pytest.raises(SinkFailed, match="was begun differently: source was"):
        load(shop, source(shop, JOIN + " WHERE o.id >= 0")).run()


@on_databases_with_ranges
def test_only_new_rows_of_a_query(shop: TestDatabase) -> None:
    query = "SELECT o.id AS id, o.day AS day FROM {orders} o WHERE o.id > :least"

    def run(key: str) -> Any:
        return load(shop, source(shop, query, since="day", parameters={"least": 9}), load_key=key).run()

    assert run("monday").items_read == ROWS - 10
    shop.execute(f"UPDATE {shop.place('orders')} SET day = '2026-02-01' WHERE id IN (5, 200)")
    last_day = sum(each % 28 == 27 for each in range(10, ROWS))

    assert run("tuesday").items_read == 1 + last_day


@on_databases_with_ranges
def test_shards_of_a_query(shop: TestDatabase) -> None:
    load(shop, source(shop, JOIN)).begin()
    reports = [load(shop, source(shop, JOIN)).run(shard=(index, 3)) for index in range(3)]
    whole = load(shop, source(shop, JOIN)).finish()

    assert [row[0] for row in shop.rows("copies", "id")] == list(range(ROWS))
    assert whole.items_read == sum(report.items_read for report in reports) == ROWS


@on_databases_with_ranges
def test_a_query_without_a_key(shop: TestDatabase) -> None:
    it = source(shop, "SELECT customer, day FROM {orders} WHERE id < 9", key=None)
    sink = ListSink()

    report = Pipeline(it, [], sink).run()

    assert len(sink.rows) == 9
    assert "sql warehouse/query by all columns" in report.warnings[0]


@on_sqlite
def test_an_error_of_the_database_names_the_source(shop: TestDatabase) -> None:
    with pytest.raises(SourceError, match=r"sql warehouse/query by id .*no such table"):
        source(shop, "SELECT id FROM missing").prepare()


VALUES = {
    "sqlite": (
        "CREATE TABLE {place} (id INTEGER PRIMARY KEY, at TIMESTAMP, price DECIMAL(9,3), doc JSON, ok BOOLEAN)",
        """INSERT INTO {place} VALUES (1, '2026-01-02 03:04:05', 1.5, '{{"a": 1.50}}', 1)""",
        "SELECT *, id + 1 AS more, price * 2 AS twice FROM {place}",
        [1, datetime.fromisoformat("2026-01-02 03:04:05"), Decimal("1.500"), JsonText('{"a": 1.50}'), True, 2, 3.0],
    ),
    "postgres": (
        """CREATE TABLE {place} (id BIGINT, at TIMESTAMP, price NUMERIC(9,3), doc JSON, ok BOOLEAN, r INT4RANGE,
        t TEXT[], i INTERVAL, d DATE)""",
        """INSERT INTO {place} VALUES (1, '2026-01-02 03:04:05', 1.5, '{{"a": 1.50}}', true, '[1,3)', '{{a,b}}',
        '36:00:00', 'infinity')""",
        "SELECT id, at, price, doc, ok, r, t, CAST(i AS TEXT) AS i FROM {place}",
        [1, datetime.fromisoformat("2026-01-02 03:04:05"), Decimal("1.500"), JsonText('{"a": 1.50}'), True, "[1,3)",
         ["a", "b"], "36:00:00"],
    ),
    "mariadb": (
        """CREATE TABLE {place} (id BIGINT, at DATETIME(3), price DECIMAL(9,3), f FLOAT, d DOUBLE, b BINARY(3), t TEXT,
        e ENUM('z', 'a'))""",
        "INSERT INTO {place} VALUES (1, '2026-01-02 03:04:05.123', 1.5, 0.1, 1e-12, 'abc', 'text', 'a')",
        "SELECT * FROM {place}",
        [1, datetime.fromisoformat("2026-01-02 03:04:05.123"), Decimal("1.500"), 0.1, 1e-12, b"abc", "text", "a"],
    ),
}  # fmt: skip
VALUES["postgres-psycopg2"] = VALUES["postgres"]


@on_databases_with_ranges
def test_values_are_those_of_a_table(shop: TestDatabase) -> None:
    create, insert, query, expected = VALUES[shop.name]
    place = shop.place("kinds")
    shop.execute(create.format(place=place), insert.format(place=place))

    (row,) = source(shop, query.format(place=place))

    assert list(row.values()) == expected
    assert [type(value) for value in row.values()] == [type(value) for value in expected]
    in_table = next(iter(SqlSource("kinds", conn_id="warehouse", schema=shop.schema, key=None)))
    assert {name: value for name, value in row.items() if name in in_table and name != "i"} == {
        name: value for name, value in in_table.items() if name in row and name != "i"
    }


@pytest.mark.parametrize("database", [pytest.param("mariadb", marks=pytest.mark.slow)], indirect=True)
def test_an_enum_as_the_key_is_sorted_as_it_is_compared(shop: TestDatabase) -> None:
    """The server sorts it by number, so that ranges of it as it stands would lose rows."""
    names = [f"{each:03}" for each in range(250)]
    place = shop.place("sizes")
    words = ", ".join(f"'{name}'" for name in reversed(names))
    shop.execute(
        f"CREATE TABLE {place} (size ENUM({words}))",
        f"INSERT INTO {place} VALUES {', '.join(f'({name!r})' for name in names)}",
    )

    assert [row["size"] for row in source(shop, f"SELECT size FROM {place}", key="size")] == names
