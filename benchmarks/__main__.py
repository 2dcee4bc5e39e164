"""``python -m benchmarks [WORKLOAD ...] [--rounds N] [--quick]``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks import machine, report
from benchmarks.harness import RESULTS, bench, measure
from benchmarks.workloads import NAMES, load


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="The engine and its peers, side by side.")
    parser.add_argument("workload", nargs="*", help=f"default: all of {', '.join(NAMES)}")
    parser.add_argument("--rounds", type=int, help="runs of each contestant (default: 5; long workloads less)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, one round, nothing is written")
    parser.add_argument("--only", action="append", default=[], metavar="CONTESTANT", help="may be given several times")
    parser.add_argument("--out", type=Path, help="folder for the JSON files (default: benchmarks/results)")
    parser.add_argument("--patience", type=float, default=20.0, help="seconds a run waits for free cores (default: 20)")
    parser.add_argument("--report", action="store_true", help="measure nothing: write RESULTS.md and the plot again")
    options = parser.parse_args()
    if unknown := set(options.workload) - set(NAMES):
        parser.error(f"no such workload: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    out = options.out or (None if options.quick or options.only else RESULTS)
    if not options.report:
        _measure(options, out)
    if options.report or out == RESULTS:
        report.write()
    return 0


def _measure(options: argparse.Namespace, out: Path | None) -> None:
    patience = 0.0 if options.quick else options.patience
    with bench() as place:
        for name in options.workload or NAMES:
            workload = load(name)
            rounds = options.rounds or (1 if options.quick else workload.rounds)
            print(f"{workload.title}   (load average {machine.load_average()})", flush=True)
            params = workload.quick if options.quick else workload.full
            result = measure(workload, params, rounds=rounds, only=options.only, bench=place, patience=patience)
            print(report.text_table(workload, result), flush=True)
            if out is not None:
                out.mkdir(parents=True, exist_ok=True)
                text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
                (out / f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
