# SPDX-License-Identifier: Apache-2.0
"""Arguments and exit codes. Results go to standard output, progress and errors to standard error."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from airflow_parallel_provider.cli.loadtest.settings import Injection, parse_injection
from airflow_parallel_provider.cli.target import TargetError, load_pipeline
from airflow_parallel_provider.errors import PlanError

DONE, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130

_TARGET = "module:attribute or path/to/file.py:attribute; a Pipeline, or a function without arguments that returns one"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    :return: the exit code: 0 success; 1 the run or a check of the load test failed; 2 wrong usage, nothing was run; 130
        stopped by Ctrl-C (143 by SIGTERM).
    """
    options = _parser().parse_args(arguments)
    try:
        pipeline = load_pipeline(options.target)
        command: Callable[[Any, argparse.Namespace], int] = options.command
        return command(pipeline, options)
    except (TargetError, PlanError) as error:
        sys.stderr.write(f"error: {error}\n")
        return MISUSED
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return INTERRUPTED


def _run(pipeline: Any, options: argparse.Namespace) -> int:
    from airflow_parallel_provider.cli.run_command import run

    return run(pipeline, json=options.json, quiet=options.quiet)


def _loadtest(pipeline: Any, options: argparse.Namespace) -> int:
    from airflow_parallel_provider.cli.loadtest.command import run_load_test
    from airflow_parallel_provider.cli.loadtest.settings import LoadTestSettings

    seconds = options.seconds
    if options.items is None and seconds is None:
        seconds = 10.0
    settings = LoadTestSettings(
        items=options.items,
        seconds=seconds,
        inject=options.inject,
        seed=options.seed,
        real_sink=options.real_sink,
        keep_tolerance=options.keep_tolerance,
        stall_timeout=options.stall_timeout,
        max_slowdown=options.max_slowdown,
        max_variation=options.max_variation,
        max_growth=options.max_growth * 2**20,
    )
    return run_load_test(pipeline, settings, target=options.target, json=options.json, quiet=options.quiet)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_parallel_provider", description="Run a pipeline in this terminal, without Airflow."
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    run = commands.add_parser("run", help="run a pipeline and watch it", description=_run_help)
    run.set_defaults(command=_run)
    load = commands.add_parser("loadtest", help="run a pipeline under load and with faults", description=_loadtest_help)
    load.set_defaults(command=_loadtest)
    for each in (run, load):
        each.add_argument("target", help=_TARGET)
        each.add_argument("--json", action="store_true", help="print the result as JSON")
        each.add_argument("--quiet", action="store_true", help="show no progress")
    _add_load_options(load)
    return parser


_run_help = "Run a pipeline with a live view of its stages, then print the report. Without a sink, rows are counted."
_loadtest_help = (
    "Repeat a pipeline's source for a number of items or seconds, optionally with faults. Judge throughput, stability "
    "and memory, and whether every item is accounted for. A sink that only counts takes the place of the real one."
)


def _add_load_options(load: argparse.ArgumentParser) -> None:
    add = load.add_argument
    add("--items", type=_whole, metavar="N", help="stop after N items; the source is repeated as often as necessary")
    add("--seconds", type=_positive, metavar="S", help="stop reading after S seconds (default, without --items: 10)")
    add(
        "--inject",
        type=_injection,
        default=(),
        metavar="FAULTS",
        help="comma-separated: error, kill (process stages), stall; each with an optional share: error:0.05,kill",
    )
    add("--seed", type=int, default=0, help="chooses the items that meet a fault (default 0)")
    add("--real-sink", action="store_true", help="commit into the pipeline's own sink")
    add("--keep-tolerance", action="store_true", help="with --inject: keep the pipeline's own tolerance")
    add(
        "--stall-timeout",
        type=_positive,
        default=1.0,
        metavar="S",
        help="timeout of stages that have none, for stall (default 1)",
    )
    add(
        "--max-slowdown",
        type=_positive,
        default=0.3,
        metavar="F",
        help="share by which the rate may fall from start to end (default 0.3)",
    )
    add(
        "--max-variation",
        type=_positive,
        default=0.5,
        metavar="F",
        help="largest coefficient of variation of the rate (default 0.5)",
    )
    add(
        "--max-growth",
        type=_positive,
        default=16.0,
        metavar="MIB",
        help="MiB that memory may grow by, or a tenth of it if that is more (default 16)",
    )


def _whole(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: give a whole number from 1")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: give a number above 0")
    return value


def _injection(text: str) -> tuple[Injection, ...]:
    try:
        return parse_injection(text)
    except PlanError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
