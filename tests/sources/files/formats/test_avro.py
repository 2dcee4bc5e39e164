"""Records of Avro files."""

from __future__ import annotations

import gzip
import io
import sys
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import fastavro
import pytest

from airflow_parallel_provider import FilesSource, FilesToTableOperator, ListSink, Pipeline, RunFailed
from airflow_parallel_provider.errors import SourceError
from airflow_parallel_provider.sources.files.formats.row_readers import read_rows
from tests.sources.files.formats.test_row_readers import read

pytestmark = pytest.mark.airflow

SCHEMA = {
    "type": "record",
    "name": "order",
    "fields": [{"name": "id", "type": "long"}, {"name": "name", "type": "string"}],
}


def avro(records: Any, schema: Any = SCHEMA, **options: Any) -> bytes:
    out = io.BytesIO()
    fastavro.writer(out, fastavro.parse_schema(schema), records, **options)
    return out.getvalue()


def orders(count: int) -> list[dict[str, Any]]:
    return [{"id": number, "name": f"order {number}"} for number in range(count)]


def of_type(kind: Any, value: Any) -> bytes:
    return avro([{"v": value}], {"type": "record", "name": "r", "fields": [{"name": "v", "type": kind}]})


MOMENT = datetime(2026, 11, 1, 6, 30, 0, 123456, UTC)
DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 10}


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("long", -(2**63)),
        ("double", 0.1),
        ("boolean", True),
        ("bytes", b"\x00\xff"),
        ("null", None),
        (["null", "string"], "x"),
        (DECIMAL, Decimal("1234567890123456789012345678.0123456789")),
        ({"type": "int", "logicalType": "date"}, date(2026, 11, 1)),
        ({"type": "long", "logicalType": "time-micros"}, time(6, 30, 0, 1)),
        ({"type": "long", "logicalType": "timestamp-micros"}, MOMENT),
        ({"type": "long", "logicalType": "local-timestamp-micros"}, MOMENT.replace(tzinfo=None)),
        ({"type": "string", "logicalType": "uuid"}, UUID(int=5)),
        ({"type": "enum", "name": "e", "symbols": ["A", "B"]}, "B"),
        ({"type": "array", "items": DECIMAL}, [Decimal("1.5000000000")]),
        ({"type": "map", "values": "long"}, {"a": 1}),
    ],
)
def test_types_are_kept(tmp_path: Path, kind: Any, value: Any) -> None:
    (row,) = read(tmp_path / "x.avro", of_type(kind, value))

    assert row == {"v": value}
    assert type(row["v"]) is type(value)


def test_nanoseconds(tmp_path: Path) -> None:
    whole = int(MOMENT.timestamp()) * 10**9 + 123456000
    nanos = {"type": "long", "logicalType": "timestamp-nanos"}

    assert read(tmp_path / "x.avro", of_type(nanos, whole)) == [{"v": MOMENT}]
    with pytest.raises(SourceError, match=r"x\.avro: record 1: .*nanoseconds, which Python's datetime cannot hold"):
        read(tmp_path / "x.avro", of_type(nanos, whole + 1))
    local = {"type": "long", "logicalType": "local-timestamp-nanos"}
    assert read(tmp_path / "x.avro", of_type(local, whole)) == [{"v": MOMENT.replace(tzinfo=None)}]


@pytest.mark.parametrize("codec", ["null", "deflate", "bzip2", "xz", "zstandard"])
def test_codecs(tmp_path: Path, codec: str) -> None:
    if codec == "zstandard" and sys.version_info < (3, 14):
        pytest.importorskip("backports.zstd")

    assert read(tmp_path / "x.avro", avro(orders(500), codec=codec)) == orders(500)


def test_a_codec_that_is_not_installed(tmp_path: Path) -> None:
    """Snappy's name is as long as deflate's is here."""
    content = avro(orders(3), codec="deflate").replace(b"\x0edeflate", b"\x0csnappy")

    with pytest.raises(SourceError, match=r"x\.avro: record 1: .*snappy codec is supported but you need to install"):
        read(tmp_path / "x.avro", content)


def test_objects_within_objects(tmp_path: Path) -> None:
    inner = {"type": "record", "name": "place", "fields": [{"name": "city", "type": "string"}]}
    content = of_type(inner, {"city": "Bonn"})

    assert read(tmp_path / "x.avro", content) == [{"v": {"city": "Bonn"}}]
    assert read(tmp_path / "x.avro", content, flatten="__") == [{"v__city": "Bonn"}]


def test_packed_and_with_folders(tmp_path: Path) -> None:
    (tmp_path / "day=1").mkdir()
    path = tmp_path / "day=1" / "x.avro.gz"

    assert read(path, gzip.compress(avro(orders(1))), hive_partitioning=True) == [{**orders(1)[0], "day": "1"}]


def test_a_file_without_records(tmp_path: Path) -> None:
    assert read(tmp_path / "x.avro", avro([])) == []


def test_a_file_that_is_cut_off_anywhere(tmp_path: Path) -> None:
    """Only where a block ends it looks like a whole one, since no file says how many there are."""
    whole = avro(orders(40), sync_interval=100)
    path = tmp_path / "x.avro"
    path.write_bytes(whole)
    (file,) = FilesSource(path).files
    sync = whole[-16:]
    ends = {at + 16 for at in range(len(whole)) if whole[at : at + 16] == sync}

    assert len(ends) == 5
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        if size in ends:
            assert len(list(read_rows(file))) < 40
        else:
            with pytest.raises(SourceError, match=r"x\.avro: "):
                list(read_rows(file))


def test_a_damaged_file(tmp_path: Path) -> None:
    whole = avro(orders(40), codec="deflate")
    with pytest.raises(SourceError, match=r"x\.avro: record \d+: "):
        read(tmp_path / "x.avro", whole[:-60] + b"\xff" * 20 + whole[-40:])
    with pytest.raises(SourceError, match=r"x\.avro: record 1: .*is it an avro file"):
        read(tmp_path / "x.avro", b"id\n1\n")


def test_nothing_of_a_damaged_file_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "x.avro").write_bytes(avro(orders(5000))[:-100])
    load = FilesToTableOperator(task_id="load", files=str(tmp_path / "*.avro"), sink=(sink := ListSink()))

    with pytest.raises(RunFailed, match=r"x\.avro: record \d+: "):
        Pipeline(load.source, load.stages, sink).run()
    assert sink.rows == []


def test_the_library_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastavro", None)

    with pytest.raises(SourceError, match=r"x\.avro: to read Avro needs fastavro: pip install 'airflow-.*\[avro\]'"):
        read(tmp_path / "x.avro", avro([]))
