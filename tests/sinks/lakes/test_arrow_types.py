"""Which Arrow types a lake table keeps, which become others, and which are refused: no value changes."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest

from airflow_parallel_provider.errors import SchemaMismatch
from airflow_parallel_provider.sinks.lakes.arrow_types import DELTA, ICEBERG, fitted
from airflow_parallel_provider.sinks.lakes.delta.delta_publisher import DeltaPublisher
from airflow_parallel_provider.sinks.lakes.encoder import LakeEncoder
from airflow_parallel_provider.sinks.lakes.parquet_files import parquet_file, statistics_of
from airflow_parallel_provider.values.json_text import JsonNumber
from tests.support.lakes import Lake

BERLIN = datetime(2026, 7, 1, 12, 30, 0, 123456, ZoneInfo("Europe/Berlin"))

KEPT = [
    (pa.bool_(), True, pa.bool_(), True),
    *[(kind, -7, kind, -7) for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())],
    (pa.uint8(), 255, pa.int16(), 255),
    (pa.uint16(), 65535, pa.int32(), 65535),
    (pa.uint32(), 2**32 - 1, pa.int64(), 2**32 - 1),
    (pa.uint64(), 2**63 - 1, pa.int64(), 2**63 - 1),
    (pa.float32(), 0.5, pa.float32(), 0.5),
    (pa.float64(), 0.1, pa.float64(), 0.1),
    (pa.float16(), 0.5, pa.float32(), 0.5),
    (pa.decimal128(38, 2), Decimal("1.10"), pa.decimal128(38, 2), Decimal("1.10")),
    (pa.decimal256(38, 2), Decimal("1.10"), pa.decimal128(38, 2), Decimal("1.10")),
    (pa.string(), "ä", pa.string(), "ä"),
    (pa.large_string(), "ä", pa.string(), "ä"),
    (pa.string_view(), "ä", pa.string(), "ä"),
    (pa.binary(), b"\x00", pa.binary(), b"\x00"),
    (pa.large_binary(), b"\x00", pa.binary(), b"\x00"),
    (pa.binary(2), b"\x00\x01", pa.binary(), b"\x00\x01"),
    (pa.date32(), date(2026, 2, 3), pa.date32(), date(2026, 2, 3)),
    (pa.date64(), date(2026, 2, 3), pa.date32(), date(2026, 2, 3)),
    (pa.timestamp("us", "UTC"), BERLIN, pa.timestamp("us", "UTC"), BERLIN.astimezone(UTC)),
    (pa.timestamp("us", "Europe/Berlin"), BERLIN, pa.timestamp("us", "UTC"), BERLIN.astimezone(UTC)),
    (pa.timestamp("ns", "UTC"), BERLIN, pa.timestamp("us", "UTC"), BERLIN.astimezone(UTC)),
    (pa.timestamp("s"), datetime(2026, 1, 1), pa.timestamp("us"), datetime(2026, 1, 1)),  # noqa: DTZ001
    (pa.time64("us"), time(1, 2, 3, 4), pa.string(), "01:02:03.000004"),
    (pa.time32("s"), time(1, 2, 3), pa.string(), "01:02:03.000000"),
    (pa.null(), None, pa.string(), None),
    (pa.dictionary(pa.int8(), pa.string()), "a", pa.string(), "a"),
    (pa.list_(pa.uint8()), [1, 2], pa.list_(pa.int16()), [1, 2]),
    (pa.large_list(pa.int64()), [1], pa.list_(pa.int64()), [1]),
    (pa.list_(pa.int64(), 2), [1, 2], pa.list_(pa.int64()), [1, 2]),
    (pa.struct([("a", pa.large_string())]), {"a": "x"}, pa.struct([("a", pa.string())]), {"a": "x"}),
    (pa.map_(pa.string(), pa.int64()), [("a", 1)], pa.map_(pa.string(), pa.int64()), [("a", 1)]),
]


@pytest.mark.parametrize(("kind", "value", "becomes", "read"), KEPT, ids=lambda each: str(each)[:40])
def test_values_that_are_kept(kind: Any, value: Any, becomes: Any, read: Any, tmp_path: Path) -> None:
    deltalake = pytest.importorskip("deltalake")
    values = [value, None]
    array = pa.array(values, kind) if kind != pa.float16() else pa.array([0.5, None], pa.float32()).cast(kind)
    found = DELTA.adapt(pa.table({"c": array}), "chunk 1")

    assert found.schema.field("c").type == becomes
    deltalake.write_deltalake(str(tmp_path), found)
    stored = deltalake.DeltaTable(str(tmp_path)).to_pyarrow_table().column("c").to_pylist()
    assert stored == [read, None]


OTHERWISE_IN_ICEBERG: dict[Any, tuple[Any, Any]] = {
    pa.int8(): (pa.int32(), -7),
    pa.int16(): (pa.int32(), -7),
    pa.uint8(): (pa.int32(), 255),
    pa.binary(2): (pa.binary(2), b"\x00\x01"),
    pa.time64("us"): (pa.time64("us"), time(1, 2, 3, 4)),
    pa.time32("s"): (pa.time64("us"), time(1, 2, 3)),
    pa.list_(pa.uint8()): (pa.list_(pa.int32()), [1, 2]),
}
"""What an Iceberg table has in place of the last two columns above."""


@pytest.mark.airflow
@pytest.mark.parametrize(
    ("kind", "value", "becomes", "read"),
    [
        *[(kind, value, *OTHERWISE_IN_ICEBERG.get(kind, (becomes, read))) for kind, value, becomes, read in KEPT],
        (pa.uuid(), UUID(int=7), pa.uuid(), UUID(int=7)),
        (pa.list_(pa.time64("us")), [time(1)], pa.list_(pa.time64("us")), [time(1)]),
        (pa.float64(), float("inf"), pa.float64(), float("inf")),
    ],
    ids=lambda each: str(each)[:40],
)
def test_values_that_are_kept_in_an_iceberg_table(
    kind: Any, value: Any, becomes: Any, read: Any, tmp_path: Path
) -> None:
    pytest.importorskip("pyiceberg")
    array = pa.array([value, None], kind) if kind != pa.float16() else pa.array([0.5, None], pa.float32()).cast(kind)
    rows = pa.table({"id": [0, 1], "c": array})
    lake = Lake("iceberg", tmp_path / "table")

    lake.load(lambda _: rows, [0])

    assert ICEBERG.type_of(kind) == becomes
    assert [row["c"] for row in lake.rows()] == [read, None]


@pytest.mark.airflow
def test_not_a_number_is_kept_in_an_iceberg_table(tmp_path: Path) -> None:
    pytest.importorskip("pyiceberg")
    lake = Lake("iceberg", tmp_path / "table")
    rows = pa.table(
        {"id": [0, 1], "c": [float("nan"), 1.0], "all": [float("nan")] * 2, "none": pa.nulls(2, pa.date32())}
    )

    lake.load(lambda _: rows, [0])

    assert repr(lake.rows()) == repr(rows.to_pylist())


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (pa.array([2**63], pa.uint64()), "a value does not fit"),
        (pa.array([1], pa.timestamp("ns")), "a value does not fit"),
        (pa.array([1001], pa.time64("ns")), "a value does not fit"),
        (pa.array([timedelta(1)]), "Iceberg has no such type"),
        (pa.array([Decimal(1)], pa.decimal256(40, 0)), "more than 38 digits"),
    ],
)
def test_values_that_an_iceberg_table_cannot_have(array: Any, reason: str) -> None:
    with pytest.raises(SchemaMismatch, match=rf"chunk 1: column 'c' \(.*\) cannot be written .*{reason}"):
        ICEBERG.adapt(pa.table({"c": array}), "chunk 1")


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (pa.array([2**63], pa.uint64()), "a value does not fit"),
        (pa.array([1], pa.timestamp("ns")), "a value does not fit"),
        (pa.array([1001], pa.time64("ns")), "a value does not fit"),
        (pa.array([timedelta(1)]), "Delta has no such type"),
        (pa.array([Decimal(1)], pa.decimal256(40, 0)), "more than 38 digits"),
        (pa.array([[time(1)]]), "a time inside"),
        (pa.array([(1, 2, 3)], pa.month_day_nano_interval()), "Delta has no such type"),
    ],
)
def test_values_that_are_refused(array: Any, reason: str) -> None:
    with pytest.raises(SchemaMismatch, match=rf"chunk 1: column 'c' \(.*\) cannot be written .*{reason}"):
        DELTA.adapt(pa.table({"c": array}), "chunk 1")


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        (pa.array([7, None]), pa.int16()),
        (pa.array([7]), pa.decimal128(10, 2)),
        (pa.array([7.0, None]), pa.int64()),
        (pa.array([2**53]), pa.float64()),
        (pa.array([0.5, None, float("nan"), float("inf")]), pa.float32()),
        (pa.array([Decimal("1.50")], pa.decimal128(38, 2)), pa.decimal128(5, 1)),
        (pa.array([[1]]), pa.list_(pa.int32())),
        (pa.array([{"a": 1}]), pa.struct([("a", pa.int8())])),
        (pa.array([None, None], pa.string()), pa.struct([("a", pa.int8())])),
    ],
)
def test_values_that_fit_the_table(found: Any, kind: Any) -> None:
    table = fitted(pa.table({"c": found}), pa.schema([("c", kind)]), "chunk 1")

    assert table.schema.field("c").type == kind
    assert repr(table.column("c").to_pylist()).replace(".5)", ".50)") == repr(found.to_pylist()) or all(
        a == b for a, b in zip(table.column("c").to_pylist(), found.to_pylist(), strict=True)
    )


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        (pa.array([2**40]), pa.int32()),
        (pa.array(["7"]), pa.int64()),
        (pa.array([7]), pa.string()),
        (pa.array([True]), pa.int64()),
        (pa.array([1.5]), pa.int64()),
        (pa.array([0.1]), pa.float32()),
        (pa.array([1e300]), pa.float32()),
        (pa.array([2**53 + 1]), pa.float64()),
        (pa.array([0.1]), pa.decimal128(10, 2)),
        (pa.array([Decimal("1.55")]), pa.decimal128(10, 1)),
        (pa.array([Decimal("1.5")]), pa.float64()),
        (pa.array([datetime(2026, 1, 1)]), pa.date32()),  # noqa: DTZ001
        (pa.array([datetime(2026, 1, 1)]), pa.timestamp("us", "UTC")),  # noqa: DTZ001
        (pa.array([BERLIN]), pa.timestamp("us")),
        (pa.array([date(2026, 1, 1)]), pa.timestamp("us")),
        (pa.array([{"a": 1, "b": 2}]), pa.struct([("a", pa.int64())])),
        (pa.array([[0.1]]), pa.list_(pa.float32())),
        (pa.array([b"x"]), pa.string()),
        (pa.array([[1]]), pa.int64()),
    ],
)
def test_values_that_do_not_fit_the_table(found: Any, kind: Any) -> None:
    with pytest.raises(SchemaMismatch, match=r"chunk 1: column 'c' is .* cannot become it unchanged"):
        fitted(pa.table({"c": found}), pa.schema([("c", kind)]), "chunk 1")


NO_NULLS = pa.list_(pa.field("element", pa.int64(), nullable=False))
NO_NULL_VALUES = pa.map_(pa.string(), pa.field("value", pa.int64(), nullable=False))


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (NO_NULLS, [[1], None, []], [[1], [None]]),
        (pa.list_(NO_NULLS), [[[1], None], None], [[[None]]]),
        (pa.struct([("x", NO_NULLS)]), [{"x": [1]}, {"x": None}, None], [{"x": [None]}]),
        (NO_NULL_VALUES, [[("a", 1)], None, []], [[], [("a", None)]]),
    ],
)
def test_nulls_inside_that_the_table_does_not_take(kind: Any, good: list[Any], bad: list[Any]) -> None:
    """Arrow casts them without a word."""
    schema = pa.schema([("c", kind)])

    def array(values: list[Any]) -> Any:
        return pa.array(values, pa.map_(pa.string(), pa.int64()) if pa.types.is_map(kind) else None)

    assert fitted(pa.table({"c": array(good)}), schema, "chunk 1").column("c").to_pylist() == good
    with pytest.raises(SchemaMismatch, match=r"chunk 1: column 'c' .* takes no NULL in its values"):
        fitted(pa.table({"c": array(bad)}), schema, "chunk 1")
    assert fitted(pa.table({"c": array([*bad, None]).slice(len(bad))}), schema, "chunk 1").num_rows == 1


def an_encoder(columns: Any = None) -> LakeEncoder:
    return LakeEncoder(columns, DELTA, DeltaPublisher("nowhere", "a table", dict, lambda _: False))


def encoded(rows: list[Any], schema: Any = None, columns: Any = None) -> Any:
    encoder = an_encoder(columns)
    encoder.schema = schema
    return encoder.table(rows, "chunk 1")


def test_values_of_python() -> None:
    row = {
        "uuid": UUID(int=1),
        "time": time(1, 2),
        "nothing": None,
        "price": Decimal("1.5"),
        "tags": ["a"],
        "at": BERLIN,
    }
    table = encoded([row])

    assert table.to_pylist() == [
        {**row, "uuid": str(UUID(int=1)), "time": "01:02:00.000000", "at": BERLIN.astimezone(UTC)}
    ]
    assert table.schema.field("price").type == pa.decimal128(38, 1)
    assert table.schema.field("nothing").type == pa.string()


def test_numbers_of_json_become_what_the_table_has() -> None:
    rows = [{"c": JsonNumber("0.1")}]

    assert encoded(rows, pa.schema([("c", pa.float64())])).to_pylist() == [{"c": 0.1}]
    assert encoded(rows, pa.schema([("c", pa.decimal128(10, 2))])).to_pylist() == [{"c": Decimal("0.10")}]


def test_a_column_that_begins_with_none_in_the_second_chunk() -> None:
    encoder = an_encoder()
    encoder.table([{"c": 1}], "chunk 1")

    assert encoder.table([{"c": None}], "chunk 2").to_pylist() == [{"c": None}]
    assert encoder.table([{"c": None}, {"c": 3}], "chunk 3").to_pylist() == [{"c": None}, {"c": 3}]
    assert encoder.table([{}, {"c": 3}], "chunk 4").to_pylist() == [{"c": None}, {"c": 3}]


def test_arrow_tables_of_one_chunk_agree() -> None:
    with pytest.raises(SchemaMismatch, match="columns of different types"):
        encoded([pa.table({"c": [1]}), pa.table({"c": ["a"]})])


def test_what_an_attempt_has_written_is_kept_to() -> None:
    first, second = an_encoder(), an_encoder()
    first.table([{"c": 1, "d": "x"}], "chunk 1")
    second.restore(first.state())

    assert second.table([{"d": "y", "c": 2}], "chunk 2").schema == first.schema
    an_encoder().restore(an_encoder().state())


def test_bounds_are_those_of_the_values() -> None:
    table = pa.table(
        {
            "n": [3, None, 1],
            "d": [date(2026, 1, 2), None, date(2026, 1, 1)],
            "t": ["b", "a", None],
            "long": ["x" * 100, "y", None],
            "f": [float("nan"), 1.0, None],
            "none": pa.nulls(3, pa.int64()),
            "list": [[1], None, []],
        }
    )
    found = statistics_of(parquet_file(table)[1], table.schema)

    assert found["minValues"] == {"n": 1, "d": "2026-01-01"}
    assert found["maxValues"] == {"n": 3, "d": "2026-01-02"}
    assert found["nullCount"] == {"n": 1, "d": 1, "t": 1, "long": 1, "f": 1, "none": 3}
