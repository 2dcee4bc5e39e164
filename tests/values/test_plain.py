"""Values of subclasses become those that they hold, whatever their own methods say."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_parallel_provider.values.plain import plain
from tests.support.liars import LyingBytes, LyingDict, LyingFloat, LyingInt, LyingList, LyingTuple


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (LyingInt(5), 5),
        (LyingFloat(1.5), 1.5),
        (LyingBytes(b"b"), b"b"),
        (memoryview(b"abcd")[::2], b"ac"),
        (bytearray(b"b"), b"b"),
        (LyingList([1, 2], 0), [1, 2]),
        (LyingTuple((1, 2)), [1, 2]),
        (LyingDict(a=1), {"a": 1}),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_value_is_what_it_holds(value: Any, expected: Any) -> None:
    found = plain(value)

    assert found == expected
    assert type(found) is type(expected)
