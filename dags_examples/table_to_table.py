"""The paid orders of a shop's table, converted to one currency, into a second table for reports.

::

    ranges of orders.id (4 read at a time) ──> in_euro (threads) -> table orders_in_euro

The source walks the key once and reads the table in ranges of it, never with OFFSET. Orders that arrive meanwhile have
higher ids and belong to the next run. A retry reads the same ranges, and skips the committed chunks.

Needs: a connection ``shop_db`` of any SQL database with a table ``orders`` (``id`` primary key, ``status``,
``currency``, ``amount``, ``paid_at``); ``make ui`` has a small one. Tested with PostgreSQL and SQLite.
"""

from decimal import Decimal
from typing import Any

from airflow.sdk import Param, dag

from airflow_parallel_provider import SinkTable, SqlSource, TableToTableOperator

EURO_FOR_ONE = {"EUR": Decimal(1), "USD": Decimal("0.92"), "SEK": Decimal("0.088")}
"""The value of one unit of each currency."""

Row = dict[str, Any]


def in_euro(order: Row) -> Row:
    """The order with its amount in euro.

    :raises KeyError: for an unknown currency.
    """
    amount = Decimal(order["amount"]) * EURO_FOR_ONE[order["currency"]]  # SQLite stores exact amounts as texts
    return {"order_id": order["id"], "euro": round(amount, 2), "paid_at": order["paid_at"]}


@dag(
    schedule=None,
    catchup=False,
    tags=["example", "parallel"],
    doc_md=__doc__,
    params={"status": Param("paid", type="string")},
)
def table_to_table() -> None:
    """Copy the orders."""
    TableToTableOperator(
        task_id="copy_orders",
        source=SqlSource(
            "orders",
            conn_id="shop_db",
            key="id",
            columns=["id", "currency", "amount", "paid_at"],
            where="status = :status",
            parameters={"status": "{{ params.status }}"},
        ),
        transform=in_euro,
        sink=SinkTable(
            "orders_in_euro",
            conn_id="shop_db",
            write_disposition="merge",
            primary_key=["order_id"],
        ),
        chunk_size=1_000,
        tolerance=0.001,
    )


table_to_table()
