"""What becomes of calls that fail: retries and halves of batches are counted apart."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest

from airflow_parallel_provider import Retry, Stage
from tests.support.running import run_pipeline

BAD = 5


def batched(calls: list[list[int]], failures: Counter[str], *, always: bool) -> Any:
    lock = threading.Lock()

    def work(batch: list[int]) -> list[int]:
        with lock:
            calls.append(batch)
            failures["made"] += BAD in batch
        if BAD in batch and (always or failures["made"] == 1):
            raise ValueError("bad")
        return batch

    return work


@pytest.mark.parametrize("attempts", [1, 3])
def test_halves_are_no_retries(attempts: int) -> None:
    calls: list[list[int]] = []
    stage = Stage(batched(calls, Counter(), always=True), batch_size=8, workers=2, retry=Retry(attempts, backoff=0.0))

    ran = run_pipeline(range(8), [stage], tolerance=1)

    report = ran.report.stages[0]
    assert sorted(ran.rows) == [item for item in range(8) if item != BAD]
    assert (report.retried, report.halved, report.failed) == (attempts - 1, 6, 1)
    assert report.calls == len(calls) == 1 + report.retried + report.halved
    assert "work: 6 calls (" in str(ran.report)
    assert "with halves of batches" in str(ran.report)


def test_retries_are_no_halves() -> None:
    calls: list[list[int]] = []
    stage = Stage(batched(calls, Counter(), always=False), batch_size=8, workers=1, retry=Retry(2, backoff=0.0))

    ran = run_pipeline(range(8), [stage])

    report = ran.report.stages[0]
    assert sorted(ran.rows) == list(range(8))
    assert (report.retried, report.halved, report.failed) == (1, 0, 0)
    assert "halves" not in str(ran.report)
