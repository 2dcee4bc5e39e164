"""What a pipeline leaves for others to follow: lineage of its tables, links to them."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_parallel_provider import ListSink, ParallelPipelineOperator, SinkTable
from airflow_parallel_provider.bridge.lineage import lineage_of
from airflow_parallel_provider.bridge.links import DeadLettersLink, SinkTableLink, table_url

pytestmark = pytest.mark.airflow

COLUMNS = {"id": int, "price": "decimal(18,4)"}


@pytest.fixture(autouse=True)
def connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", "postgres://user:pw@127.0.0.1:1/sales")
    monkeypatch.setenv("AIRFLOW_CONN_ODD", "http://example.com")


def operator(sink: Any, source: Any = (1, 2)) -> Any:
    return ParallelPipelineOperator(task_id="load", source=list(source), stages=[], sink=sink)


def test_table_is_told_with_columns_and_rows() -> None:
    task = operator(SinkTable("orders", conn_id="warehouse", schema="shop", columns=COLUMNS))
    task._summary = {"rows_committed": 42}

    told = task.get_openlineage_facets_on_complete(None)

    (output,) = told.outputs
    assert (output.namespace, output.name) == ("postgres://127.0.0.1:1", "sales.shop.orders")
    assert output.outputFacets["outputStatistics"].rowCount == 42
    assert [field.name for field in output.facets["schema"].fields] == ["id", "price"]
    assert "pw" not in repr(told)


def test_database_that_does_not_answer_leaves_the_schema_out() -> None:
    (output,) = lineage_of([1], SinkTable("orders", conn_id="warehouse"), None).outputs

    assert output.name == "sales.orders"
    assert output.outputFacets == {}


def test_connection_without_lineage_still_names_the_table() -> None:
    (output,) = lineage_of([1], SinkTable("orders", conn_id="odd"), {"rows_committed": 0}).outputs

    assert (output.namespace, output.name) == ("airflow://odd", "orders")


def test_source_that_is_a_table_is_an_input() -> None:
    source = SinkTable("raw", conn_id="warehouse", schema="shop")  # has what counts: a table and a connection

    told = lineage_of(source, ListSink(), {})

    assert [each.name for each in told.inputs] == ["sales.shop.raw"]
    assert told.outputs == []


def test_nothing_is_told_of_what_is_no_table() -> None:
    assert lineage_of([1, 2], ListSink(), {}) is None


# -- links ------------------------------------------------------------------------------------------------------------

TEMPLATE = "https://console.example.com/{conn_id}/{schema}/{table}"


@pytest.mark.parametrize(
    ("link", "address"),
    [(SinkTableLink(), "warehouse/shop/or%20ders"), (DeadLettersLink(), "warehouse/shop/or%20ders__dead_letters")],
)
def test_links_lead_to_the_tables(monkeypatch: pytest.MonkeyPatch, link: Any, address: str) -> None:
    monkeypatch.setenv("AIRFLOW__PARALLEL_PIPELINE__TABLE_URL", TEMPLATE)
    task = operator(SinkTable("or ders", conn_id="warehouse", schema="shop"))

    assert link.get_link(task, ti_key=None) == f"https://console.example.com/{address}"


def test_no_link_without_a_template_a_table_or_a_place_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    task = operator(SinkTable("orders", conn_id="warehouse", dead_letters=None))
    assert SinkTableLink().get_link(task, ti_key=None) == ""

    monkeypatch.setenv("AIRFLOW__PARALLEL_PIPELINE__TABLE_URL", TEMPLATE)
    assert DeadLettersLink().get_link(task, ti_key=None) == ""
    assert SinkTableLink().get_link(operator(ListSink()), ti_key=None) == ""
    assert table_url("https://x/{nothing}", {"table": "t"}) == ""
