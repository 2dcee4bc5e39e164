"""One run of one contestant, in a new process: ``python -m benchmarks.child WORKLOAD CONTESTANT PARAMS RESULT``."""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")

# At module level: a spawned worker runs this file again, as it would run Airflow's main module.
for _module in os.environ.get("BENCH_IMPORTS", "").split():
    importlib.import_module(_module)


def main() -> int:
    """Run the contestant and write its measurements."""
    from benchmarks.workloads import load

    name, contestant, params, result = sys.argv[1:5]
    workload = load(name)
    began, cpu = time.perf_counter(), time.process_time()
    measured = workload.contestants[contestant].run(json.loads(params))
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    measured.setdefault("cpu", time.process_time() - cpu + children.ru_utime + children.ru_stime)
    measured["process_wall"] = time.perf_counter() - began
    Path(result).write_text(json.dumps(measured), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
