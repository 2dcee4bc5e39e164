"""``SinkDelta`` in real folders: one version for each load, whatever dies, and whatever else writes to the table."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

deltalake = pytest.importorskip("deltalake")

from airflow_parallel_provider import Pipeline, PlanError, RunFailed, SinkDelta, Stage  # noqa: E402
from airflow_parallel_provider.engine.interfaces.records import LoadSpec  # noqa: E402
from tests.support.lakes import ROWS, all_rows, load, rows_of, version_of  # noqa: E402
from tests.support.parts import failing_at, numbered  # noqa: E402

pytestmark = pytest.mark.airflow


def names(folder: Path, *beginnings: str) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith(beginnings))


def test_a_load_is_one_version_that_names_it(tmp_path: Path) -> None:
    report = load(tmp_path / "t")

    assert report.rows_committed == ROWS
    assert rows_of(tmp_path / "t") == all_rows()
    assert version_of(tmp_path / "t") == 0
    table = deltalake.DeltaTable(tmp_path / "t")
    assert table.history(1)[0]["parallel.load"] == names(tmp_path / "t", "_manifest-")[0].split("-")[1]
    assert len(table.file_uris()) == 10
    assert names(tmp_path / "t", "_progress-", ".") == []


class Stopped(Exception):
    """An attempt is stopped where a test wants it."""


def held(path: Path, point: str, act: Any, **options: Any) -> SinkDelta:
    """A sink that does something when it first reaches a point."""

    class Held(SinkDelta):
        done = False

        def reached(self, here: str) -> None:
            if here == point and not Held.done:
                Held.done = True
                act()

    return Held(str(path), **options)


def run(sink: SinkDelta, key: str = "nightly", items: Any = range(ROWS)) -> Any:
    return Pipeline(items, [Stage(numbered)], sink, chunk_size=10, load_key=key).run()


def test_a_conflict_that_the_library_reports_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other attempt's commit comes between the look and the commit."""
    from airflow_parallel_provider.sinks.lakes.delta.delta_publisher import DeltaPublisher

    commit, calls = DeltaPublisher._commit, []

    def late(self: Any, *args: Any, **options: Any) -> None:
        calls.append(1)
        if len(calls) == 1:
            load(tmp_path)  # it calls this, too
        commit(self, *args, **options)

    load(tmp_path, key="first", items=range(2))
    monkeypatch.setattr(DeltaPublisher, "_commit", late)
    run(SinkDelta(str(tmp_path)))

    assert len(calls) == 2
    assert (len(rows_of(tmp_path)), version_of(tmp_path)) == (ROWS + 2, 1)


def test_compaction_does_not_bring_a_load_again(tmp_path: Path) -> None:
    load(tmp_path)
    table = deltalake.DeltaTable(tmp_path)
    table.optimize.compact()
    table.vacuum(0, dry_run=False, enforce_retention_duration=False)

    assert load(tmp_path, failing_at(0, [])).items_skipped == ROWS
    assert rows_of(tmp_path) == all_rows()


def spec_of(generation: str, *, named: bool) -> LoadSpec:
    family = "dag/task/run"
    return LoadSpec(family if named else f"{family}/{generation}", 10, "list", family=family, generation=generation)


@pytest.mark.parametrize("kind", ["dicts", "arrow", "tuples", "frames"])
def test_the_columns_of_the_table_come_first(tmp_path: Path, kind: str) -> None:
    schema = pa.schema([("name", pa.string()), ("extra", pa.float64()), ("id", pa.int32())])
    deltalake.DeltaTable.create(str(tmp_path), schema)

    def stage(number: int) -> Any:
        row = numbered(number)
        if kind == "arrow":
            return pa.Table.from_pylist([row])
        if kind == "frames":
            return __import__("polars").DataFrame([row])
        return (row["id"], row["name"]) if kind == "tuples" else row

    load(tmp_path, stage, columns=["id", "name"] if kind == "tuples" else None)

    assert rows_of(tmp_path) == [{"name": f"name {n}", "extra": None, "id": n} for n in range(ROWS)]
    assert pa.schema(deltalake.DeltaTable(tmp_path).schema().to_arrow()) == schema


@pytest.mark.parametrize(
    ("schema", "row", "error"),
    [
        (pa.schema([("id", pa.int32())]), {"id": 2**31}, r"column 'id' is int32 .*a value does not fit"),
        (pa.schema([("id", pa.int32())]), {"id": "1"}, r"column 'id' is int32 .*different kinds"),
        (pa.schema([("id", pa.float32())]), {"id": 0.1}, r"a number would be rounded"),
        (pa.schema([("id", pa.float64())]), {"id": 2**53 + 1}, r"a value does not fit"),
        (pa.schema([("id", pa.int64())]), {"id": 1, "more": 2}, r"column 'more' is not in the table \(id\)"),
        (pa.schema([pa.field("id", pa.int64(), nullable=False)]), {"id": None}, r"column 'id' takes no NULL"),
    ],
)
def test_rows_that_do_not_fit_the_table_are_refused(tmp_path: Path, schema: Any, row: Any, error: str) -> None:
    deltalake.DeltaTable.create(str(tmp_path), schema)

    with pytest.raises(RunFailed, match=error):
        load(tmp_path, None, items=[row])
    assert version_of(tmp_path) == 0


@pytest.mark.parametrize(
    ("options", "alter", "error"),
    [
        ({"partition_by": ["id"]}, None, "is partitioned by id"),
        (
            {},
            lambda table: table.alter.add_constraint({"small": "id < 5"}),
            r"checks its rows \(delta.constraints.small",
        ),
    ],
)
def test_tables_that_ask_something_of_files_are_refused(tmp_path: Path, options: Any, alter: Any, error: str) -> None:
    table = deltalake.DeltaTable.create(
        str(tmp_path), pa.schema([("id", pa.int64()), ("name", pa.string())]), **options
    )
    if alter is not None:
        alter(table)

    with pytest.raises(RunFailed, match=error):
        load(tmp_path)


def test_append_only_table_is_not_replaced(tmp_path: Path) -> None:
    schema = pa.schema([("id", pa.int64()), ("name", pa.string())])
    deltalake.DeltaTable.create(str(tmp_path), schema, configuration={"delta.appendOnly": "true"})
    load(tmp_path)

    with pytest.raises(RunFailed, match=r"is append-only .*write_disposition='replace' cannot be"):
        load(tmp_path, key="two", write_disposition="replace")
    with pytest.raises(RunFailed, match=r"is append-only .*write_disposition='merge' cannot be"):
        load(tmp_path, key="three", write_disposition="merge", primary_key="id")
    assert rows_of(tmp_path) == all_rows()


def test_table_with_deletion_vectors_takes_rows_but_no_merge(tmp_path: Path) -> None:
    load(tmp_path)
    deltalake.DeltaTable(tmp_path).alter.add_feature(
        deltalake.TableFeatures.DeletionVectors, allow_protocol_versions_increase=True
    )

    load(tmp_path, key="two", items=range(3))
    with pytest.raises(RunFailed, match="has the feature deletionVectors, which SinkDelta does not do"):
        load(tmp_path, key="three", write_disposition="merge", primary_key="id")


def test_table_that_was_changed_while_the_load_ran(tmp_path: Path) -> None:
    load(tmp_path, key="one")
    field = deltalake.Field("more", deltalake.schema.PrimitiveType("string"))
    run(held(tmp_path, "before_publication", lambda: deltalake.DeltaTable(tmp_path).alter.add_columns([field])))

    assert len(rows_of(tmp_path)) == 2 * ROWS
    assert {row["more"] for row in rows_of(tmp_path)} == {None}


@pytest.mark.parametrize("columns", [{"id": [1]}, {"id": ["1"], "name": ["x"]}], ids=["dropped", "another type"])
def test_table_whose_columns_are_others_at_the_publication(tmp_path: Path, columns: dict[str, Any]) -> None:
    load(tmp_path, key="one")
    options: Any = {"mode": "overwrite", "schema_mode": "overwrite"}

    with pytest.raises(RunFailed, match=r"when the parts were written and is .*: the table was changed meanwhile"):
        run(
            held(
                tmp_path,
                "before_publication",
                lambda: deltalake.write_deltalake(tmp_path, pa.table(columns), **options),
            )
        )
    assert len(deltalake.DeltaTable(tmp_path).to_pyarrow_table()) == 1


def test_statistics_let_readers_skip_files(tmp_path: Path) -> None:
    load(tmp_path)
    actions = deltalake.DeltaTable(tmp_path).get_add_actions(flatten=True)
    found = pa.table(actions).to_pylist()

    assert sorted((each["min.id"], each["max.id"]) for each in found)[0] == (0, 9)
    assert sum(each["num_records"] for each in found) == ROWS
    assert {each["null_count.id"] for each in found} == {0}


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"path": ""}, "path"),
        ({"write_disposition": "upsert"}, "write_disposition"),
        ({"on_rerun": "replace"}, "on_rerun"),
        ({"columns": "id"}, "columns"),
        ({"validate": 3}, "validate"),
        ({"max_rejected": -1}, "max_rejected"),
        ({"storage_options": {"a": 1}}, "storage_options"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, Any], field: str) -> None:
    with pytest.raises(PlanError, match=rf"\.{field}"):
        SinkDelta(**{"path": "x", **options})


def test_a_declaration_is_a_value(tmp_path: Path) -> None:
    sink = SinkDelta(str(tmp_path), aggregates={"rows": "count"}, storage_options={"a": "b"}, columns=["id"])

    assert hash(sink) == hash(pickle.loads(pickle.dumps(sink)))
    assert replace(sink) == sink
    assert sink.describe() == f"Delta table {tmp_path} (append)"
    assert repr(SinkDelta("{{ ds }}")) == repr(SinkDelta("{{ ds }}"))
