"""The examples about ready sources and operators, on real servers: an HTTP API, files, PostgreSQL."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.examples.conftest import EXAMPLES, load_as_airflow_does
from tests.support.databases import PostgresDatabase
from tests.support.pages import Answer, serving

pytestmark = pytest.mark.airflow


def order(number: int) -> dict[str, Any]:
    lines = [{"sku": f"A{line}", "quantity": line, "price": f"{number}.{line}0"} for line in range(1, number % 3 + 2)]
    return {"id": number, "customer": f"customer {number % 5}", "lines": [] if number == 77 else lines}


def test_orders_of_an_api(bag: Any, database: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    orders = [order(number) for number in range(1, 431)]
    busy = threading.Event()

    def answer(path: str, query: dict[str, str]) -> Answer:
        assert (path, query["day"], query["sort"]) == ("/v1/orders", "2026-11-19", "id")
        if query["page"] == "3" and not busy.is_set():
            busy.set()
            return 503, {"Retry-After": "1"}, {}
        size = int(query["per_page"])
        start = (int(query["page"]) - 1) * size
        return 200, {}, {"data": orders[start : start + size]}

    with serving(answer) as pages:
        monkeypatch.setenv("AIRFLOW_CONN_SHOP_API", pages.connection)
        run = bag.dags["api_to_table"].test(run_conf={"day": "2026-11-19"})

    found = database.execute("SELECT order_id, line, customer, sku, quantity, amount FROM order_lines ORDER BY 1, 2")
    expected = [
        (each["id"], number, each["customer"], line["sku"], line["quantity"], Decimal(line["price"]) * line["quantity"])
        for each in orders
        for number, line in enumerate(each["lines"], start=1)
    ]
    assert str(run.state) == "success"
    assert [(*row[:5], Decimal(str(row[5]))) for row in found] == expected
    assert busy.is_set()
    dead_letters = database.execute("SELECT position, cause FROM order_lines__dead_letters").fetchall()
    assert [(position, "without lines" in cause) for position, cause in dead_letters] == [(76, True)]


def test_readings_of_a_month(
    bag: Any, database: sqlite3.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))

    run = bag.dags["files_to_table"].test()

    assert str(run.state) == "success"
    assert len(list((tmp_path / "readings").glob("*.csv.gz"))) == 30
    counted = database.execute("SELECT station, count(*), count(DISTINCT at) FROM weather GROUP BY 1 ORDER BY 1")
    assert counted.fetchall() == [("airport", 720, 720), ("harbor", 720, 720), ("hill", 570, 570)]
    assert database.execute("SELECT sum(items), count(*) FROM airflow_parallel_ledger").fetchone() == (
        30,
        1,
    )  # small files


def test_january_as_a_delta_table(bag: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deltalake = pytest.importorskip("deltalake")
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    monkeypatch.setattr(
        bag.dags["flights_to_delta"].task_dict["load_flights"].sink, "path", str(tmp_path / "flights_delta")
    )

    for _ in range(2):
        run = bag.dags["flights_to_delta"].test(run_conf={"months": 1})
        assert str(run.state) == "success"

    flights = deltalake.DeltaTable(tmp_path / "flights_delta").to_pyarrow_table()
    assert (flights.num_rows, set(flights["month"].to_pylist())) == (27_004, {1})
    assert deltalake.DeltaTable(tmp_path / "flights_delta").version() == 1


def test_january_as_an_iceberg_table(bag: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogs = pytest.importorskip("pyiceberg.catalog")
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    catalog = {
        "name": "lake",
        "type": "sql",
        "uri": f"sqlite:///{tmp_path}/iceberg-catalog.db",
        "warehouse": f"file://{tmp_path}/warehouse",
    }
    sink = bag.dags["flights_to_iceberg"].task_dict["load_flights"].sink
    monkeypatch.setattr(sink, "catalog", tuple(catalog.items()))

    for _ in range(2):
        run = bag.dags["flights_to_iceberg"].test(run_conf={"months": 1})
        assert str(run.state) == "success"

    table = catalogs.load_catalog(**catalog).load_table("nyc.flights")
    flights = table.scan().to_arrow()
    assert (flights.num_rows, set(flights["month"].to_pylist())) == (27_004, {1})
    assert [each.summary.operation.value for each in table.snapshots()] == ["append", "delete", "append"]


def test_reading_is_what_was_measured() -> None:
    module = load_as_airflow_does(EXAMPLES / "files_to_table.py")
    rows = [module.typed(row) for row in module.readings_of(date(2026, 6, 1))]

    assert rows[0] == {
        "station": "harbor",
        "at": datetime.fromisoformat("2026-06-01"),
        "celsius": pytest.approx(14.8, abs=0.05),
    }
    assert sum(row is module.DROP for row in rows) == 5


@pytest.fixture
def postgres() -> Iterator[PostgresDatabase]:
    """A schema with 2500 orders, a third of them not paid, one in an unknown currency."""
    made = PostgresDatabase()
    made.execute(
        f"CREATE TABLE {made.place('orders')} (id bigint PRIMARY KEY, status text NOT NULL, currency text NOT NULL, "
        "amount numeric(12,2) NOT NULL, paid_at timestamptz)",
        f"INSERT INTO {made.place('orders')} SELECT n * 2, CASE n % 3 WHEN 0 THEN 'open' ELSE 'paid' END, "
        "CASE WHEN n = 100 THEN 'XXX' ELSE (ARRAY['EUR', 'USD', 'SEK'])[n % 3 + 1] END, n / 4.0, "
        "timestamptz '2026-11-20 08:00+00' + n * interval '1 second' FROM generate_series(1, 2500) AS n",
    )
    yield made
    made.drop()


def test_orders_of_a_table(bag: Any, postgres: PostgresDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    found = postgres.connection
    parts = {name: getattr(found, name) for name in ("conn_type", "host", "port", "login", "password", "schema")}
    path = f'"{postgres.schema}"'.replace(" ", r"\ ")
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_DB", json.dumps({**parts, "extra": {"options": f"-csearch_path={path}"}}))

    run = bag.dags["table_to_table"].test()

    rate = "CASE currency WHEN 'EUR' THEN 1 WHEN 'USD' THEN 0.92 ELSE 0.088 END"
    expected = postgres.fetch(
        f"SELECT id, amount * {rate}, paid_at FROM {postgres.place('orders')} "
        "WHERE status = 'paid' AND currency <> 'XXX' ORDER BY id"
    )
    rows = postgres.rows("orders_in_euro", "order_id, euro, paid_at")
    assert str(run.state) == "success"
    assert len(rows) == len(expected) == 1666
    assert all(
        (one[0], one[2]) == (other[0], other[2]) and abs(one[1] - other[1]) <= Decimal("0.005")
        for one, other in zip(rows, expected, strict=True)
    )
    with closing(postgres.raw()) as raw:
        causes = raw.execute(f"SELECT cause FROM {postgres.place('orders_in_euro__dead_letters')}").fetchall()
    assert len(causes) == 1
    assert "KeyError: 'XXX'" in causes[0][0]


def test_each_tenant_has_a_pipeline_of_its_own(
    bag: Any, database: sqlite3.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files of one are broken: it fails alone, and the next run merges its rows among the others."""
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    counted = "SELECT tenant, count(*), count(DISTINCT meter || '/' || hour) FROM meter_readings GROUP BY 1 ORDER BY 1"

    failed = bag.dags["tenants_mapped"].test(run_conf={"meters": 30, "broken": 1})

    states = {each.map_index: str(each.state) for each in failed.get_task_instances() if each.task_id == "load"}
    assert states == {0: "success", 1: "success", 2: "failed"}
    assert [each for each in database.execute(counted) if each[0] != "west"] == [
        ("north", 720, 720),
        ("south", 720, 720),
    ]

    mended = bag.dags["tenants_mapped"].test(run_conf={"meters": 30, "broken": 0})

    assert str(mended.state) == "success"
    assert database.execute(counted).fetchall() == [(name, 720, 720) for name in ("north", "south", "west")]
