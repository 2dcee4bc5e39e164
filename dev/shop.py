"""The external services of the example DAGs: a web shop's HTTP API and its database."""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import closing, contextmanager
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ORDERS_A_DAY = 230
WITHOUT_LINES = 77
"""Number of the order without lines, one each day; the example counts it as failed."""
BUSY_EVERY = 9
"""For one of so many requests the shop is busy for a second."""
ORDERS = 5_000
"""Orders in the table."""


def orders_of(day: date) -> list[dict[str, Any]]:
    """The orders of a day, always the same ones; other days have other ids."""
    return [_order(day.toordinal() * 1_000 + number, number) for number in range(1, ORDERS_A_DAY + 1)]


def _order(order_id: int, number: int) -> dict[str, Any]:
    lines = [
        {"sku": f"A{(number + line) % 40}", "quantity": 1 + (number * line) % 4, "price": f"{number % 90 + line}.90"}
        for line in range(1, number % 3 + 2)
    ]
    return {"id": order_id, "customer": f"customer {number % 30}", "lines": [] if number == WITHOUT_LINES else lines}


def respond(path: str, query: dict[str, str]) -> tuple[int, Any]:
    """Status and body for one request: a page of the orders of a day.

    :param query: ``day``, ``page`` (from 1) and ``per_page``.
    """
    if path != "/v1/orders":
        return 404, {"error": f"{path} does not exist"}
    try:
        day, page, size = date.fromisoformat(query["day"]), int(query["page"]), int(query["per_page"])
    except (KeyError, ValueError) as error:
        return 400, {"error": f"day, page and per_page are needed: {error}"}
    return 200, {"data": orders_of(day)[(page - 1) * size : page * size]}


@contextmanager
def serving() -> Iterator[str]:
    """Serve the shop's API on a free port of this machine; yields the Airflow connection as JSON text."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler())
    server.daemon_threads = True
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.1), name="shop", daemon=True)
    thread.start()
    try:
        yield json.dumps({"conn_type": "http", "host": "127.0.0.1", "port": server.server_address[1]})
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def _handler() -> type[BaseHTTPRequestHandler]:
    lock, requests = threading.Lock(), iter(range(1, 1 << 62))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            with lock:
                busy = next(requests) % BUSY_EVERY == 0
            status, body = (503, {}) if busy else respond(parts.path, dict(parse_qsl(parts.query)))
            content = json.dumps(body).encode()
            self.send_response(status)
            if busy:
                self.send_header("Retry-After", "1")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Log nothing: the terminal shows the output of ``make ui``."""

    return Handler


def make_database(file: Path) -> str:
    """Create the shop's SQLite database if it does not exist; return the Airflow connection as JSON text.

    Amounts are texts, since SQLite has no exact decimal numbers. One order has an unknown currency.
    """
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("PRAGMA journal_mode = WAL")  # the example reads and writes at the same time
        connection.execute(
            "CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, status TEXT NOT NULL, currency TEXT NOT NULL, "
            "amount TEXT NOT NULL, paid_at TEXT)"
        )
        connection.executemany("INSERT OR IGNORE INTO orders VALUES (?, ?, ?, ?, ?)", map(_row, range(1, ORDERS + 1)))
    return json.dumps({"conn_type": "sqlite", "host": str(file)})


def _row(number: int) -> tuple[int, str, str, str, str | None]:
    paid = number % 3 != 0
    currency = "XXX" if number == 1_000 else ("EUR", "USD", "SEK")[number % 4 % 3]
    at = f"2026-11-{number % 20 + 1:02d} {number % 24:02d}:00:00" if paid else None
    return number, "paid" if paid else "open", currency, f"{number % 700}.{number % 100:02d}", at
