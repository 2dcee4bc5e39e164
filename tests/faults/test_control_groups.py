"""Limits that the kernel sets from outside, as Kubernetes and systemd do."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.support import scripts
from tests.support.control_groups import made_group

MEGABYTE = 1 << 20
JOINED = """
    import json, os, sys
    from pathlib import Path
    Path(sys.argv[1], "cgroup.procs").write_text(str(os.getpid()))
    from airflow_parallel_provider import ListSink, Pipeline, Stage
"""
GREEDY = (
    JOINED
    + """
    def work(number):
        if number == 17:
            return len(b"x" * (1 << 30))
        return number

    rows = ListSink()
    stages = [Stage(abs, name="first"), Stage(abs, name="second"), Stage(work, kind="process", workers=2, name="work")]
    report = Pipeline(range(40), stages, rows, tolerance=1, chunk_size=10, ordered=sys.argv[2] == "ordered").run()
    print(json.dumps([sorted(rows.rows), report.as_dict()]))
"""
)
CAPPED = (
    JOINED
    + """
    report = Pipeline(range(4), [Stage(abs, kind="process", workers=2)], ListSink()).run()
    automatic = Pipeline(range(4), [Stage(abs, kind="process")], ListSink()).run()
    print(json.dumps([report.as_dict()["warnings"], automatic.as_dict()["stages"][0]["workers"]]))
"""
)


def test_a_worker_ended_by_the_kernel_for_lack_of_memory_is_named_as_such(tmp_path: Path) -> None:
    """39+1: its item is charged, with the memory it held; its neighbors arrive."""
    limit = 300 * MEGABYTE
    limits = {"memory.limit_in_bytes": str(limit), "memory.max": str(limit), "memory.swap.max": "0"}
    for order in ("ordered", "as it comes"):
        with made_group("memory", limits) as group:
            rows, report = json.loads(scripts.run(scripts.write_script(tmp_path, GREEDY), str(group), order))

        assert rows == [number for number in range(40) if number != 17]
        (failure,) = report["failures"]
        assert (failure["stage"], failure["count"], failure["sample"]["position"]) == ("work", 1, 17)
        told = re.search(r"killed by the kernel for lack of memory; it held ([\d,]+) bytes", failure["cause"])
        assert told, failure["cause"]
        assert limit / 2 < int(told[1].replace(",", "")) <= limit


def test_a_quota_caps_the_processes(tmp_path: Path) -> None:
    limits = {"cpu.cfs_quota_us": "100000", "cpu.max": "100000 100000"}
    with made_group("cpu", limits) as group:
        warnings, automatic = json.loads(scripts.run(scripts.write_script(tmp_path, CAPPED), str(group)))

    assert [warning for warning in warnings if "this task may use 1 CPUs" in warning]
    assert automatic == 1
