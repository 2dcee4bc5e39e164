"""Moments in the ledger are exact to the microsecond: of two loads within a second, it knows the later one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_parallel_provider.sinks.ledger import loads
from tests.support.databases import SPEC, TestDatabase, on_each_backend

pytestmark = pytest.mark.airflow
LOADS = "airflow_parallel_ledger__loads"


def at(microsecond: int) -> Any:
    return lambda: datetime(2026, 11, 30, 3, 0, 0, microsecond, UTC).replace(tzinfo=None)


@on_each_backend
def test_two_loads_within_a_second(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = ["c", "a", "d", "b"]  # in the order of their ids they would not be sorted by their time
    for number, key in enumerate(keys):
        monkeypatch.setattr(loads, "now", at(999_900 + number))
        with database.opened(spec=replace(SPEC, load_key=key)) as hook:
            hook.write_chunk("0", [{"id": number}], first_position=0)

    found = database.rows(LOADS, "begun_at, load_key", "begun_at")

    assert [key for _, key in found] == keys
    assert [str(begun)[-6:] for begun, _ in found] == [f"{999_900 + number}" for number in range(4)]
