"""Aggregates of a load: kept with each chunk, merged when they are read, shown in the report."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import random
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from airflow_parallel_provider import Pipeline, RunFailed, SinkTable, Stage
from airflow_parallel_provider.errors import LoadMismatch, RowsRejected, SchemaMismatch
from airflow_parallel_provider.sinks.aggregates.declare import Aggregate
from airflow_parallel_provider.sinks.aggregates.report_view import report_view
from tests.support.children import Child, killing_hook
from tests.support.databases import OWN, SPEC, SqliteDatabase, TestDatabase, on_each_database, on_two_databases
from tests.support.turns import in_turn

pytestmark = pytest.mark.airflow
OWN_BACKENDS = pytest.mark.parametrize("database", OWN, indirect=True)
WANTED = {
    "orders": "count",
    "revenue": "sum(price)",
    "cheapest": "min(price)",
    "mean": "mean(price)",
    "spread": "variance(price)",
    "half": "quantiles(price, 0.5)",
    "buyers": "distinct(buyer)",
    "last": "max(day)",
    "by_buyer": "sum(price) by buyer",
}


def orders(chunk: int, size: int = 20) -> list[dict[str, Any]]:
    draw = random.Random(chunk)
    return [
        {
            "id": chunk * size + at,
            "price": Decimal(draw.randint(1, 9999)) / 100,
            "buyer": draw.choice(["ann", "bob", "café", None]),
            "day": date(2026, 11, draw.randint(1, 30)),
        }
        for at in range(size)
    ]


def expected(chunks: int) -> dict[str, Any]:
    rows = [row for chunk in range(chunks) for row in orders(chunk)]
    buyers = sorted({row["buyer"] for row in rows}, key=str)
    return {
        "orders": len(rows),
        "revenue": sum(row["price"] for row in rows),
        "cheapest": min(row["price"] for row in rows),
        "buyers": 3,
        "last": max(row["day"] for row in rows),
        "by_buyer": {buyer: sum(row["price"] for row in rows if row["buyer"] == buyer) for buyer in buyers},
    }


def attempt(database: TestDatabase, number: int, cls: Any = None, chunks: int = 4) -> dict[str, Any]:
    with database.hook(cls=cls, aggregates=WANTED) as hook:
        done = hook.open(dataclasses.replace(SPEC, attempt=number))
        for chunk in range(chunks):
            if f"{chunk:08d}" not in done:
                hook.write_chunk(f"{chunk:08d}", orders(chunk), first_position=chunk * 20)
        found: dict[str, Any] = hook.aggregates()
        return found


@on_each_database
def test_aggregates_are_those_of_all_rows(database: TestDatabase) -> None:
    found = attempt(database, 1)

    assert {name: found[name] for name in expected(4)} == expected(4)
    assert float(found["mean"]) == pytest.approx(float(expected(4)["revenue"]) / 80)
    assert found["half"]["0.5"] == pytest.approx(50, rel=0.5)
    with database.hook(aggregates=WANTED) as hook:
        assert hook.aggregates("nightly") == found
        assert hook.aggregates("never heard of")["orders"] == 0


@pytest.mark.parametrize("point", ["after_claim", "after_rows", "before_commit", "after_commit"])
@OWN_BACKENDS
@in_turn("mariadb", "duckdb", "postgres-psycopg2")
def test_no_retry_counts_twice(database: TestDatabase, point: str) -> None:
    Child(lambda: attempt(database, 1, killing_hook(2, point))).wait()

    found = attempt(database, 2)

    assert {name: found[name] for name in expected(4)} == expected(4)


@on_two_databases
def test_rejected_rows_are_in_no_aggregate(database: TestDatabase) -> None:
    database.execute(f"CREATE TABLE {database.place('scores')} (id INTEGER NOT NULL PRIMARY KEY, price FLOAT)")
    wanted = {"n": "count", "sum": "sum(price)"}
    with database.opened(aggregates=wanted, validate=lambda row: row["price"] != 9, max_rejected=9) as hook:
        rows = [{"id": 1, "price": 1.5}, {"id": 2, "price": 9}, {"id": 1, "price": 4.0}, {"id": 3, "price": 2.5}]
        hook.write_chunk("00000000", rows)
        assert hook.aggregates() == {"n": 2, "sum": 4.0}


@on_two_databases
def test_aggregate_of_a_column_that_has_none_is_refused(database: TestDatabase) -> None:
    complaint = r"aggregates\['sum'\]: sum\(name\) cannot take values of type str"
    with database.opened(aggregates={"sum": "sum(name)"}) as hook, pytest.raises(SchemaMismatch, match=complaint):
        hook.write_chunk("00000000", [{"name": "secret"}])


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_values_without_an_order_are_refused(database: TestDatabase) -> None:
    complaint = r"aggregates\['least'\]: min\(at\) cannot take values of type "
    with database.opened(aggregates={"least": "min(at)"}) as hook:
        with pytest.raises(SchemaMismatch, match=complaint + "dict, which have no order"):
            hook.write_chunk("00000000", [{"at": {"secret": 1}}])
        hook.write_chunk("00000000", [{"at": '["secret"]'}])
        hook.write_chunk("00000001", [{"at": 5}], first_position=100)
        with pytest.raises(SchemaMismatch, match=complaint + r"int and str.*different chunks.*use another load_key"):
            hook.aggregates()


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_integers_that_no_float_holds_are_infinite_in_aggregates(database: TestDatabase) -> None:
    wanted = {"sum": "sum(n)", "mean": "mean(n)", "spread": "variance(n)", "half": "quantiles(n, 0.5)"}
    with database.opened(aggregates=wanted) as hook:
        hook.write_chunk("00000000", [{"n": 10**400}, {"n": -1}])
        found = hook.aggregates()

    assert (found["sum"], found["mean"], found["half"]) == (10**400 - 1, math.inf, {"0.5": pytest.approx(-1, rel=0.01)})
    assert math.isnan(found["spread"])


@on_two_databases
def test_another_declaration_is_another_load(database: TestDatabase) -> None:
    with database.opened(aggregates={"n": "count"}) as hook:
        hook.write_chunk("00000000", [{"id": 1}])
    with database.hook(aggregates={"n": "count(id)"}) as hook, pytest.raises(LoadMismatch, match=r"aggregates was"):
        hook.open(SPEC)


@on_two_databases
def test_no_aggregates_no_cost(database: TestDatabase) -> None:
    with database.opened() as hook:
        hook.write_chunk("00000000", [{"id": 1}])
        assert hook.aggregates() == {}

    assert database.rows("airflow_parallel_ledger", "aggregates") == [(None,)]


@pytest.fixture
def warehouse(sqlite: SqliteDatabase, monkeypatch: pytest.MonkeyPatch) -> SqliteDatabase:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", f'{{"conn_type": "sqlite", "host": "{sqlite.path}"}}')
    return sqlite


def order(number: int) -> Any:
    for row in orders(number, 2):
        yield {**row, "price": float(row["price"]), "good": number % 10 != 7}


def good(row: dict[str, Any]) -> Any:
    if not row["good"]:
        raise ValueError(f"secret {row['price']}")


def pipeline(tolerance: float, **options: Any) -> Pipeline:
    sink = SinkTable("scores", conn_id="warehouse", validate=good, aggregates=WANTED, **options)
    return Pipeline(range(50), [Stage(order)], sink, chunk_size=8, tolerance=tolerance, load_key="nightly")


def test_report_shows_aggregates_and_rejected_rows(warehouse: SqliteDatabase, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        report = pipeline(10).run()

    assert report.rows_rejected == 10
    assert report.rows_committed == 90
    assert report.rows_committed + report.rows_rejected == report.stages[-1].items_out
    assert report.items_read == report.items_committed == 50
    assert [(each["stage"], each["count"]) for each in report.failures] == [("sink", 10)]
    assert report.failures[0]["cause"].startswith("ValueError (test_load_aggregates.py:")
    assert report.aggregates["orders"] == 90
    assert set(report.aggregates["by_buyer"]) == {"None", "ann", "bob", "café"}
    json.dumps(report.as_dict(), allow_nan=False)
    text = str(report)
    assert "10 rows rejected" in text
    assert "by_buyer  None: " in text
    assert "secret" not in text
    assert "secret" not in caplog.text
    assert warehouse.rows("scores__rejected", "DISTINCT position") == [(7,), (17,), (27,), (37,), (47,)]


def test_rejected_rows_count_against_the_tolerance_in_all_tries(warehouse: SqliteDatabase) -> None:
    for _ in range(2):
        with pytest.raises(RunFailed, match="rows were rejected") as raised:
            pipeline(7).run()
        assert isinstance(raised.value.__cause__, RowsRejected)
        assert "secret" not in str(raised.value)

    assert len(warehouse.rows("scores__rejected")) == 6
    assert pipeline(0.2).run().state == "success"
    assert len(warehouse.rows("scores__rejected")) == 10


def test_max_rejected_is_a_limit_of_its_own(warehouse: SqliteDatabase) -> None:
    with pytest.raises(RunFailed, match="rows were rejected"):
        pipeline(1.0, max_rejected=9).run()


def test_aggregates_in_the_report_are_small_and_plain() -> None:
    many = {number: number / 2 for number in range(500)}
    shown = report_view({f"f{n}": many for n in range(20)} | {"x": float("nan"), "d": Decimal("1.50"), "t": date.max})

    assert len(json.dumps(shown, allow_nan=False)) < 6000
    assert shown["f0"]["(not shown)"] == 490
    assert (shown["x"], shown["d"], shown["t"]) == (None, "1.50", "9999-12-31")


def test_declared_aggregates_survive_a_copy() -> None:
    one = SinkTable("t", conn_id="c", aggregates={"n": Aggregate("count", by="x")})

    assert dataclasses.replace(one, table="u").declared_aggregates == one.declared_aggregates  # type: ignore[type-var]  # not a dataclass, but like one
    assert hash(one) == hash(dataclasses.replace(one))  # type: ignore[type-var]
