"""What a DAG author can write, and the error when it is wrong."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
import pickle
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from airflow_parallel_provider.engine.interfaces.records import ChunkResult, LoadSpec
from airflow_parallel_provider.errors import PlanError, SinkError
from airflow_parallel_provider.sinks.spec.options import SinkTableOptions
from airflow_parallel_provider.sinks.spec.table_spec import TableSpec
from airflow_parallel_provider.sinks.table import SinkTable
from airflow_parallel_provider.values.kinds import Column, Kind


def declare(table: Any = "scores", **arguments: Any) -> SinkTable:
    return SinkTable(table, **{"conn_id": "warehouse", **arguments})


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"table": ""}, r"SinkTable.table='': give a name"),
        ({"table": None}, r"SinkTable.table=None: give a name"),
        ({"table": "a\0b"}, r"SinkTable.table='a\\x00b': a name holds neither NUL"),
        ({"table": "a\ud800"}, r"SinkTable.table=.*halves of surrogate pairs"),
        ({"table": "public.scores"}, r"SinkTable.table='public.scores': .*SinkTable\('scores', schema='public', ...\)"),
        ({"conn_id": "  "}, r"SinkTable.conn_id='  ': give a name"),
        ({"schema": ""}, r"SinkTable.schema='': give a name"),
        ({"dead_letters": ""}, r"SinkTable.dead_letters='': give a name"),
        ({"dead_letters": "scores"}, r"SinkTable.ledger_table='airflow_parallel_ledger': .* must differ"),
        ({"ledger_table": "scores"}, r"SinkTable.ledger_table='scores': .* must differ"),
        ({"dead_letters": "airflow_parallel_ledger__loads"}, r"must differ"),
        (
            {"write_disposition": "upsert"},
            r"SinkTable.write_disposition='upsert': write 'append', 'merge' or 'replace'",
        ),
        ({"write_disposition": "merge"}, r"SinkTable.primary_key=\(\): .*e.g. primary_key=\['id'\]"),
        ({"primary_key": 5}, r"SinkTable.primary_key=5: give a column name or a list"),
        ({"primary_key": ["id", ""]}, r"SinkTable.primary_key=\['id', ''\]: a column's name is a text"),
        ({"primary_key": ["id", "id"]}, r"SinkTable.primary_key=\['id', 'id'\]: name 'id' once"),
        ({"primary_key": "id", "columns": {"a": int}}, r"SinkTable.primary_key='id': it is not among columns"),
        ({"columns": "id"}, r"SinkTable.columns='id': give a mapping"),
        ({"columns": 3}, r"SinkTable.columns=3: give a mapping"),
        ({"columns": []}, r"SinkTable.columns=\[\]: name at least one column"),
        ({"columns": ["a", "a"]}, r"SinkTable.columns='a': this column is named twice"),
        ({"columns": [1]}, r"SinkTable.columns=1: a column's name is a text"),
        ({"columns": {"a": "money"}}, r"SinkTable.columns\['a'\]='money': write one of bool, int"),
        ({"columns": {"a": set}}, r"SinkTable.columns\['a'\]=<class 'set'>: write one of the types bool, int"),
        ({"columns": {"a": "int(4)"}}, r"SinkTable.columns\['a'\]='int\(4\)': only decimal"),
        ({"columns": {"a": "decimal(2,4)"}}, r"SinkTable.columns\['a'\]='decimal\(2,4\)': only decimal"),
        ({"lock_timeout": 0}, r"SinkTable.lock_timeout=0: give a number from 0.001 to 86400"),
        ({"lock_timeout": True}, r"SinkTable.lock_timeout=True: give a number"),
        ({"statement_timeout": "1"}, r"SinkTable.statement_timeout='1': give a number"),
        (
            {"dead_letter_length": 100_000},
            r"SinkTable.dead_letter_length=100000: give a whole number from 200 to 60,000",
        ),
    ],
)
def test_bad_argument_is_named_with_its_value_and_a_cure(arguments: dict[str, Any], complaint: str) -> None:
    with pytest.raises(PlanError, match=complaint):
        declare(**arguments)


def test_columns_may_be_spelled_in_many_ways() -> None:
    sink = declare(
        columns={
            "a": int, "b": float | None, "c": "decimal(18, 4)", "d": "VARCHAR(20)", "e": dict[str, int],
            "f": "timestamptz", "g": Decimal, "h": "hugeint", "i": "bytes(16)",
        }
    )  # fmt: skip

    assert sink.declared_columns == (
        Column("a", Kind.INT),
        Column("b", Kind.FLOAT),
        Column("c", Kind.DECIMAL, precision=18, scale=4),
        Column("d", Kind.TEXT, length=20),
        Column("e", Kind.JSON),
        Column("f", Kind.DATETIMETZ),
        Column("g", Kind.DECIMAL),
        Column("h", Kind.HUGEINT),
        Column("i", Kind.BYTES, length=16),
    )


def test_declaration_travels_and_compares() -> None:
    sink = declare(primary_key="id", columns={"id": int})

    assert pickle.loads(pickle.dumps(sink)) == sink
    assert copy.deepcopy(sink) == sink
    assert hash(copy.copy(sink)) == hash(sink)
    assert dataclasses.replace(sink, table="other") != sink  # type: ignore[type-var]  # not a dataclass, but like one


def test_declaration_is_frozen() -> None:
    sink = declare()

    for name, value in [("table", "other"), ("primary_key", ("id",)), ("color", "red")]:
        with pytest.raises(dataclasses.FrozenInstanceError, match=f"instead of setting '{name}'"):
            setattr(sink, name, value)
    sink.table = "scores"  # what rendering does to a text that is no template

    assert sink == declare()


def test_copy_is_rendered_apart_from_the_declaration_it_comes_from() -> None:
    sink = declare("scores_{{ ds }}")
    first, second = copy.copy(sink), copy.deepcopy(sink)

    first.table, second.table = "scores_1", "scores_2"

    assert (sink.table, first.table, second.table) == ("scores_{{ ds }}", "scores_1", "scores_2")
    assert first != second
    assert sink == declare("scores_{{ ds }}")


@pytest.mark.airflow
def test_copy_of_a_sink_in_use_is_free(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "sqlite", "host": str(tmp_path / "w.db")}))
    sink, spec = declare(), LoadSpec("k", 1, "list")
    sink.prepare(spec)

    with pytest.raises(PlanError, match=r"Pipeline\.sink=.*in use by another run"):
        sink.prepare(spec)
    for other in (copy.copy(sink), pickle.loads(pickle.dumps(sink))):
        assert other == sink
        other.prepare(spec)
    sink.close()
    sink.prepare(spec)


def test_sink_reads_like_what_an_author_writes() -> None:
    shown = repr(declare(primary_key="id"))

    assert shown.startswith("SinkTable(table='scores', conn_id='warehouse', schema=None, write_disposition='append'")
    assert str(inspect.signature(SinkTable)).startswith("(table: 'str', *, conn_id: 'str', schema: 'str | None' = None")


def test_what_a_sink_does_not_have_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="color"):
        _ = declare().color
    assert not hasattr(declare(), "rendered")  # an operator would call it


def test_options_for_type_checkers_are_the_fields_that_have_a_default() -> None:
    fields = {
        field.name: field.type for field in dataclasses.fields(TableSpec) if field.name not in ("table", "conn_id")
    }

    assert {name: each.__forward_arg__ for name, each in SinkTableOptions.__annotations__.items()} == fields


def test_templates_are_filled_in_once_and_checked_then() -> None:
    sink = declare("scores_{{ ds_nodash }}", conn_id="{{ var.value.place }}")

    sink.table = "scores_20130131"
    assert sink.dead_letter_table == "scores_20130131__dead_letters"
    with pytest.raises(dataclasses.FrozenInstanceError):
        sink.table = "scores_20130201"
    with pytest.raises(PlanError, match=r"SinkTable\.conn_id=''"):
        sink.conn_id = ""


def test_template_that_makes_two_names_one_is_found_out() -> None:
    sink = declare("{{ params.table }}", dead_letters="errors")
    sink.table = "errors"

    with pytest.raises(PlanError, match="must differ"):
        sink.prepare(LoadSpec("k", 1, "list"))


@pytest.mark.airflow
def test_airflow_renders_a_sink_in_a_template_field() -> None:
    from airflow.sdk import BaseOperator

    class Operator(BaseOperator):
        template_fields = ("sink",)

        def __init__(self, *, sink: Any, **arguments: Any) -> None:
            super().__init__(**arguments)
            self.sink = sink

    operator = Operator(sink=declare("scores_{{ day }}", schema="{{ place }}"), task_id="t")
    operator.render_template_fields({"day": "monday", "place": "dwh"})  # type: ignore[typeddict-unknown-key]

    assert (operator.sink.table, operator.sink.schema) == ("scores_monday", "dwh")


def test_sink_that_is_not_open_says_so() -> None:
    with pytest.raises(SinkError, match=r"table scores \(append, connection warehouse\) is not open"):
        declare().commit(ChunkResult("00000000", 0, 0, 0, 0, []))


@pytest.mark.parametrize("load_key", ["", "x" * 201])
def test_load_key_has_a_length(load_key: str) -> None:
    with pytest.raises(PlanError, match=r"Pipeline\.load_key=.*1 to 200 characters"):
        declare().prepare(LoadSpec(load_key, 1, "list"))


def test_importing_the_declaration_costs_neither_airflow_nor_a_database() -> None:
    code = (
        "import sys; from airflow_parallel_provider import SinkTable; SinkTable('t', conn_id='c'); "
        "print([m for m in ('airflow', 'sqlalchemy', 'sqlite3', 'pandas', 'numpy', 'psycopg') if m in sys.modules])"
    )

    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)

    assert shown.stdout.strip() == "[]"
