"""Tables of ORC files, and what Parquet and ORC share."""

from __future__ import annotations

import sys
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.orc
import pyarrow.parquet
import pytest

from airflow_parallel_provider import FilesToTableOperator, ListSink, Pipeline, PlanError, RunFailed
from airflow_parallel_provider.errors import SourceError
from tests.sources.files.formats.test_row_readers import read

pytestmark = pytest.mark.airflow


def orc(table: pa.Table, path: Path, **options: Any) -> bytes:
    pyarrow.orc.write_table(table, str(path), **options)
    return path.read_bytes()


TYPES = pa.table(
    {
        "id": pa.array([1, 2, None], pa.int64()),
        "price": pa.array([Decimal("1.50"), None, Decimal("-0.01")], pa.decimal128(38, 2)),
        "day": [date(2026, 11, 1), None, date(1969, 12, 31)],
        "at": pa.array(
            [datetime.fromisoformat("2026-11-01T06:30:00.000001"), None, datetime.fromisoformat("1960-01-01")],
            pa.timestamp("ns"),
        ),
        "content": pa.array([b"\x00\xff", None, b""], pa.binary()),
        "tags": pa.array([["a"], [], None], pa.list_(pa.string())),
        "place": [{"city": "Bonn"}, None, {"city": None}],
    }
)


@pytest.mark.parametrize("compression", ["uncompressed", "zlib", "snappy", "lz4", "zstd"])
def test_types_and_codecs_of_orc(tmp_path: Path, compression: str) -> None:
    (table,) = read(tmp_path / "x.orc", orc(TYPES, tmp_path / "y", compression=compression))

    assert table.to_pylist() == TYPES.to_pylist()
    assert table.schema.field("price").type == pa.decimal128(38, 2)


def test_stripes_columns_and_folders(tmp_path: Path) -> None:
    (tmp_path / "day=1").mkdir()
    table = pa.table({"id": range(200_000), "name": [f"name {n}" for n in range(200_000)]})
    content = orc(table, tmp_path / "y", stripe_size=100_000, compression="uncompressed", batch_size=1000)

    tables = read(tmp_path / "day=1" / "x.orc", content, columns=["name", "id"], hive_partitioning=True)

    assert len(tables) > 3
    assert pa.concat_tables(tables).select(["id", "name"]) == table
    assert tables[0].column_names == ["name", "id", "day"]
    with pytest.raises(SourceError, match=r"x\.orc: there is no column 'x' of columns=; there are 'id', 'name'"):
        read(tmp_path / "day=1" / "x.orc", content, columns=["x"])


def test_an_orc_file_without_rows(tmp_path: Path) -> None:
    assert sum(map(len, read(tmp_path / "x.orc", orc(TYPES.slice(0, 0), tmp_path / "y")))) == 0


def test_a_file_that_is_cut_off_or_damaged(tmp_path: Path) -> None:
    whole = orc(TYPES, tmp_path / "y", compression="zlib")
    for content in (b"", b"ORC", whole[:-1], whole[:-20], whole[: len(whole) // 2], b"id\n1\n"):
        with pytest.raises(SourceError, match=r"x\.orc: "):
            read(tmp_path / "x.orc", content)
    whole = orc(pa.table({"name": [f"name {number}" for number in range(5000)]}), tmp_path / "y", compression="zlib")
    damaged = whole[:10] + bytes(byte ^ 0xFF for byte in whole[10:80]) + whole[80:]
    with pytest.raises(SourceError, match=r"x\.orc: stripe 0: "):
        read(tmp_path / "x.orc", damaged)


def test_nothing_of_a_damaged_file_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "x.orc").write_bytes(orc(TYPES, tmp_path / "y")[:-5])
    load = FilesToTableOperator(task_id="load", files=str(tmp_path / "*.orc"), sink=(sink := ListSink()))

    with pytest.raises(RunFailed, match=r"x\.orc: "):
        Pipeline(load.source, load.stages, sink).run()
    assert sink.rows == []


@pytest.mark.parametrize("kind", ["parquet", "orc"])
def test_packed_and_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    with pytest.raises(SourceError, match=rf"a file of {kind} cannot be read from within a packed one"):
        read(tmp_path / f"x.{kind}.gz", b"x")
    monkeypatch.setitem(sys.modules, f"pyarrow.{kind}", None)
    with pytest.raises(SourceError, match=rf"x\.{kind}: to read \w+ needs pyarrow: pip install 'airflow-.*\[arrow\]'"):
        read(tmp_path / f"x.{kind}", b"x")


def test_filters_are_for_parquet(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="filters= is for Parquet"):
        read(tmp_path / "x.orc", orc(TYPES, tmp_path / "y"), filters=[("id", ">", 1)])
    with pytest.raises(PlanError, match=r"filters=.*format='orc' has no such option"):
        FilesToTableOperator(task_id="load", files="/in/*", sink=ListSink(), format="orc", filters=[("id", ">", 1)])
