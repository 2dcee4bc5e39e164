"""Mapped pipelines on a real scheduler: all rows of all task instances are in the table, or the run has failed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.system.conftest import Site

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

TASKS = ["parts", "pipeline"]


def numbers(*parts: int) -> list[int]:
    return [number for part in parts for number in range(part * 1000, part * 1000 + 100)]


def table(site: Site, name: str) -> list[int]:
    return [row[0] for row in site.rows(name)]


def test_mapped_append_and_a_clear_with_fewer_task_instances(site: Site) -> None:
    count = Path(f"{site.gate}.count")
    run = site.start("mapped_append")
    assert site.client.wait_for_run(run.dag_id, run.run_id) == "success"
    assert table(site, "mapped_rows") == numbers(0, 1, 2, 3)

    count.write_text("3")
    try:
        site.client.clear(run.dag_id, run.run_id, TASKS)
        assert site.client.wait_for_run(run.dag_id, run.run_id) == "success"
    finally:
        count.unlink()

    assert table(site, "mapped_rows") == numbers(0, 1, 2)


@pytest.mark.slow  # tests/sinks/load/test_mapped_tasks.py has the rule on every database
def test_mapped_replace_of_one_table_fails_and_says_why(site: Site) -> None:
    run = site.start("mapped_replace")

    assert site.client.wait_for_run(run.dag_id, run.run_id) == "failed"

    tasks = [site.client.task(run.dag_id, run.run_id, "pipeline", index) for index in range(4)]
    assert len([task for task in tasks if task["state"] == "failed"]) >= 3
    assert len(table(site, "mapped_replaced")) in (0, 100)
    assert all(task["try_number"] == 1 for task in tasks), "a retry cannot help"
