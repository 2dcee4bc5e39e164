"""Arrow columns of one type as those of another: the same values, or an error."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from airflow_parallel_provider.sinks.files.exact_casts import NotExact, exact_cast

MOMENT = datetime(2026, 1, 1)  # noqa: DTZ001


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("01", pa.int64()),
        ("2026-01-01", pa.date32()),
        ("x", pa.binary()),
        (b"x", pa.string()),
        (5, pa.string()),
        (5, pa.date32()),
        (5, pa.timestamp("us")),
        (5, pa.time64("us")),
        (5, pa.duration("us")),
        (7, pa.bool_()),
        (2**53 + 1, pa.float64()),
        (1.5, pa.int64()),
        (1.1, pa.string()),
        (0.1, pa.float32()),
        (True, pa.int64()),
        (True, pa.float64()),
        (Decimal("1.5"), pa.int64()),
        (date(2026, 1, 1), pa.timestamp("us")),
        (date(2026, 1, 1), pa.string()),
        (MOMENT, pa.date32()),
        (MOMENT, pa.timestamp("us", "UTC")),
        (MOMENT.replace(microsecond=1), pa.timestamp("ms")),
        (timedelta(1), pa.int64()),
        (["01"], pa.list_(pa.int64())),
        ([1.0], pa.list_(pa.int64())),
        ([Decimal("1.5")], pa.list_(pa.int64())),
        ({"a": 5}, pa.struct([("a", pa.date32())])),
        ({"a": 1, "b": 2}, pa.struct([("a", pa.int64())])),
    ],
    ids=str,
)
def test_values_that_would_be_others_are_refused(value: Any, kind: Any) -> None:
    for column in (pa.array([value]), pa.chunked_array([[value, None]])):
        with pytest.raises((NotExact, pa.ArrowInvalid)):
            exact_cast(column, kind)


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        (pa.array([1, None]), pa.float64()),
        (pa.array([2.0, None]), pa.int64()),
        (pa.array([Decimal("2.0")]), pa.int64()),
        (pa.array([7]), pa.decimal128(38, 2)),
        (pa.array([0.5, None, float("inf")]), pa.float32()),
        (pa.array([1], pa.uint64()), pa.int64()),
        (pa.array(["ä"], pa.large_string()), pa.string()),
        (pa.array(["ä", None]).dictionary_encode(), pa.string()),
        (pa.array([b"x"], pa.large_binary()), pa.binary()),
        (pa.array([date(2026, 1, 1)], pa.date64()), pa.date32()),
        (pa.array([MOMENT], pa.timestamp("s")), pa.timestamp("us")),
        (pa.array([time(1)], pa.time32("s")), pa.time64("us")),
        (pa.array([timedelta(1)], pa.duration("s")), pa.duration("us")),
        (pa.array([[1], None], pa.large_list(pa.int8())), pa.list_(pa.int64())),
        (pa.array([None, None], pa.string()), pa.date32()),
    ],
    ids=str,
)
def test_the_same_values_as_another_type(found: Any, kind: Any) -> None:
    cast = exact_cast(found, kind)

    assert (cast.type, cast.to_pylist()) == (kind, found.to_pylist())


def test_fields_of_a_struct_that_a_value_lacks_are_null() -> None:
    kind = pa.struct([("b", pa.int64()), ("a", pa.int64())])

    assert exact_cast(pa.array([{"a": 1}]), kind).to_pylist() == [{"a": 1, "b": None}]
