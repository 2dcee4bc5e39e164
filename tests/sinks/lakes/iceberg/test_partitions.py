"""Rows of a chunk by the partitions of a table: the same partitions as pyiceberg's own, and every row in its own."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest

pytest.importorskip("pyiceberg")

from pyiceberg.transforms import (
    BucketTransform,
    DayTransform,
    HourTransform,
    IdentityTransform,
    MonthTransform,
    TruncateTransform,
    YearTransform,
)

from airflow_parallel_provider import RunFailed
from tests.support.lakes import TABLE, Lake, iceberg_catalog, iceberg_table

pytestmark = pytest.mark.airflow

AT = [datetime(2026, 1, 1, 23, 59, tzinfo=UTC), datetime(1969, 12, 31, 1, tzinfo=UTC), None]
DAYS = [date(2026, 2, 1), date(1960, 2, 29), None]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake("iceberg", tmp_path / "table")


def partitioned(lake: Lake, schema: Any, *fields: tuple[str, Any]) -> Any:
    catalog = iceberg_catalog(lake.path)
    catalog.create_namespace_if_not_exists("shop")
    table = catalog.create_table(TABLE, schema)
    with table.update_spec() as spec:
        for n, (column, transform) in enumerate(fields):
            spec.add_field(column, transform, f"p{n}")
    return table


KINDS: list[tuple[Any, Any, Any]] = [
    (pa.string(), ["a", "b", None], IdentityTransform()),
    (pa.int64(), [7, -7, None], IdentityTransform()),
    (pa.bool_(), [True, False, None], IdentityTransform()),
    (pa.date32(), DAYS, IdentityTransform()),
    (pa.timestamp("us", "UTC"), AT, IdentityTransform()),
    (pa.time64("us"), [time(1), time(2), None], IdentityTransform()),
    (pa.decimal128(9, 2), [Decimal("1.10"), Decimal("-3.00"), None], IdentityTransform()),
    (pa.binary(), [b"x", b"\x00", None], IdentityTransform()),
    (pa.uuid(), [UUID(int=1), UUID(int=2), None], IdentityTransform()),
    (pa.date32(), DAYS, YearTransform()),
    (pa.date32(), DAYS, MonthTransform()),
    (pa.timestamp("us", "UTC"), AT, DayTransform()),
    (pa.timestamp("us", "UTC"), AT, HourTransform()),
    (pa.string(), ["abc", "abd", "b"], TruncateTransform(2)),
    (pa.int64(), [11, 12, -1], TruncateTransform(10)),
    (pa.int64(), list(range(40)), BucketTransform(4)),
    (pa.string(), [str(n) for n in range(40)], BucketTransform(3)),
]


@pytest.mark.parametrize(("kind", "values", "transform"), KINDS, ids=lambda each: str(each)[:30])
def test_every_row_is_in_its_partition(lake: Lake, kind: Any, values: Any, transform: Any) -> None:
    partitioned(lake, pa.schema([("id", pa.int64()), ("c", kind)]), ("c", transform))
    rows = pa.table({"id": range(len(values) * 2), "c": pa.array([*values, *values], kind)})

    lake.load(lambda _: rows, [0])

    table = iceberg_table(lake.path)
    assert [row["id"] for row in lake.rows()] == list(range(len(values) * 2))
    function = transform.transform(table.schema().find_field("c").field_type)
    found = {task.file.partition[0] for task in table.scan().plan_files()}
    physical = {date: pa.int32(), datetime: pa.int64(), time: pa.int64()}.get(type(values[0]))
    plain = values if physical is None else pa.array(values, kind).cast(physical).to_pylist()
    assert found == {function(each) for each in plain}
    for value in values[:2]:
        if type(value) in (str, int, bool):
            text = repr(value) if type(value) is str else str(value).lower()
            read = table.scan(row_filter=f"c == {text}").to_arrow()
            assert read["c"].to_pylist() == [value, value]


def test_two_fields_and_chunks_with_rows_of_several_partitions(lake: Lake) -> None:
    schema = pa.schema([("id", pa.int64()), ("name", pa.string()), ("day", pa.date32())])
    partitioned(lake, schema, ("name", IdentityTransform()), ("day", MonthTransform()))

    def stage(number: int) -> Any:
        return {"id": number, "name": "ab"[number % 2], "day": date(2026, 1 + number % 3, 1)}

    lake.load(stage, range(30))
    lake.load(stage, range(30), write_disposition="replace", key="again")

    assert [row["id"] for row in lake.rows()] == list(range(30))
    table = iceberg_table(lake.path)
    assert len(list(table.scan().plan_files())) == 3 * 6
    assert len(list(table.scan(row_filter="name == 'a' and day == '2026-02-01'").plan_files())) == 3
    assert {each["record_count"] for each in table.inspect.partitions().to_pylist()} == {5}


def test_a_partition_of_a_field_in_a_struct_is_refused(lake: Lake) -> None:
    schema = pa.schema([("id", pa.int64()), ("place", pa.struct([("city", pa.string())]))])
    partitioned(lake, schema, ("place.city", IdentityTransform()))

    with pytest.raises(RunFailed, match=r"is partitioned by p0 \(identity of place.city\), which SinkIceberg does not"):
        lake.load(None, [{"id": 1, "place": {"city": "x"}}])
