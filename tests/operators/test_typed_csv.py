"""CSV into tables that have types: what texts become there, and what an error says of the line."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_parallel_provider import FilesToTableOperator, ListSink, Pipeline, SinkTable, Stage
from tests.operators.test_ready_operators import Contexts, rows_of, run

pytestmark = pytest.mark.airflow


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A SQLite file, known to Airflow as ``warehouse``."""
    file = tmp_path / "warehouse.db"
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "sqlite", "host": str(file)}))
    return file


TYPED = "CREATE TABLE orders (id INTEGER, price DECIMAL(12,2), day DATE, paid BOOLEAN, note TEXT)"
CSV = "id,price,day,paid,note\n1,1.50,2026-12-01,true,\n2,,,no,x\n"


@pytest.fixture
def orders(warehouse: Path, tmp_path: Path) -> Path:
    """A table with types, and two files of CSV for it."""
    with closing(sqlite3.connect(warehouse)) as connection:
        connection.execute(TYPED)
    (tmp_path / "a.csv").write_text(CSV)
    (tmp_path / "b.csv").write_text('id,price,day,paid,note\n3,2,1999-12-31,1,"two\nlines"\n')
    return warehouse


def load_orders(tmp_path: Path, **options: Any) -> FilesToTableOperator:
    sink = SinkTable("orders", conn_id="warehouse", on_rerun="append", **options.pop("sink", {}))
    return FilesToTableOperator(task_id="load", files=f"{tmp_path}/*.csv", sink=sink, **options)


ORDERS = [
    (1, 1.5, "2026-12-01", 1, ""),
    (2, None, None, 0, "x"),
    (3, 2, "1999-12-31", 1, "two\nlines"),
]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"transform": lambda row: {**row, "note": row["note"]}},
        {"transform": Stage(lambda row: {**row}, kind="process", workers=1)},
        {"csv_options": {"na_values": {"price": [""]}}},
        {"csv_options": {"field_size_limit": 100}},
        {"csv_options": {"quoting": 0}},
    ],
    ids=["tables", "transform", "in a process", "nulls", "limit", "row by row"],
)
def test_texts_of_csv_get_the_types_of_the_table(
    orders: Path, tmp_path: Path, context_of: Contexts, options: dict[str, Any]
) -> None:
    run(load_orders(tmp_path, **options), context_of())

    assert rows_of(orders, "SELECT * FROM orders ORDER BY id") == ORDERS


@pytest.mark.parametrize("options", [{}, {"csv_options": {"quoting": 0}}], ids=["tables", "row by row"])
def test_an_error_of_the_table_names_file_and_line(
    orders: Path, tmp_path: Path, context_of: Contexts, options: dict[str, Any]
) -> None:
    (tmp_path / "b.csv").write_text('id,price,day,paid,note\n3,,,,"two\nlines"\n4,,,,\nfive,,,,\n')

    with pytest.raises(AirflowFailException, match=rf"The row is from line 5 of file://{tmp_path}/b\.csv") as caught:
        run(load_orders(tmp_path, **options), context_of())
    assert "column 'id'" in str(caught.value)
    assert rows_of(orders, "SELECT * FROM orders") == []


@pytest.mark.parametrize("options", [{}, {"csv_options": {"quoting": 0}}], ids=["tables", "row by row"])
def test_a_bad_value_is_one_rejected_row_with_its_file_and_line(
    orders: Path, tmp_path: Path, context_of: Contexts, options: dict[str, Any]
) -> None:
    (tmp_path / "b.csv").write_text("id,price,day,paid,note\n3,,,,\nfive,,,,\n6\n7,,,,\n")

    summary = run(load_orders(tmp_path, sink={"max_rejected": 1}, tolerance=2, **options), context_of())

    assert [row[0] for row in rows_of(orders, "SELECT * FROM orders ORDER BY id")] == [1, 2, 3, 7]
    ((position, reason, raw),) = rows_of(orders, "SELECT position, reason, raw FROM orders__rejected")
    assert (position, reason[:8]) == (1, "line 3: ")
    assert json.loads(raw) == {"id": "five", "price": "", "day": "", "paid": "", "note": ""}
    assert summary["rows_rejected"] == 1
    assert {each["sample"]["place"].rpartition("/")[2] for each in summary["failures"]} == {"b.csv", "b.csv, line 4"}


def test_an_author_may_keep_texts_as_they_are(orders: Path, tmp_path: Path, context_of: Contexts) -> None:
    with pytest.raises(AirflowFailException, match="a value of type str"):
        run(load_orders(tmp_path, sink={"parse_texts": False}), context_of())

    assert rows_of(orders, "SELECT * FROM orders") == []


def test_texts_of_other_formats_are_no_numbers(orders: Path, tmp_path: Path, context_of: Contexts) -> None:
    (tmp_path / "a.csv").write_text('{"id": "1"}\n')
    (tmp_path / "b.csv").unlink()

    with pytest.raises(AirflowFailException, match="a value of type str"):
        run(load_orders(tmp_path, format="jsonl"), context_of())

    assert rows_of(orders, "SELECT * FROM orders") == []


def test_a_sink_that_two_operators_share_stays_as_it_is() -> None:
    sink = SinkTable("orders", conn_id="warehouse")

    task = FilesToTableOperator(task_id="load", files="/in/*.csv", sink=sink)

    assert isinstance(task.sink, SinkTable)
    assert (sink.parse_texts, task.sink.parse_texts) == (None, True)


def test_other_sinks_get_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(CSV)
    task = FilesToTableOperator(task_id="load", files=f"{tmp_path}/*.csv", sink=(sink := ListSink()))

    Pipeline(task.source, task.stages, sink).run()

    assert sink.rows[0] == {"id": "1", "price": "1.50", "day": "2026-12-01", "paid": "true", "note": ""}
