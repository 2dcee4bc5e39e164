"""Size estimates: close enough for a bound, cheap for long values, and they raise nothing."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from airflow_parallel_provider.engine.dataflow.size_estimate import estimate_bytes
from airflow_parallel_provider.engine.ipc.serialized import SerializedValue
from tests.support.fakes import Sized


def test_nothing_weighs_nothing() -> None:
    assert estimate_bytes([]) == 0


@pytest.mark.parametrize(
    ("value", "least"),
    [
        (b"x" * 5_000_000, 5_000_000),
        ("x" * 3_000_000, 3_000_000),
        (bytearray(1_000_000), 1_000_000),
        (np.zeros(1_000_000), 8_000_000),
        (SerializedValue(b"x" * 1000, [bytearray(2_000_000)]), 2_001_000),
        ([b"x" * 1_000_000] * 3, 3_000_000),
        (("a", b"x" * 1_000_000), 1_000_000),
        ({"image": b"x" * 1_000_000, "label": b"y" * 1_000_000}, 2_000_000),
        ([[b"x" * 1_000_000]], 1_000_000),
    ],
    ids=lambda value: type(value).__name__,
)
def test_large_values_are_seen(value: Any, least: int) -> None:
    assert least <= estimate_bytes([value]) <= 1.1 * least + 1000


def test_a_batch_of_records_with_images_is_seen() -> None:
    """What a stage with batch_size has in its channel: lists of values, two levels deep."""
    batch = [{"image": np.zeros(100_000, dtype=np.uint8)} for _ in range(10)]

    assert 4_000_000 <= estimate_bytes([batch] * 4) <= 4_400_000


def test_values_of_a_bundle_are_assumed_to_be_alike() -> None:
    assert estimate_bytes([Sized(100)] * 7) == 700


def test_long_lists_are_judged_by_their_first_members() -> None:
    touched: list[int] = []

    class Counted:
        @property
        def nbytes(self) -> int:
            touched.append(1)
            return 10

    size = estimate_bytes([[Counted() for _ in range(10_000)]])

    assert size >= 100_000
    assert len(touched) < 100


def test_a_list_that_holds_itself_ends() -> None:
    loop: list[Any] = []
    loop.append(loop)

    assert estimate_bytes([loop]) > 0


def test_a_size_that_is_no_number_is_not_believed() -> None:
    assert estimate_bytes([type("Lazy", (), {"nbytes": "many"})()]) < 10_000


class Touchy:
    """A proxy outside of its context, as web frameworks have them: whatever is asked of it raises."""

    @property
    def nbytes(self) -> int:
        raise RuntimeError("outside of its context")


class Sizeless:
    def __sizeof__(self) -> int:
        raise RuntimeError("not now")


# An earlier version expected only AttributeError of `nbytes` and only TypeError of `__sizeof__`; any other error of an
# item's own code ended the run with "internal error".
@pytest.mark.parametrize("value", [Touchy(), Sizeless()], ids=lambda value: type(value).__name__)
def test_a_value_whose_size_cannot_be_estimated_is_let_through(value: object) -> None:
    assert estimate_bytes([value]) >= 0


def test_plain_values_weigh_about_what_python_says() -> None:
    assert estimate_bytes([17]) == sys.getsizeof(17)
