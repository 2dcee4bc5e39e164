"""Values that stay serialized between two process stages come out equal, and large bytes travel outside the pickle."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from airflow_parallel_provider.engine.ipc import wire
from airflow_parallel_provider.engine.ipc.arena import SHARED_FROM
from airflow_parallel_provider.engine.ipc.serialized import SerializedValue, deserialize, deserialize_all, out_of_band
from airflow_parallel_provider.engine.processes.worker_main import serialized_result

VALUES: list[Any] = [
    None,
    7,
    "text",
    {"a": [1, 2, (3, 4)]},
    b"small",
    b"l" * (SHARED_FROM + 5),
    bytearray(b"m" * (SHARED_FROM + 5)),
    [b"n" * SHARED_FROM, bytearray(3)],
]


def across(value: Any) -> Any:
    """Over a process border and back: pickled, with its buffers out of band."""
    payload, buffers = wire.dump(value)
    return pickle.loads(payload, buffers=[bytearray(buffer) for buffer in buffers])


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{type(value).__name__}-{str(value)[:8]}")
def test_a_sealed_value_is_forwarded_and_opened_equal(value: Any) -> None:
    """SerializedValue in one worker, passed on by the task process, opened in another worker."""
    first = across([serialized_result(value)])
    second = across(first)

    result = deserialize_all(second, batched=False)[0]

    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize("dtype", ["float64", "uint8", "complex64", "datetime64[s]", "U5"])
def test_arrays_are_forwarded_bit_for_bit(dtype: str) -> None:
    array = np.arange(20_000).astype(dtype).reshape(100, 200)[:, ::2]

    result = deserialize(across(across(serialized_result(array))))

    assert result.dtype == array.dtype
    assert result.tobytes() == array.tobytes()
    assert result.shape == (100, 100)


def test_batches_are_opened_item_by_item() -> None:
    assert deserialize_all([[serialized_result(1), 2], [serialized_result("3")]], batched=True) == [[1, 2], ["3"]]
    assert deserialize_all([serialized_result(1), 2], batched=False) == [1, 2]


def test_a_class_that_cannot_be_imported_is_sealed_by_value() -> None:
    class Local:
        value = 5

    assert deserialize(across(serialized_result(Local()))).value == 5


def test_the_weight_of_a_sealed_value_is_that_of_its_parts() -> None:
    made = serialized_result(np.zeros(100_000))

    assert 800_000 < made.nbytes < 801_000
    assert SerializedValue(b"12345", [bytearray(10), b"x" * 5]).nbytes == 20


def test_only_large_bytes_travel_outside_the_pickle() -> None:
    values = [b"x" * SHARED_FROM, b"small", bytearray(SHARED_FROM), "text"]

    payload, buffers = wire.dump(out_of_band(values))

    assert sorted(buffer.nbytes for buffer in buffers) == [SHARED_FROM, SHARED_FROM]
    assert len(payload) < 1000
    assert pickle.loads(payload, buffers=[bytearray(buffer) for buffer in buffers]) == values


@pytest.mark.parametrize(
    "values", [[], [1, b"x" * SHARED_FROM], [{"a": b"x" * SHARED_FROM}]], ids=["none", "int", "dict"]
)
def test_values_that_do_not_begin_with_bytes_are_left_as_they_are(values: list[Any]) -> None:
    assert out_of_band(values) is values
