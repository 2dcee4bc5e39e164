"""The sums that the Pipeline tab makes of shards; its JavaScript runs in the Node that Playwright brings."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

import airflow_parallel_provider.plugins

STATIC = Path(airflow_parallel_provider.plugins.__file__).parent / "static"


def call(expression: str, **values: Any) -> Any:
    """The JSON of an expression over ``sums`` and some values."""
    from playwright._impl._driver import compute_driver_executable

    found = compute_driver_executable()
    node = found[0] if isinstance(found, tuple) else found
    names = "".join(f"const {name} = {json.dumps(value)};" for name, value in values.items())
    module = f"const sums = await import({json.dumps((STATIC / 'sums.js').as_uri())}); {names}"
    command = [node, "--input-type=module", "-e", f"{module} console.log(JSON.stringify({expression}))"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def shard(seconds: float, state: str = "success", **snapshot: Any) -> dict[str, Any]:
    return {"state": state, "snapshot": {"seconds": seconds, "updated_at": "2026-11-30T12:00:00Z", **snapshot}}


pytest.importorskip("playwright")


def test_the_end_of_a_sharded_load_is_not_counted_again() -> None:
    tasks = [
        ["load.shard", [shard(2, part="shard", items_read=30), shard(3, part="shard", items_read=20)]],
        ["load.finish", [shard(1, part="finish", items_read=50)]],
        ["other", [shard(1, items_read=7)]],
        ["alone.finish", [shard(1, part="finish", items_read=100)]],
    ]
    assert call("sums.sumOf(sums.withoutEnds(new Map(tasks))).items_read", tasks=tasks) == 157


@pytest.mark.parametrize(
    ("shards", "slowest"),
    [
        ([shard(10), shard(11), shard(30)], 2),
        ([shard(10), shard(11), shard(12)], None),
        ([shard(30), shard(8, "running", seconds_left=60), shard(31)], 1),
        ([shard(30)], None),
    ],
)
def test_the_shard_that_holds_up_the_others_is_marked(shards: list[Any], slowest: int | None) -> None:
    found = call("shards.indexOf(sums.slowestOf(shards))", shards=shards)
    assert found == (-1 if slowest is None else slowest)
