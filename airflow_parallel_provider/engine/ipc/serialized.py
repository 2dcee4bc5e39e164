# SPDX-License-Identifier: Apache-2.0
"""Values that stay pickled between two process stages: the task process passes their bytes on without unpickling."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any, Final

from airflow_parallel_provider.engine.ipc.arena import SHARED_FROM

SERIALIZE_FROM_BYTES: Final = 1 << 15
"""Mean bytes of a result from which it is cheaper to leave it pickled in the task process."""


class SerializedValue:
    """One pickled value.

    :param rows: how many rows it has, if it is a table.
    """

    __slots__ = ("buffers", "payload", "rows")

    def __init__(self, payload: Any, buffers: Sequence[Any], rows: int = 0) -> None:
        self.rows = rows
        self.payload = payload
        self.buffers = buffers

    @property
    def nbytes(self) -> int:
        """Bytes of all parts."""
        return len(self.payload) + sum(memoryview(buffer).nbytes for buffer in self.buffers)

    def deserialize(self) -> Any:
        """Unpickle the value."""
        return pickle.loads(self.payload, buffers=self.buffers)  # noqa: S301 - pickled by this run's own workers

    def __reduce__(self) -> tuple[Any, ...]:
        return SerializedValue, (self.payload, [pickle.PickleBuffer(buffer) for buffer in self.buffers], self.rows)


def deserialize(value: Any) -> Any:
    """The value itself, serialized or not."""
    return value.deserialize() if type(value) is SerializedValue else value


def deserialize_all(values: Sequence[Any], *, batched: bool) -> Sequence[Any]:
    """The values of a message, each deserialized."""
    if batched:
        return [[deserialize(value) for value in batch] for batch in values]
    return [deserialize(value) for value in values]


class _Bytes:
    """A large ``bytes`` or ``bytearray``, which pickle itself would copy into its stream."""

    __slots__ = ("value",)

    def __init__(self, value: bytes | bytearray) -> None:
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self.value), (pickle.PickleBuffer(self.value),)


def out_of_band(values: list[Any]) -> list[Any]:
    """Wrap large bytes so that they travel outside the pickle stream, without a copy.

    Only the first value is looked at: the values of a stage are of one type.
    """
    if not values or type(values[0]) not in (bytes, bytearray):
        return values
    return [
        _Bytes(value) if type(value) in (bytes, bytearray) and len(value) >= SHARED_FROM else value for value in values
    ]
