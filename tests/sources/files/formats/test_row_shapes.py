"""Records within documents, flat rows, columns from the path, and parts of Parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_parallel_provider import FilesToTableOperator, ListSink
from airflow_parallel_provider.engine.interfaces.failed_part import FailedPart
from airflow_parallel_provider.errors import PlanError, SourceError
from airflow_parallel_provider.sources.files.formats.row_shapes import flat, partitions_of
from tests.sources.files.formats.test_row_readers import read

pytestmark = pytest.mark.airflow


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ('{"data": {"items": [{"id": 1}, {"id": 2}]}, "n": 2}', [{"id": 1}, {"id": 2}]),
        ('{"data": {"items": {"id": 1}}}', [{"id": 1}]),
        ('{"data": {"items": null}}', []),
        ('{"data": {"items": []}}', []),
    ],
)
def test_records_of_a_document(tmp_path: Path, content: str, rows: list[Any]) -> None:
    assert read(tmp_path / "x.json", content, records="data.items") == rows
    assert read(tmp_path / "x.jsonl", f"{content}\n{content}\n", records="data.items") == rows * 2


def test_place_without_records_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        SourceError, match=r"x\.json: .*nothing at records='data.rows': no 'rows' at 'data', which has 'it"
    ):
        read(tmp_path / "x.json", '{"data": {"items": []}}', records="data.rows")
    (good, bad) = read(tmp_path / "x.jsonl", '{"a": [1]}\n{"error": 5}\n', records="a")
    assert good == 1
    assert isinstance(bad, FailedPart)
    assert "x.jsonl, line 2: there is nothing at records='a': no 'a', which has 'error'" in bad.message


def test_objects_within_objects_become_columns(tmp_path: Path) -> None:
    row = '{"a": {"b": {"c": 1.10}, "d": [{"e": 1}], "f": {}}, "g": 2}'
    expected = {"a__b__c": 1.10, "a__d": [{"e": 1}], "a__f": {}, "g": 2}

    assert read(tmp_path / "x.json", f"[{row}]", flatten="__") == [expected]
    assert read(tmp_path / "x.jsonl", row, flatten="__") == [expected]
    assert list(expected) == list(flat(expected, "__"))
    (bad,) = read(tmp_path / "x.jsonl", '{"a": {"b": 1}, "a.b": 2}', flatten=".")
    assert "two values would be 'a.b'" in bad.message


def test_folders_are_columns(tmp_path: Path) -> None:
    folder = tmp_path / "day=2026-11-01" / "shop=a%2Fb" / "x=__HIVE_DEFAULT_PARTITION__"
    folder.mkdir(parents=True)
    expected = {"day": "2026-11-01", "shop": "a/b", "x": None}
    pq.write_table(pa.table({"id": [1]}), folder / "p.parquet")

    assert read(folder / "x.csv", "id\n1\n", hive_partitioning=True) == [{"id": "1", **expected}]
    assert read(folder / "x.jsonl", '{"id": 1}', hive_partitioning=True) == [{"id": 1, **expected}]
    assert read(folder / "x.json", '[{"id": 1}]', hive_partitioning=True) == [{"id": 1, **expected}]
    (table,) = read(folder / "p.parquet", (folder / "p.parquet").read_bytes(), hive_partitioning=True)
    assert table.to_pylist() == [{"id": 1, **expected}]
    with pytest.raises(SourceError, match=r"x\.csv: the rows have the column 'day' of the path themselves"):
        read(folder / "x.csv", "day\n1\n", hive_partitioning=True)
    assert isinstance(read(folder / "x.csv", "id,v\n1\n", hive_partitioning=True)[0], FailedPart)


def test_only_folders_are_columns() -> None:
    assert partitions_of("s3://b/a=1/c=2.csv") == {"a": "1"}
    assert partitions_of("file:///data/=3/x=/y") == {"x": ""}
    with pytest.raises(SourceError, match="two folders name the column 'a'"):
        partitions_of("s3://b/a=1/a=2/x")


def test_columns_and_rows_of_parquet(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    table = pa.table({"id": pa.array(range(30), pa.int64()), "v": [f"v{at}" for at in range(30)], "w": [None] * 30})
    pq.write_table(table, path, row_group_size=10)
    content = path.read_bytes()

    assert [each.column_names for each in read(path, content, columns=["v", "id"])] == [["v", "id"]] * 3
    (part,) = read(path, content, columns=["v"], filters=[("id", ">=", 25)])
    assert part.to_pydict() == {"v": ["v25", "v26", "v27", "v28", "v29"]}
    (part,) = read(path, content, filters=[("id", "=", 11)])
    assert part.schema == table.schema
    assert part.to_pylist() == [{"id": 11, "v": "v11", "w": None}]
    with pytest.raises(SourceError, match=r"x\.parquet: there is no column 'x' of columns=; there are 'id', 'v', 'w'"):
        read(path, content, columns=["x"])
    with pytest.raises(SourceError, match=r"x\.csv: columns= is for Parquet and ORC"):
        read(tmp_path / "x.csv", "id\n1\n", columns=["id"])


def test_row_groups_that_the_statistics_exclude_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"id": list(range(30))}), path, row_group_size=10, compression="none")
    at = pq.ParquetFile(path).metadata.row_group(0).column(0).data_page_offset
    content = bytearray(path.read_bytes())
    content[at : at + 20] = b"\xff" * 20  # the first row group can no longer be read

    assert [each.num_rows for each in read(path, bytes(content), filters=[("id", ">", 12)])] == [7, 10]
    with pytest.raises(SourceError):
        read(path, bytes(content))


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"format": "csv", "records": "a"}, "records"),
        ({"format": "parquet", "flatten": "_"}, "flatten"),
        ({"records": ""}, "records"),
        ({"format": "json", "columns": ["a"]}, "columns"),
        ({"columns": "a"}, "columns"),
        ({"filters": "a > 1"}, "filters"),
        ({"hive_partitioning": "yes"}, "hive_partitioning"),
        ({"format": "json", "csv_options": {"skiprows": 1}}, "csv_options"),
    ],
)
def test_options_that_contradict_are_refused(options: dict[str, Any], field: str) -> None:
    with pytest.raises(PlanError, match=rf"^{field}="):
        FilesToTableOperator(task_id="load", files="x", sink=ListSink(), **options)
