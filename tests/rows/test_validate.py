"""``validate=``: whatever it raises rejects the row, and nothing of the row reaches a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_parallel_provider.rows.validate import validate_rows
from tests.support.liars import leave, liar


def refuse(row: dict[str, Any]) -> None:
    if row["id"] == 2:
        json.loads(f"{{{row['id']}")


def exits(row: dict[str, Any]) -> None:
    if row["id"] == 2:
        raise SystemExit(row)


def mute(row: dict[str, Any]) -> None:
    if row["id"] == 2:
        raise liar("__str__", leave, ValueError)("2")


@pytest.mark.parametrize("function", [refuse, exits, mute])
def test_whatever_is_raised_rejects_the_row_and_names_the_authors_line(function: Any) -> None:
    valid, numbers, rejected = validate_rows(function, [{"id": 1}, {"id": 2}, {"id": 3}], None)

    assert valid == [{"id": 1}, {"id": 3}]
    assert numbers == [0, 2]
    (reject,) = rejected
    line = function.__code__.co_firstlineno + 2
    assert reject.cause.endswith(f" ({Path(__file__).name}:{line})")
    assert "{" not in reject.cause
