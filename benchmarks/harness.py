"""Runs contestants in new processes, one at a time, in turns, and records all results and failures."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from benchmarks import machine
from benchmarks.spec import Contestant, Medians, Params, Workload

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"
SETTLE = 1.0
"""Seconds after which a process that a contestant leaves running counts as left behind."""
QUIET, DISTURBED = 0.25, 0.6
"""Cores in use by other programs: a run waits (for a while) for fewer than the first; above the second it repeats."""
REPEATS = 2


class Bench:
    """The environment of contestants: without the user's settings, with its own Airflow home."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._migrated = False

    def environment(self, workload: Workload, mark: str) -> dict[str, str]:
        """The environment variables of one child."""
        kept = {name: value for name, value in os.environ.items() if not name.lstrip("_").startswith("AIRFLOW")}
        kept.pop("PYTHONDONTWRITEBYTECODE", None)  # with it every start would compile, unlike in a deployment
        return {
            **kept,
            "BENCH_RUN": mark,
            "BENCH_IMPORTS": workload.imports,
            "BENCH_HOME": str(self.home),
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.home / "dags"),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.home / 'airflow.db'}",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_DEDUP_LOGS": "0",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }

    def prepare(self, workload: Workload) -> None:
        """Create Airflow's database once, if a workload needs it."""
        (self.home / "dags").mkdir(exist_ok=True)
        if not workload.database or self._migrated:
            return
        command = [sys.executable, "-m", "airflow", "db", "migrate"]
        env = self.environment(workload, "")
        subprocess.run(command, env=env, check=True, capture_output=True, timeout=180, cwd=self.home)
        self._migrated = True

    def run(self, workload: Workload, contestant: Contestant, params: Params) -> dict[str, Any]:
        """Run a contestant once; return its measurements, or the reason of its failure."""
        mark = uuid.uuid4().hex
        result, errors = self.home / f"{mark}.json", self.home / f"{mark}.err"
        command = [sys.executable, "-m", "benchmarks.child", workload.name, contestant.name, json.dumps(params)]
        load, began = machine.load_average(), time.perf_counter()
        with errors.open("wb") as stderr:
            process = subprocess.Popen(
                [*command, str(result)],
                env=self.environment(workload, mark),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                start_new_session=True,
            )
            try:
                code: int | None = process.wait(contestant.limit)
            except subprocess.TimeoutExpired:
                code = None
        run: dict[str, Any] = {"load_before": load, "seconds": round(time.perf_counter() - began, 3)}
        left = _end_all(mark, wait=0.0 if code is None else SETTLE)
        process.wait()
        if code is None:
            run["failed"] = f"not finished after {contestant.limit:g} s"
        elif code or not result.exists():
            run["failed"] = f"exit code {code}: {_last_line(errors)}"
        else:
            run.update(json.loads(result.read_text(encoding="utf-8")))
            if left:
                run["left_behind"] = left
        for file in (result, errors):
            file.unlink(missing_ok=True)
        return run


def busy_cores(seconds: float = 0.2) -> float:
    """Cores in use while the harness is idle: the work of other programs, and time that the host took away."""
    before = psutil.cpu_times()
    time.sleep(seconds)
    after = psutil.cpu_times()
    spent = {name: getattr(after, name) - getattr(before, name) for name in after._fields if "guest" not in name}
    total, idle = sum(spent.values()), spent["idle"] + spent.get("iowait", 0.0)
    return round((1 - idle / total) * machine.cpus(), 2) if total else 0.0


def await_quiet(patience: float) -> float:
    """Wait until other programs leave the cores, at most ``patience`` seconds; return the cores they still use."""
    deadline = time.monotonic() + patience
    while (busy := busy_cores()) > QUIET and time.monotonic() < deadline:
        time.sleep(0.5)
    return busy


def undisturbed(
    bench: Bench, workload: Workload, contestant: Contestant, params: Params, *, patience: float
) -> dict[str, Any]:
    """A run that no other program disturbed, or the third run after two disturbed ones."""
    run: dict[str, Any] = {}
    for repeat in range(REPEATS + 1):
        before = await_quiet(patience)
        run = bench.run(workload, contestant, params)
        after = busy_cores()
        run.update({"busy_before": before, "busy_after": after})
        if max(before, after) <= DISTURBED:
            return run
        run.update({"disturbed": True, "repeats": repeat})
        if "failed" in run or not patience:
            return run
    return run


def _end_all(mark: str, wait: float) -> int:
    """Kill the processes that a run has left behind, found by a variable in their environment; return their number."""
    deadline = time.monotonic() + wait
    while (left := list(_marked(mark))) and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, timeout=5)
    return len(left)


def _marked(mark: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("BENCH_RUN") == mark and process.status() != psutil.STATUS_ZOMBIE:
                yield process


def _last_line(errors: Path) -> str:
    """The last line of a failed run's output, without paths of this machine."""
    lines = [line.strip() for line in errors.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    text = lines[-1] if lines else "(no output)"
    return re.sub(r"(/[\w.\-]+){2,}/", "", text)[:300]


def measure(
    workload: Workload, params: Params, *, rounds: int, only: list[str], bench: Bench, patience: float
) -> dict[str, Any]:
    """Run all contestants in turns, ``rounds`` times; a contestant that hung does not run again."""
    bench.prepare(workload)
    contestants = [each for each in workload.contestants.values() if not only or each.name in only]
    runs: dict[str, list[dict[str, Any]]] = {each.name: [] for each in contestants}
    began = dt.datetime.now(dt.UTC)
    for number in range(rounds):
        for contestant in contestants:
            if any("not finished" in run.get("failed", "") for run in runs[contestant.name]):
                continue
            run = undisturbed(bench, workload, contestant, params, patience=patience)
            runs[contestant.name].append(run)
            shown = run.get("failed") or f"{run.get(workload.metric, float('nan')):.6g} {workload.unit}"
            print(f"  {number + 1}/{rounds}  {contestant.name:<44} {shown}", flush=True)
    return {
        "workload": workload.name,
        "title": workload.title,
        "what": workload.what,
        "timed": workload.timed,
        "metric": workload.metric,
        "unit": workload.unit,
        "best": workload.best,
        "params": params,
        "rounds": rounds,
        "began": began.isoformat(timespec="seconds"),
        "machine": machine.describe(),
        "contestants": {each.name: summary(each, runs[each.name]) for each in contestants},
    }


def summary(contestant: Contestant, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Median, minimum and maximum of each metric, and all failures."""
    good = [run for run in runs if "failed" not in run]
    names = [name for name in (good[0] if good else {}) if isinstance(good[0][name], (int, float))]
    columns = {name: [run[name] for run in good if name in run] for name in names}
    return {
        "config": contestant.config,
        "median": {name: statistics.median(values) for name, values in columns.items()},
        "min": {name: min(values) for name, values in columns.items()},
        "max": {name: max(values) for name, values in columns.items()},
        "failures": [run["failed"] for run in runs if "failed" in run],
        "runs": runs,
    }


def medians(result: dict[str, Any]) -> Medians:
    """The medians of all contestants with at least one successful run."""
    return {name: each["median"] for name, each in result["contestants"].items() if each["median"]}


@contextlib.contextmanager
def bench() -> Iterator[Bench]:
    """A bench whose files are deleted at the end."""
    home = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        yield Bench(home)
    finally:
        shutil.rmtree(home, ignore_errors=True)
