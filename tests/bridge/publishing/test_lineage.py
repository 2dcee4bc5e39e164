"""What a pipeline leaves for others to follow: lineage of its tables, links to them."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
from openlineage.client.serde import Serde

from airflow_parallel_provider import ListSink, ParallelPipelineOperator, Pipeline, SinkDelta, SinkTable, SqlSource
from airflow_parallel_provider.bridge.links import DeadLettersLink, SinkTableLink, table_url
from airflow_parallel_provider.bridge.publishing.lineage import lineage_of, sum_of_runs
from tests.support.lakes import Lake, iceberg_table

pytestmark = pytest.mark.airflow

COLUMNS = {"id": int, "price": "decimal(18,4)"}


@pytest.fixture(autouse=True)
def connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", "postgres://user:pw@127.0.0.1:1/sales")
    monkeypatch.setenv("AIRFLOW_CONN_ODD", "http://example.com")


def operator(sink: Any, source: Any = (1, 2)) -> Any:
    return ParallelPipelineOperator(task_id="load", source=list(source), stages=[], sink=sink)


def test_table_is_reported_with_columns_and_rows() -> None:
    task = operator(SinkTable("orders", conn_id="warehouse", schema="shop", columns=COLUMNS))
    task._keep_outcome({"rows_committed": 42})

    told = task.get_openlineage_facets_on_complete(None)

    (output,) = told.outputs
    assert (output.namespace, output.name) == ("postgres://127.0.0.1:1", "sales.shop.orders")
    assert output.outputFacets["outputStatistics"].rowCount == 42
    assert [field.name for field in output.facets["schema"].fields] == ["id", "price"]
    assert "pw" not in repr(told)


def test_delta_table_is_reported_with_its_version(tmp_path: Path) -> None:
    pytest.importorskip("deltalake")
    sink = SinkDelta(str(tmp_path))
    Pipeline([{"id": 1}], [], sink, load_key="one").run()

    (output,) = lineage_of([1], sink, {"rows_committed": 1}).outputs

    assert (output.namespace, output.name) == ("file", str(tmp_path))
    assert output.facets["version"].datasetVersion == "0"
    assert output.outputFacets["outputStatistics"].rowCount == 1
    (before,) = lineage_of([1], SinkDelta("s3a://aws@lake/a/orders/"), None).outputs
    assert (before.namespace, before.name, before.facets) == ("s3://lake", "a/orders", {})


def test_iceberg_table_is_reported_with_its_snapshot(tmp_path: Path) -> None:
    pytest.importorskip("pyiceberg")
    lake = Lake("iceberg", tmp_path / "table")
    sink = lake.sink()
    Pipeline([{"id": 1}], [], sink, load_key="one").run()

    (output,) = lineage_of([1], sink, {"rows_committed": 1}).outputs

    assert (output.namespace, output.name) == ("iceberg://lake", "shop.orders")
    assert output.facets["version"].datasetVersion == str(iceberg_table(lake.path).current_snapshot().snapshot_id)


def test_database_that_does_not_answer_leaves_the_schema_out() -> None:
    (output,) = lineage_of([1], SinkTable("orders", conn_id="warehouse"), None).outputs

    assert output.name == "sales.orders"
    assert output.outputFacets == {}


def test_connection_without_lineage_still_names_the_table() -> None:
    (output,) = lineage_of([1], SinkTable("orders", conn_id="odd"), {"rows_committed": 0}).outputs

    assert (output.namespace, output.name) == ("airflow://odd", "orders")


def test_namespace_of_a_service_without_an_address_is_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """BigQuery is one."""
    from airflow.providers.openlineage.sqlparser import DatabaseInfo
    from airflow.providers.postgres.hooks.postgres import PostgresHook

    monkeypatch.setattr(PostgresHook, "get_openlineage_database_info", lambda *_: DatabaseInfo(scheme="bigquery"))
    (output,) = lineage_of([1], SinkTable("orders", conn_id="warehouse"), {"rows_committed": 0}).outputs

    assert output.namespace == "bigquery"


def test_dead_letters_and_counts_of_the_run_are_reported_without_items() -> None:
    cause = {"stage": "check", "cause": "ValueError: no price", "count": 3, "sample": {"item": "'alice'"}}
    figures = {
        "state": "failed", "items_read": 50, "items_dead_lettered": 3, "rows_committed": 40, "failures": [cause] * 20,
    }  # fmt: skip

    told = lineage_of([1], SinkTable("orders", conn_id="warehouse", columns=COLUMNS), figures)

    table, dead_letters = told.outputs
    assert (dead_letters.name, dead_letters.outputFacets["outputStatistics"].rowCount) == (
        "sales.orders__dead_letters",
        3,
    )
    assert table.outputFacets["outputStatistics"].rowCount == 40
    facet = told.run_facets["parallelPipeline"]
    assert (facet.state, facet.counts["items_read"], len(facet.failures)) == ("failed", 50, 10)
    assert "alice" not in repr(told)
    assert Serde.to_json(told.run_facets)


def test_columns_that_nobody_declared_are_those_of_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "shop.db"
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", json.dumps({"conn_type": "sqlite", "host": str(file)}))
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, price NUMERIC, note TEXT)")
    source = SqlSource("orders", conn_id="shop", key="id", columns=["id", "price"])

    told = lineage_of(source, SinkTable("orders", conn_id="shop"), {"rows_committed": 1})
    nothing_in = lineage_of([1], SinkTable("orders", conn_id="shop"), {"rows_committed": 0})

    def names(dataset: Any) -> list[str]:
        return [field.name for field in dataset.facets["schema"].fields]

    assert names(told.outputs[0]) == ["id", "price", "note"]
    assert names(told.inputs[0]) == ["id", "price"]
    assert nothing_in.outputs[0].facets == {}, "a run that failed for its database must not ask it again"
    assert [each.path for each in psutil.Process().open_files() if each.path == str(file)] == []


def test_several_runs_of_a_replay_are_added_up() -> None:
    runs = [{"state": "success", "rows_committed": 3, "failures": [{"count": 1}]}, {"state": "failed"}]

    told = sum_of_runs(runs)

    assert told is not None
    assert (told["rows_committed"], told["state"], len(told["failures"])) == (3, "failed", 1)
    assert sum_of_runs([]) is None


def test_source_that_is_a_table_is_an_input() -> None:
    source = SinkTable("raw", conn_id="warehouse", schema="shop")  # has what counts: a table and a connection

    told = lineage_of(source, ListSink(), {})

    assert [each.name for each in told.inputs] == ["sales.shop.raw"]
    assert told.outputs == []


def test_nothing_is_reported_of_what_is_no_table() -> None:
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
