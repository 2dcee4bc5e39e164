"""Large values through real worker processes: bit for bit, by way of shared memory, and nothing is left of it."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airflow_parallel_provider import Stage
from tests.support.running import Ran, run_pipeline

EIGHT_MB = 8 << 20


def make(kind: str, number: int, size: int = EIGHT_MB) -> Any:
    """A value that nothing but itself is equal to."""
    array = np.arange(size // 8, dtype=np.int64) * (number + 3)
    if kind == "array":
        return array
    return array.tobytes() if kind == "bytes" else bytearray(array)


def made(kind: str) -> Any:
    return lambda number: make(kind, number)


def reversed_halves(value: Any) -> Any:
    """What a second stage does: it must see the whole value."""
    middle = len(value) // 2
    if isinstance(value, np.ndarray):
        return np.concatenate([value[middle:], value[:middle]])
    return value[middle:] + value[:middle]


def turned_twice(value: Any) -> Any:
    return reversed_halves(value)


def check(rows: list[Any], kind: str) -> None:
    assert len(rows) == 4
    for number, row in enumerate(rows):
        expected = make(kind, number)
        assert type(row) is type(expected)
        if kind == "array":
            assert row.dtype == expected.dtype
            assert row.tobytes() == expected.tobytes()
        else:
            assert row == expected


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """What waits for the garbage collector is the business of one test below, not of all."""
    yield
    gc.collect()


def mapped_arenas(*, collect: bool = True) -> int:
    """How many mappings of worker memory this process has."""
    if collect:
        gc.collect()
    return Path("/proc/self/maps").read_text().count("memfd:parallel-pipeline")


def run(*stages: Stage) -> Ran:
    ran = run_pipeline(range(4), stages, ordered=True, chunk_size=2, timeout=150.0)
    assert ran.error is None, ran.error
    return ran


@pytest.mark.parametrize("kind", ["array", "bytes", "bytearray"])
def test_through_one_process_stage(kind: str) -> None:
    ran = run(Stage(made(kind), name="make", kind="process", workers=2))

    check(ran.rows, kind)
    del ran
    assert mapped_arenas() == 0


def test_through_chained_process_stages() -> None:
    """Made in one, turned in the next and turned back in a third: forwarded unopened twice."""
    ran = run(
        Stage(made("array"), name="make", kind="process", workers=1),
        Stage(reversed_halves, kind="process", workers=1),
        Stage(turned_twice, kind="process", workers=1),
    )

    check(ran.rows, "array")
    del ran
    assert mapped_arenas() == 0


def test_values_given_to_a_worker_arrive_bit_for_bit_too() -> None:
    values = [make("array", number) for number in range(4)]

    ran = run_pipeline(values, [Stage(reversed_halves, kind="process", workers=2)], ordered=True, timeout=150.0)

    for value, row in zip(values, ran.rows, strict=True):
        assert row.tobytes() == reversed_halves(value).tobytes()


def test_arrays_in_batches_are_shared_too() -> None:
    stage = Stage(turn_each, kind="process", workers=1, batch_size=4)
    values = [make("array", number, 1 << 20) for number in range(10)]

    ran = run_pipeline(
        values, [stage, Stage(turn_each, name="b", kind="process", batch_size=3, workers=1)], ordered=True
    )

    for value, row in zip(values, ran.rows, strict=True):
        assert row.tobytes() == value.tobytes()


def turn_each(batch: list[Any]) -> list[Any]:
    return [reversed_halves(value) for value in batch]


def test_results_can_be_written_to_and_outlive_the_run() -> None:
    ran = run(Stage(made("array"), name="make", kind="process", workers=1))
    row = ran.rows[3]
    del ran

    row[0] = 99

    assert row[0] == 99
    assert row[1:].tobytes() == make("array", 3)[1:].tobytes()
    del row
    assert mapped_arenas() == 0


def test_a_worker_killed_while_it_holds_shared_memory_leaves_nothing() -> None:
    """It has eight megabytes in each direction; the rows that came before stay good."""
    values = [make("array", number) for number in range(4)]

    ran = run_pipeline(
        values, [Stage(die_with_value, kind="process", workers=1)], ordered=True, tolerance=1, timeout=150.0
    )

    assert ran.positions == [2]
    assert ran.dead_letters[0].cause.startswith("WorkerLost")
    assert "SIGKILL" in ran.dead_letters[0].cause
    assert [row.tobytes() for row in ran.rows] == [(values[number] + 1).tobytes() for number in (0, 1, 3)]
    del ran
    assert mapped_arenas() == 0


def test_memory_goes_with_the_rows_and_does_not_wait_for_the_garbage_collector() -> None:
    """A run is a cycle of references, and so is what it was made of; but no row hangs on it."""
    gc.collect()
    gc.disable()
    try:
        ran = run(Stage(made("array"), name="make", kind="process", workers=1))
        assert mapped_arenas(collect=False) > 0, "the rows lie in it"
        ran.rows.clear()
        left = mapped_arenas(collect=False)
    finally:
        gc.enable()

    assert left == 0


def die_with_value(value: Any) -> Any:
    if value[1] == 5:  # the third one
        os.kill(os.getpid(), signal.SIGKILL)
    return value + 1
