"""Arrow tables into a table, each chunk exactly once, compared with the fastest way of each driver."""

from __future__ import annotations

import gc
import io
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from benchmarks.databases import NAMES, Duckdb, Place, Postgres, place
from benchmarks.spec import OURS, Measured, Params, Workload
from benchmarks.workloads.sink import (
    CHUNK,
    INSERT_ROWS,
    Bare,
    Write,
    aim_at,
    check_table,
    chunks_of,
    compared,
    enter_bare,
    know_connection,
    row,
)

MIDDLE, SMALL, TUPLES = f"{OURS}, chunks of 50 000", f"{OURS}, chunks of 10 000", f"{OURS}, from tuples"
LARGE = 122_880
"""Rows of a row group of DuckDB, the smallest chunk that its documentation recommends."""


def tables_of(rows: int, size: int = LARGE) -> list[list[Any]]:
    """Chunks of one Arrow table each, with the rows of the other workloads."""
    return [[table_of([row(number) for number in range(at, at + size)])] for at in range(0, rows, size)]


def table_of(rows: list[Any]) -> Any:
    import pyarrow as pa

    types = (pa.int64(), pa.string(), pa.float64(), pa.int64(), pa.bool_(), pa.timestamp("us"))
    columns = zip(*rows, strict=True)
    return pa.table([pa.array(values, kind) for values, kind in zip(columns, types, strict=True)], names=NAMES)


@contextmanager
def scanning(where: Place) -> Iterator[Write]:
    """Write with DuckDB's scan of an Arrow table by the name of a variable, as in its documentation."""
    with closing(where.raw()) as raw:

        def write(chunk: list[Any]) -> None:
            arrow = chunk[0]  # noqa: F841  # DuckDB finds it
            raw.execute("BEGIN")
            raw.execute("INSERT INTO rows SELECT * FROM arrow")
            raw.execute("COMMIT")

        yield write


@contextmanager
def registering(where: Place) -> Iterator[Write]:
    """The same, with an Arrow table that is registered before."""
    with closing(where.raw()) as raw:

        def write(chunk: list[Any]) -> None:
            raw.execute("BEGIN")
            raw.register("chunk", chunk[0])
            raw.execute("INSERT INTO rows SELECT * FROM chunk")
            raw.unregister("chunk")
            raw.execute("COMMIT")

        yield write


@contextmanager
def scanning_tuples(where: Place) -> Iterator[Write]:
    """The same, with tuples that are converted to a table before."""
    with scanning(where) as write:
        yield lambda rows: write([table_of(rows)])


@contextmanager
def copying_csv(where: Place) -> Iterator[Write]:
    """Write with COPY, from the CSV that Arrow writes."""
    from pyarrow import csv

    options = csv.WriteOptions(include_header=False)
    with closing(where.raw()) as raw:

        def write(chunk: list[Any]) -> None:
            text = io.BytesIO()
            csv.write_csv(chunk[0], text, options)
            with raw.cursor() as cursor, cursor.copy(f"COPY {where.prefix}rows FROM STDIN (FORMAT CSV)") as copy:
                copy.write(text.getbuffer())
            raw.commit()

        yield write


def workload(name: str, title: str, kind: type[Place], bare: Bare) -> Workload:
    work = Workload(
        name=name,
        title=f"Arrow tables into a table of {title}",
        what=(
            "Arrow tables of 122 880 rows and 6 columns (two integers, text, float, boolean, time), each committed by "
            "itself. The rows of this engine come with their ledger, those of the others without; rows and ledger are "
            "counted afterwards. of_bare: the engine and the bare loop take turns at every chunk, in one process"
        ),
        timed="the median chunk, from the table handed over to the end of its commit; tables and connections exist",
        metric="rows_per_second",
        unit="rows/s",
        best="high",
        shows=("us_per_row", "of_bare"),
        full={"rows": 12 * LARGE, "middle": 24 * 50_000, "small": 30 * CHUNK},
        quick={"rows": 2 * LARGE, "middle": 2 * 50_000, "small": 5 * CHUNK},
        imports="airflow.sdk airflow.providers.common.sql.hooks.sql pyarrow",
        rounds=5,
        limit=600.0,
    )
    ways = [way for way, _ in bare.values()]

    @work.contestant(OURS, "SinkTableHook.write_chunk([pyarrow.Table]), columns with types")
    def ours(params: Params) -> Measured:
        return compared(kind, tables_of(params["rows"]), *ways)

    @work.contestant(MIDDLE, "the same, tables of 50 000 rows")
    def middle(params: Params) -> Measured:
        return compared(kind, tables_of(params["middle"], 50_000), *ways)

    @work.contestant(SMALL, "the same, tables of 10 000 rows")
    def small(params: Params) -> Measured:
        return compared(kind, tables_of(params["small"], CHUNK), *ways)

    enter_bare(work, kind, bare, lambda params: tables_of(params["rows"]), LARGE)
    aim_at(work, f"{title} from Arrow", bare)
    return work


DUCKDB = workload(
    "sink-duckdb",
    "DuckDB",
    Duckdb,
    {
        "a bare scan": (scanning, "duckdb: BEGIN, INSERT INTO rows SELECT * FROM variable, COMMIT"),
        "a bare scan, registered": (
            registering,
            "duckdb: BEGIN, register(table), INSERT INTO rows SELECT * FROM it, unregister, COMMIT",
        ),
    },
)
COPYING = "pyarrow.csv.write_csv(table) into memory, psycopg 3: cursor.copy(COPY ... FORMAT CSV), write, commit"
POSTGRES = workload("sink-postgres-arrow", "PostgreSQL", Postgres, {"a bare COPY CSV": (copying_csv, COPYING)})


@DUCKDB.contestant(TUPLES, "SinkTableHook.write_chunk(tuples); the bare loop makes an Arrow table of them first")
def duckdb_tuples(params: Params) -> Measured:
    return compared(Duckdb, chunks_of(params["middle"] // 2, size=50_000), scanning_tuples)


@DUCKDB.contestant(INSERT_ROWS, f"hook.insert_rows(tuples, commit_every={CHUNK}), else its defaults; 1 000 rows")
def duckdb_insert_rows(params: Params) -> Measured:  # it takes long enough
    rows = chunks_of(CHUNK)[0][:1_000]
    with place(Duckdb) as where:
        where.create("rows")
        know_connection(where)
        hook = where.hook()
        gc.collect()
        began = time.perf_counter()
        hook.insert_rows("rows", rows, target_fields=where.names, commit_every=CHUNK)
        seconds = time.perf_counter() - began
        check_table(where, [rows])
    return {"rows_per_second": len(rows) / seconds, "us_per_row": seconds / len(rows) * 1e6}


WORKLOADS = {work.name: work for work in (DUCKDB, POSTGRES)}
