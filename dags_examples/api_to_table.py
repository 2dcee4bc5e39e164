"""The orders of one day from a web shop's HTTP API, one row per order line.

::

    pages 1, 2, 3 ... of /v1/orders (4 at a time) ──> lines_of (threads) -> table order_lines

The source requests pages until one is empty, at most twenty per second. When the server is busy it requests the page
again, but not before the time in ``Retry-After``. An order without lines fails; ``tolerance`` allows one in a hundred.

Needs: an HTTP connection ``shop_api`` and a SQLite connection ``examples_db``; ``make ui`` has both. The API returns
pages such as ``{"data": [{"id": 7, "customer": "ada", "lines": [{"sku": "A1", "quantity": 2, "price": "9.90"}]}]}``.
"""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from airflow.sdk import Param, dag

from airflow_parallel_provider import HttpPagesSource, ParallelPipelineOperator, SinkTable, Stage

Row = dict[str, Any]


def lines_of(order: Row) -> Iterator[Row]:
    """Yield a row for each line of an order.

    :raises ValueError: for an order without lines.
    """
    if not order["lines"]:
        raise ValueError("an order without lines")
    for number, line in enumerate(order["lines"], start=1):
        price = Decimal(line["price"])  # the API sends money as text: a float cannot represent 9.90
        yield {
            "order_id": order["id"],
            "line": number,
            "customer": order["customer"],
            "sku": line["sku"],
            "quantity": line["quantity"],
            "amount": price * line["quantity"],
        }


@dag(
    schedule=None,
    catchup=False,
    tags=["example", "parallel"],
    doc_md=__doc__,
    params={"day": Param("2026-11-20", type="string", format="date")},
)
def api_to_table() -> None:
    """Load the orders of a day."""
    ParallelPipelineOperator(
        task_id="load_orders",
        source=HttpPagesSource(
            "/v1/orders",
            conn_id="shop_api",
            items="data",
            parameters={"day": "{{ params.day }}", "sort": "id"},  # a retry must get them in the same order
            page_size=50,
            rate_limit=20,
        ),
        stages=[Stage(lines_of)],
        sink=SinkTable(
            "order_lines",
            conn_id="examples_db",
            write_disposition="merge",
            primary_key=["order_id", "line"],
            columns={
                "order_id": int,
                "line": int,
                "customer": str,
                "sku": str,
                "quantity": int,
                "amount": "decimal(12,2)",
            },
        ),
        chunk_size=200,  # orders: four pages in one transaction
        tolerance=0.01,
    )


api_to_table()
