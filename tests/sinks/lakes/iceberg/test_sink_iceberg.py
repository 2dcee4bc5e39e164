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


@pytest.mark.parametrize("existing", [True, False], ids=["a table", "no table"])
def test_merge_where_values_would_not_be_the_same_when_written_again(lake: Lake, existing: bool) -> None:
    kind = pa.list_(pa.struct([("x", pa.int64())]))
    rows = pa.table({"id": [1], "tags": pa.array([None], kind)})
    if existing:
        lake.load(None, [rows], key="first")

    with pytest.raises(RunFailed, match=r"column 'tags' is list.*A merge writes rows of the table again"):
        lake.load(None, [rows], write_disposition="merge", primary_key="id")


def test_nested_values_of_rows_that_stay_are_the_same_after_a_merge(lake: Lake) -> None:
    kinds = {
        "list": pa.list_(pa.int64()),
        "lists": pa.list_(pa.list_(pa.int64())),
        "struct": pa.struct([("x", pa.struct([("y", pa.int64())]))]),
        "map": pa.map_(pa.string(), pa.int64()),
        "time": pa.time64("us"),
        "uuid": pa.uuid(),
    }
    values: list[tuple[Any, ...]] = [
        ([1, None], [[1], None], {"x": {"y": 1}}, [("a", None)], 5, b"0" * 16),
        ([], [], {"x": None}, [], None, None),
        (None, None, None, None, None, None),
    ]
    arrays = {name: pa.array([row[n] for row in values], kind) for n, (name, kind) in enumerate(kinds.items())}
    before = pa.table({"id": [1, 2, 3], **arrays})
    lake.load(None, [before], key="first")

    lake.load(
        None, [before.slice(0, 1).set_column(0, "id", [[4]])], key="new", write_disposition="merge", primary_key="id"
    )
    lake.load(None, [before.slice(0, 1)], key="same", write_disposition="merge", primary_key="id")

    expected = before.to_pylist()
    assert lake.rows() == [*expected, {**expected[0], "id": 4}]
    assert lake.version() == 2


def test_merge_takes_a_row_from_one_partition_to_another(lake: Lake) -> None:
    """Also within a chunk, whose rows are in a file for each partition."""
    with create(lake).update_spec() as spec:
        spec.add_identity("name")
    merge: Any = {"write_disposition": "merge", "primary_key": "id"}
    lake.load(None, [{"id": n, "name": name} for n, name in enumerate("abab")], key="first")

    rows = [{"id": 0, "name": "b"}, {"id": 1, "name": "c"}, {"id": 0, "name": "a"}, {"id": 0, "name": "c"}]
    lake.load(None, rows, key="second", **merge)

    assert [row["name"] for row in lake.rows()] == ["c", "c", "a", "b"]
    files = iceberg_table(lake.path).inspect.files().to_pylist()
    assert sorted((each["partition"]["name"], each["record_count"]) for each in files) == [("a", 1), ("b", 1), ("c", 2)]


@pytest.mark.parametrize("size", [0, 3000, 10**9])
def test_merge_makes_one_file_of_small_ones(lake: Lake, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Whatever is read at once, the rows that stay are those that have no key of the load."""
    from airflow_parallel_provider.sinks.lakes.iceberg import rewrites

    monkeypatch.setattr(rewrites, "_BYTES", size)
    lake.load()
    rows = [{"id": n, "name": "x"} for n in (3, 4, 41, 90, 91, 92, 93, 94, 500)]
    lake.load(None, rows, key="two", write_disposition="merge", primary_key="id")

    changed = {row["id"]: row for row in [*all_rows(), *rows]}
    assert lake.rows() == sorted(changed.values(), key=lambda row: row["id"])
    files = {0: 7 + 2, 10**9: 7 + 1}  # those without a hit, and those of the rows that stay: of 90 to 94 none does
    assert len(iceberg_table(lake.path).inspect.files()) - 1 in ([files[size]] if size in files else [8, 9])


def test_merge_reads_only_files_that_may_have_a_key(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_parallel_provider.sinks.lakes.iceberg import rewrites

    lake.load()
    read, tasks = rewrites._read, set[str]()

    def noted(transaction: Any, table: Any, some: Any, columns: Any) -> Any:
        tasks.update(task.file.file_path for task in some)
        return read(transaction, table, some, columns)

    monkeypatch.setattr(rewrites, "_read", noted)
    lake.load(None, [{"id": 33, "name": "x"}], key="two", write_disposition="merge", primary_key="id")

    assert (len(tasks), len(lake.rows())) == (1, ROWS)


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
        ({"write_disposition": "upsert"}, "write_disposition"),
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
