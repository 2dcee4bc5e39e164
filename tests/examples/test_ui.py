"""`make ui`: every example runs there as it is, with nothing to be set up.

Slow but for its shop: ``test_dags.py`` and ``test_ready_dags.py`` run each example without a scheduler.
"""

from __future__ import annotations

import asyncio
import re
import signal
import sqlite3
from contextlib import closing
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from dev import shop
from dev.airflow_client import AirflowClient
from dev.local_airflow import START_TIMEOUT
from tests.examples.conftest import FILES
from tests.support.programs import Program

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]
slow = pytest.mark.slow  # an Airflow of its own takes a minute of the processor

LESS = {"nyc_flights": {"days": 5}, "image_inference": {"images": 200}}
"""What makes the large examples small."""

PACKAGES = ("asyncio", "unittest", "email", "multiprocessing", "importlib", "xml", "json")
"""Enough source code for one file in a hundred to be broken."""


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    home = tmp_path_factory.mktemp("ui")
    env = {"SOURCE_CODE_ROOTS": ":".join(str(Path(asyncio.__file__).parents[1] / name) for name in PACKAGES)}
    with Program("dev.ui", home, "--port", "0", env=env) as program:
        program.read_until("Airflow is ready", START_TIMEOUT + 60)
        yield program
        program.process.send_signal(signal.SIGINT)
        assert "Airflow has ended." in program.read_until(None, 40)
        assert program.process.wait(10) == 0
        assert program.still_there() == []


@pytest.fixture(scope="module")
def client(ui: Program) -> Iterator[AirflowClient]:
    found = re.search(r"Airflow is ready: (http://\S+)", ui.output)
    assert found is not None
    made = AirflowClient(found[1], timeout=60)
    made.log_in()
    yield made
    made.close()


def run(client: AirflowClient, example: str) -> str:
    """Run an example; return the state it ended in."""
    run_id = client.trigger(example, conf=LESS.get(example, {}))
    return client.wait_for_run(example, run_id, timeout=400)


def query(file: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute(sql).fetchall()


LOOKED_AT = {"api_to_table", "table_to_table"}


@slow
@pytest.mark.parametrize("name", sorted({file.stem for file in FILES} - LOOKED_AT))
def test_example_succeeds(client: AirflowClient, name: str) -> None:
    assert run(client, name) == "success"


@slow
def test_orders_of_the_shops_pages_are_in_the_table(ui: Program, client: AirflowClient) -> None:
    assert run(client, "api_to_table") == "success"

    orders = shop.orders_of(date(2026, 11, 20))

    rows = query(ui.home / "examples.db", "SELECT order_id, line, quantity FROM order_lines ORDER BY 1, 2")

    assert rows == [
        (order["id"], number, line["quantity"])
        for order in orders
        for number, line in enumerate(order["lines"], start=1)
    ]
    dead_letters = query(ui.home / "examples.db", "SELECT cause FROM order_lines__dead_letters")
    assert [cause.partition(" (")[0] for (cause,) in dead_letters] == ["ValueError: an order without lines"]


@slow
def test_orders_of_the_shops_table_are_priced_next_to_it(ui: Program, client: AirflowClient) -> None:
    assert run(client, "table_to_table") == "success"

    rates = {"EUR": Decimal(1), "USD": Decimal("0.92"), "SEK": Decimal("0.088")}
    file = ui.home / "shop.db"
    paid = query(file, "SELECT id, currency, amount FROM orders WHERE status = 'paid' AND currency <> 'XXX' ORDER BY 1")

    rows = query(file, "SELECT order_id, euro FROM orders_in_euro ORDER BY 1")

    assert len(rows) == 3_333
    assert [(number, Decimal(str(euro))) for number, euro in rows] == [
        (number, round(Decimal(amount) * rates[currency], 2)) for number, currency, amount in paid
    ]


# -- the shop ------------------------------------------------------------------------------------------------------


def test_shop_gives_pages_and_is_busy_now_and_then() -> None:
    with shop.serving() as connection:
        port = re.search(r'"port": (\d+)', connection)
        assert port is not None
        with httpx.Client(base_url=f"http://127.0.0.1:{port[1]}", trust_env=False) as client:
            answers = [
                client.get("/v1/orders", params={"day": "2026-11-20", "page": page, "per_page": 100})
                for page in range(1, shop.BUSY_EVERY + 1)
            ]
            wrong = [client.get("/v1/orders", params={"day": "today"}), client.get("/v2")]

    assert [len(each.json()["data"]) for each in answers[:-1]] == [100, 100, 30, 0, 0, 0, 0, 0]
    assert (answers[-1].status_code, answers[-1].headers["Retry-After"]) == (503, "1")
    assert [each.status_code for each in wrong] == [400, 404]
