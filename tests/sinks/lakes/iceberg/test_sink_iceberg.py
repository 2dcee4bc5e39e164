"""``SinkIceberg``: what it does alone; what it does as every sink of a lake table is in ``test_lake_sink.py``."""

from __future__ import annotations

import json
import pickle
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

pytest.importorskip("pyiceberg")

from airflow_parallel_provider import PlanError, RunFailed, SinkIceberg
from airflow_parallel_provider.errors import SinkError
from airflow_parallel_provider.sinks.lakes.iceberg.iceberg_publisher import IcebergPublisher
from tests.support.databases import PostgresDatabase
from tests.support.lakes import ROWS, TABLE, Lake, all_rows, iceberg_catalog, iceberg_table
from tests.support.parts import failing_at

pytestmark = pytest.mark.airflow

COLUMNS = pa.schema([("id", pa.int64()), ("name", pa.string())])


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake("iceberg", tmp_path / "table")


def create(lake: Lake, schema: Any = COLUMNS, **options: Any) -> Any:
    catalog = iceberg_catalog(lake.path)
    catalog.create_namespace_if_not_exists("shop")
    return catalog.create_table(TABLE, schema, **options)


def test_a_load_is_one_snapshot_that_names_it(lake: Lake) -> None:
    assert lake.load().rows_committed == ROWS

    assert (lake.rows(), lake.version()) == (all_rows(), 0)
    table = iceberg_table(lake.path)
    (manifest,) = lake.names("_manifest-")
    load, attempt = manifest.removesuffix(".json").split("-")[1:]
    (snapshot,) = table.snapshots()
    assert snapshot.summary.additional_properties["parallel.load"] == load
    assert table.properties[f"parallel.load.{load}"] == attempt
    assert (len(lake.published_files()), lake.names("_progress-", ".")) == (10, [])


def test_a_load_is_known_when_its_snapshot_has_expired(lake: Lake) -> None:
    lake.load()
    lake.load(key="two", write_disposition="replace")
    table = iceberg_table(lake.path)
    table.maintenance.expire_snapshots().older_than(datetime.now(UTC).replace(tzinfo=None) + timedelta(1)).commit()
    assert len(iceberg_table(lake.path).snapshots()) == 1

    assert lake.load(failing_at(0, [])).items_skipped == ROWS
    assert lake.rows() == all_rows()


def test_a_load_is_known_by_its_snapshot_where_the_property_is_gone(lake: Lake) -> None:
    lake.load()
    with iceberg_table(lake.path).transaction() as transaction:
        transaction.remove_properties(*iceberg_table(lake.path).properties)

    assert lake.load(failing_at(0, [])).items_skipped == ROWS
    assert lake.rows() == all_rows()


@pytest.mark.parametrize("how", ["append", "replace"])
@pytest.mark.parametrize("same", [True, False], ids=["the same load", "another load"])
def test_another_attempt_commits_between_the_look_and_the_commit(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, how: Any, same: bool
) -> None:
    """The library itself would add the same files to what is there then, and the load would be in twice."""
    made, calls = IcebergPublisher._data_files, []

    def late(self: Any, *args: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            lake.load(key="nightly" if same else "other", write_disposition=how)  # it calls this, too
        return made(self, *args)

    lake.load(key="first", items=range(2))
    monkeypatch.setattr(IcebergPublisher, "_data_files", late)

    report = lake.load(write_disposition=how)

    assert report.rows_committed == ROWS
    assert len(calls) == (2 if same else 3)
    assert len(lake.rows()) == (ROWS if how == "replace" else ROWS + 2 + (0 if same else ROWS))
    assert lake.version() == (1 if same else 2)


def test_an_answer_to_a_commit_is_lost(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyiceberg.catalog.sql import SqlCatalog
    from sqlalchemy.exc import OperationalError

    commit, calls = SqlCatalog.commit_table, []

    def lost(self: Any, *args: Any) -> Any:
        calls.append(commit(self, *args))
        raise OperationalError("COMMIT", None, OSError("the line is dead"))

    monkeypatch.setattr(SqlCatalog, "commit_table", lost)

    assert lake.load().rows_committed == ROWS
    assert (len(calls), lake.rows(), lake.version()) == (1, all_rows(), 0)


def test_a_catalogue_that_always_fails_ends_the_run(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyiceberg.catalog.sql import SqlCatalog

    with monkeypatch.context() as patch:
        patch.setattr(SqlCatalog, "commit_table", lambda *_: (_ for _ in ()).throw(OSError("no more room")))
        with pytest.raises(RunFailed, match=r"Iceberg table shop.orders: OSError: no more room"):
            lake.load()
    assert not lake.exists
    assert lake.load().items_skipped == ROWS
    assert lake.rows() == all_rows()


def test_readers_skip_files_by_their_bounds(lake: Lake) -> None:
    lake.load()
    table = iceberg_table(lake.path)

    planned = {
        condition: len(list(table.scan(row_filter=condition).plan_files()))
        for condition in ("id == 33", "name == 'name 31'", "name == 'zzz'", "name is null")
    }
    assert planned == {"id == 33": 1, "name == 'name 31'": 2, "name == 'zzz'": 0, "name is null": 0}
    files = table.inspect.files().to_pylist()
    assert sum(each["record_count"] for each in files) == ROWS
    assert {each["readable_metrics"]["id"]["null_value_count"] for each in files} == {0}


@pytest.mark.parametrize("kind", ["dicts", "arrow", "tuples", "frames"])
def test_the_columns_of_the_table_come_first(lake: Lake, kind: str) -> None:
    create(lake, pa.schema([("name", pa.string()), ("extra", pa.float64()), ("id", pa.int32())]))

    def stage(number: int) -> Any:
        row = {"id": number, "name": f"name {number}"}
        if kind == "arrow":
            return pa.Table.from_pylist([row])
        if kind == "frames":
            return __import__("polars").DataFrame([row])
        return tuple(row.values()) if kind == "tuples" else row

    lake.load(stage, columns=["id", "name"] if kind == "tuples" else None)

    assert lake.rows() == [{"name": f"name {n}", "extra": None, "id": n} for n in range(ROWS)]


@pytest.mark.parametrize(
    ("schema", "row", "error"),
    [
        (pa.schema([("id", pa.int32())]), {"id": 2**31}, r"column 'id' is int32 .*a value does not fit"),
        (pa.schema([("id", pa.int64())]), {"id": 1, "more": 2}, r"column 'more' is not in the table \(id\)"),
        (pa.schema([pa.field("id", pa.int64(), nullable=False)]), {"id": None}, r"column 'id' takes no NULL"),
        (pa.schema([("id", pa.uuid())]), {"id": "Ab"}, r"cannot become it unchanged \(a text that is no UUID\)"),
    ],
)
def test_rows_that_do_not_fit_the_table_are_refused(lake: Lake, schema: Any, row: Any, error: str) -> None:
    create(lake, schema)

    with pytest.raises(RunFailed, match=error):
        lake.load(None, items=[row])
    assert lake.version() == 0


def test_table_of_a_version_that_was_never_run_is_refused(lake: Lake) -> None:
    file = Path(create(lake).metadata_location.removeprefix("file://"))
    file.write_text(json.dumps({**json.loads(file.read_text()), "format-version": 3, "next-row-id": 0}))

    with pytest.raises(RunFailed, match=r"has format version 3, .*use a table of version 2"):
        lake.load()


def test_parts_go_where_the_table_says(lake: Lake, tmp_path: Path) -> None:
    create(lake, properties={"write.data.path": f"file://{tmp_path}/elsewhere"})

    lake.load()

    assert lake.rows() == all_rows()
    assert len(list((tmp_path / "elsewhere").glob("part-*.parquet"))) == 10


@pytest.mark.parametrize("change", ["rename", "drop", "type", "partition"])
def test_table_that_was_changed_while_the_load_ran(lake: Lake, change: str) -> None:
    table = create(lake, pa.schema([("id", pa.int32()), ("name", pa.string())]))

    class Changed(SinkIceberg):
        def reached(self, point: str) -> None:
            if point == "before_publication":
                if change == "partition":
                    with table.update_spec() as spec:
                        spec.add_identity("name")
                    return
                with table.update_schema(allow_incompatible_changes=True) as update:
                    if change == "type":
                        update.update_column("id", __import__("pyiceberg.types").types.LongType())
                    elif change == "rename":
                        update.rename_column("name", "label")
                    else:
                        update.delete_column("name")
                if change == "drop":
                    with table.update_schema() as update:
                        update.add_column("name", __import__("pyiceberg.types").types.StringType())

    expected = {
        "rename": "column 'name' was string when the parts were written and is gone",
        "drop": "column 'name' was string .* is another column of that name",
        "type": "column 'id' was int32 when the parts were written and is int64",
        "partition": "its partitions were changed since the parts of the load were written",
    }
    with pytest.raises(RunFailed, match=expected[change]):
        lake.load(cls=Changed)
    assert lake.rows() == []


def test_a_catalogue_in_postgresql_by_an_airflow_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = PostgresDatabase()
    connection = {name: getattr(database.connection, name) for name in ("host", "port", "login", "password", "schema")}
    extra = {"options": f'-csearch_path="{database.schema}"'.replace(" ", "\\ "), "warehouse": f"file://{tmp_path}"}
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", json.dumps({"conn_type": "postgres", **connection, "extra": extra}))

    class Named(Lake):
        @property
        def arguments(self) -> dict[str, Any]:
            return {"table": TABLE, "conn_id": "lake"}

    lake = Named("iceberg", tmp_path)
    with pytest.raises(RunFailed, match="not today"):
        lake.load(failing_at(70, []))
    assert lake.load().items_skipped == 70
    assert lake.load(failing_at(0, [])).items_skipped == ROWS
    ((found,),) = database.fetch(f'SELECT metadata_location FROM "{database.schema}".iceberg_tables')
    assert found.startswith(f"file://{tmp_path}/shop/orders/metadata/00000-")


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"table": ""}, "table"),
        ({"table": "orders"}, "table"),
        ({"write_disposition": "merge"}, "write_disposition"),
        ({"on_rerun": "replace"}, "on_rerun"),
        ({"on_schema_change": "drop"}, "on_schema_change"),
        ({"columns": "id"}, "columns"),
        ({"catalog": {"a": 1}}, "catalog"),
        ({"location": ""}, "location"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, Any], field: str) -> None:
    with pytest.raises(PlanError, match=rf"\.{field}"):
        SinkIceberg(**{"table": "a.b", **options})


def test_a_table_whose_folder_nobody_names(tmp_path: Path) -> None:
    catalog = {"type": "sql", "uri": f"sqlite:///{tmp_path}/c.db"}

    with pytest.raises(SinkError, match=r"its folder cannot be determined .*SinkIceberg\(location"):
        Lake("iceberg", tmp_path).load(cls=lambda **_: SinkIceberg("a.b", catalog=catalog))


def test_a_declaration_is_a_value() -> None:
    sink = SinkIceberg("a.b", catalog={"uri": "secret"}, aggregates={"rows": "count"}, columns=["id"])

    assert hash(sink) == hash(pickle.loads(pickle.dumps(sink)))
    assert sink.describe() == "Iceberg table a.b (append)"
    assert "secret" not in repr(sink)
    assert SinkIceberg("a.b", conn_id="lake").dataset == ("iceberg://lake", "a.b")
