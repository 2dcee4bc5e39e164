"""Arrow tables into a lake table, all of a load in one commit, compared with one write of the bare library."""

from __future__ import annotations

import gc
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from airflow_parallel_provider import Pipeline, SinkDelta, SinkIceberg, Stage
from benchmarks.spec import OURS, Measured, Medians, Params, Workload, check
from benchmarks.workloads.sink_arrow import tables_of

Load = Callable[[Path, list[Any]], object]
"""Loads tables into a new table under a folder."""
CHUNK = 50_000
TURNS = 4


def delta_by_us(folder: Path, tables: list[Any]) -> None:
    stage = Stage(tables.__getitem__, name="table")
    Pipeline(range(len(tables)), [stage], SinkDelta(str(folder / "t")), chunk_size=1, load_key="bench").run()


def delta_bare(folder: Path, tables: list[Any]) -> None:
    import deltalake
    import pyarrow as pa

    deltalake.write_deltalake(str(folder / "t"), pa.concat_tables(tables))


def delta_rows(folder: Path) -> int:
    import deltalake

    return int(deltalake.DeltaTable(str(folder / "t")).to_pyarrow_table(columns=["id"]).num_rows)


def catalog_of(folder: Path) -> dict[str, str]:
    return {
        "name": "bench",
        "type": "sql",
        "uri": f"sqlite:///{folder}/catalog.db",
        "warehouse": f"file://{folder}",
    }


def iceberg_by_us(folder: Path, tables: list[Any]) -> None:
    stage = Stage(tables.__getitem__, name="table")
    sink = SinkIceberg("bench.rows", catalog=catalog_of(folder))
    Pipeline(range(len(tables)), [stage], sink, chunk_size=1, load_key="bench").run()


def iceberg_bare(folder: Path, tables: list[Any]) -> None:
    import pyarrow as pa
    from pyiceberg.catalog import load_catalog

    properties: dict[str, Any] = catalog_of(folder)
    catalog = load_catalog(properties.pop("name"), **properties)
    catalog.create_namespace("bench")
    catalog.create_table("bench.rows", tables[0].schema).append(pa.concat_tables(tables))


def iceberg_rows(folder: Path) -> int:
    from pyiceberg.catalog import load_catalog

    properties: dict[str, Any] = catalog_of(folder)
    table = load_catalog(properties.pop("name"), **properties).load_table("bench.rows")
    return int(table.scan(selected_fields=("id",)).to_arrow().num_rows)


def in_turns(params: Params, count: Callable[[Path], int], *ways: Load) -> list[tuple[float, float]]:
    """The least seconds and the least seconds of CPU of each way; each is the first one equally often."""
    tables = [chunk[0] for chunk in tables_of(params["rows"], CHUNK)]
    best = [(float("inf"), float("inf")) for _ in ways]
    root = Path(tempfile.mkdtemp())
    try:
        for turn in range(1 + TURNS):
            for at in (*range(turn % len(ways), len(ways)), *range(turn % len(ways))):
                folder = root / f"{turn}-{at}"
                folder.mkdir()
                gc.collect()
                began, cpu = time.perf_counter(), cpu_seconds()
                ways[at](folder, tables)
                seconds = time.perf_counter() - began, cpu_seconds() - cpu
                check(count(folder) == params["rows"], f"other than {params['rows']} rows in the table")
                if turn:  # the first one loads the library
                    best[at] = min(best[at][0], seconds[0]), min(best[at][1], seconds[1])
    finally:
        shutil.rmtree(root)
    return best


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def rates(seconds: tuple[float, float], rows: int) -> Measured:
    return {"rows_per_second": rows / seconds[0], "rows_per_cpu_second": rows / seconds[1]}


def workload(title: str, bare_name: str, count: Callable[[Path], int], ours: Load, bare: Load) -> Workload:
    work = Workload(
        name=f"sink-{title.lower()}",
        title=f"Arrow tables into a table of {title}",
        what=(
            f"rows of 6 columns (two integers, text, float, boolean, time) in Arrow tables of {CHUNK}, all in one "
            "commit. The rows of this engine are files that a retry would go on with, and come once; the library "
            "writes them all in one call. of_bare: both take turns in one process, by their seconds of CPU"
        ),
        timed="from the tables in memory to the end of the commit; the engine's start is in it",
        metric="rows_per_second",
        unit="rows/s",
        best="high",
        shows=("rows_per_cpu_second", "of_bare"),
        full={"rows": 1_000_000},
        quick={"rows": 200_000},
        imports="airflow.sdk",
        rounds=3,
        limit=600.0,
    )

    @work.contestant(OURS, "Pipeline(range, [Stage], sink, chunk_size=1).run(): the engine and its start included")
    def by_us(params: Params) -> Measured:
        found, others = in_turns(params, count, ours, bare)
        return {**rates(found, params["rows"]), "of_bare": others[1] / found[1]}

    @work.contestant(bare_name, f"{bare_name} of all tables at once")
    def alone(params: Params) -> Measured:
        return rates(in_turns(params, count, ours, bare)[1], params["rows"])

    @work.target(f"{title}: rows >= 0.9 of {bare_name}, by seconds of CPU", 0.9, unit="x")
    def of_bare(medians: Medians) -> float | None:
        return medians[OURS]["of_bare"] if OURS in medians else None

    return work


DELTA = workload("Delta", "write_deltalake", delta_rows, delta_by_us, delta_bare)
ICEBERG = workload("Iceberg", "table.append", iceberg_rows, iceberg_by_us, iceberg_bare)
WORKLOADS = {work.name: work for work in (DELTA, ICEBERG)}
