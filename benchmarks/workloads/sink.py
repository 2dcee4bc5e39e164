"""Rows into a table, each chunk exactly once, compared with the driver's fastest loop and Airflow's ``insert_rows``."""

from __future__ import annotations

import gc
import itertools
import json
import os
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any

from airflow_parallel_provider import Pipeline, SinkTable
from airflow_parallel_provider.engine.interfaces.records import LoadSpec
from benchmarks.databases import NAMES, Mariadb, Place, Postgres, Sqlite, place
from benchmarks.spec import OURS, Measured, Medians, Params, Workload, check, ratio

Row = tuple[Any, ...]
Write = Callable[[list[Any]], object]
"""Writes one chunk into table ``rows`` and commits it."""
Writing = Callable[[Any], AbstractContextManager[Write]]
"""Opens a place for writing."""
Bare = dict[str, tuple[Writing, str]]
"""A driver's own loops: their names, how they write, and their descriptions."""

DICTS, PIPELINE, INSERT_ROWS = f"{OURS}, from dicts", f"{OURS}, Pipeline without stages", "hook.insert_rows"
TYPES = dict(zip(NAMES, (int, str, float, int, bool, datetime), strict=True))
BEGAN = datetime(2026, 1, 1)  # noqa: DTZ001  # as databases hand them out
CHUNK = 10_000


def row(number: int) -> Row:
    at = BEGAN + timedelta(seconds=number)
    return number, f"customer {number}", number * 1.25, number % 100, number % 3 == 0, at


def row_as_dict(number: int) -> dict[str, Any]:
    return dict(zip(NAMES, row(number), strict=True))


def chunks_of(rows: int, make: Callable[[int], Any] = row, size: int = CHUNK) -> list[list[Any]]:
    return [[make(number) for number in range(start, start + size)] for start in range(0, rows, size)]


def in_turns(kind: type[Place], chunks: list[list[Any]], *ways: Writing) -> list[float]:
    """Seconds per chunk of each way: all write all chunks, each to its own table, taking turns at every chunk.

    The first way that reads a chunk loads its objects from memory into the caches, also for the others. So each way is
    the first one equally often.
    """
    with ExitStack() as stack:
        places = [stack.enter_context(place(kind)) for _ in ways]
        for where in places:
            where.create("rows")
        writes = [stack.enter_context(way(where)) for way, where in zip(ways, places, strict=True)]
        seconds: list[list[float]] = [[] for _ in ways]
        gc.collect()
        turns = deque(zip(writes, seconds, strict=True))
        for chunk in chunks:
            turns.rotate(1)
            for write, times in turns:
                began = time.perf_counter()
                write(chunk)
                times.append(time.perf_counter() - began)
        for where in places:
            check_table(where, chunks)
        check_ledger(places[0], chunks)
    return [statistics.median(times) for times in seconds]


def compared(kind: type[Place], chunks: list[list[Any]], *bare: Writing) -> Measured:
    """The sink, in turns with the bare loops."""
    ours, *others = in_turns(kind, chunks, writing_chunks, *bare)
    rows = rows_in(chunks) // len(chunks)
    return {**rates(ours, rows), "of_bare": min(others) / ours, "bare_rows_per_second": rows / min(others)}


def rates(chunk_seconds: float, rows: int = CHUNK) -> Measured:
    return {"rows_per_second": rows / chunk_seconds, "us_per_row": chunk_seconds / rows * 1e6}


def rows_in(chunks: list[list[Any]]) -> int:
    return sum(getattr(each, "num_rows", 1) for chunk in chunks for each in chunk)


def check_table(where: Place, chunks: list[list[Any]]) -> None:
    rows = rows_in(chunks)
    at = where.names[5]
    found = where.run(f"SELECT count(*), sum(id), sum(quantity), min({at}), max({at}) FROM {where.prefix}rows")[0]
    ends = [str(at)[:19].replace("T", " ") for at in found[3:]]
    expected = (rows, rows * (rows - 1) // 2, sum(number % 100 for number in range(rows)))
    check(tuple(map(int, found[:3])) == expected, f"{found} in the table")
    check(ends == [str(row(0)[5]), str(row(rows - 1)[5])], f"times from {ends[0]} to {ends[1]}")


def check_ledger(where: Place, chunks: list[list[Any]]) -> None:
    found = where.run(f"SELECT count(*), sum(rows_committed) FROM {where.prefix}airflow_parallel_ledger")[0]
    check(tuple(map(int, found)) == (len(chunks), rows_in(chunks)), f"{found} in the ledger")


@contextmanager
def writing_chunks(where: Any) -> Iterator[Write]:
    """Write chunks through the sink."""
    from airflow_parallel_provider import SinkTableHook

    with SinkTableHook("bench", "rows", connection=where.connection, schema=where.schema, columns=TYPES) as hook:
        hook.open(LoadSpec("bench", CHUNK, "bench"))
        numbers = itertools.count()

        def write(rows: list[Any]) -> None:
            number = next(numbers)
            hook.write_chunk(f"{number:08d}", rows, first_position=number * CHUNK)

        yield write


@contextmanager
def copying(where: Any) -> Iterator[Write]:
    """Write chunks with psycopg's COPY, as in its documentation."""
    with closing(where.raw()) as raw:

        def write(rows: list[Any]) -> None:
            with raw.cursor() as cursor, cursor.copy(f"COPY {where.prefix}rows FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types(["int8", "text", "float8", "int8", "bool", "timestamp"])
                write_row = copy.write_row
                for each in rows:
                    write_row(each)
            raw.commit()

        yield write


@contextmanager
def executing_many(where: Any, change: Callable[[Any], Row] | None = None) -> Iterator[Write]:
    """Write chunks with the driver's executemany."""
    insert = where.insert("rows")
    with closing(where.raw()) as raw, closing(raw.cursor()) as cursor:

        def write(rows: list[Any]) -> None:
            if where.mark == "?":
                cursor.execute("BEGIN IMMEDIATE")
            cursor.executemany(insert, rows if change is None else list(map(change, rows)))
            raw.commit()

        yield write


def with_texts(where: Any) -> AbstractContextManager[Write]:
    """The same, with times that are converted to texts before."""
    return executing_many(where, lambda each: (*each[:5], each[5].isoformat(" ")))


def from_dicts(way: Writing) -> Writing:
    """A bare loop that gets dicts."""
    values = itemgetter(*NAMES)

    @contextmanager
    def writing(where: Any) -> Iterator[Write]:
        with way(where) as write:
            yield lambda rows: write(list(map(values, rows)))

    return writing


def workload(name: str, title: str, kind: type[Place], bare: Bare) -> Workload:
    work = Workload(
        name=name,
        title=f"Rows into a table of {title}",
        what=(
            "rows of 6 columns (two integers, text, float, boolean, time) in chunks of 10 000, each committed by "
            "itself. The rows of this engine come with their ledger, those of the others without; rows and ledger are "
            "counted afterwards. of_bare: the engine and the bare loops take turns at every chunk, in one process"
        ),
        timed="the median chunk, from the rows handed over to the end of its commit; tables and connections exist",
        metric="rows_per_second",
        unit="rows/s",
        best="high",
        shows=("us_per_row", "of_bare"),
        full={"rows": 200_000},
        quick={"rows": 20_000},
        imports="airflow.sdk airflow.providers.common.sql.hooks.sql",
        rounds=5,
        limit=600.0,
    )
    ways = [way for way, _ in bare.values()]

    @work.contestant(OURS, "SinkTableHook.write_chunk(tuples), columns with types")
    def ours(params: Params) -> Measured:
        return compared(kind, chunks_of(params["rows"]), *ways)

    @work.contestant(DICTS, "SinkTableHook.write_chunk(dicts); the bare loop with itemgetter")
    def dicts(params: Params) -> Measured:
        return compared(kind, chunks_of(params["rows"], row_as_dict), *map(from_dicts, ways))

    enter_bare(work, kind, bare, lambda params: chunks_of(params["rows"]), CHUNK)

    @work.contestant(
        INSERT_ROWS, "hook.insert_rows(tuples, commit_every=10_000), else its defaults; a tenth of the rows"
    )
    def insert_rows(params: Params) -> Measured:
        return with_insert_rows(kind, chunks_of(params["rows"] // 10 // CHUNK * CHUNK or CHUNK))

    aim_at(work, title, bare)
    return work


def enter_bare(
    work: Workload, kind: type[Place], bare: Bare, chunks: Callable[[Params], list[list[Any]]], size: int
) -> None:
    """Add each bare loop as a contestant.

    :param size: rows of a chunk.
    """

    def enter(label: str, way: Writing, config: str) -> None:
        @work.contestant(label, config)
        def alone(params: Params) -> Measured:
            return rates(in_turns(kind, chunks(params), writing_chunks, way)[1], size)

    for label, (way, config) in bare.items():
        enter(label, way, config)


def aim_at(work: Workload, title: str, bare: Bare) -> None:
    """Add the target: nearly as fast as the fastest bare loop."""

    @work.target(f"{title}: rows >= 0.9 of {next(iter(bare))}, ledger included", 0.9, unit="x")
    def of_bare(medians: Medians) -> float | None:
        return medians[OURS]["of_bare"] if OURS in medians else None


def know_connection(where: Any) -> None:
    """Define the connection in the environment, as a deployment without a database does."""
    parts = ("conn_type", "host", "port", "login", "password", "schema")
    os.environ["AIRFLOW_CONN_BENCH"] = json.dumps({part: getattr(where.connection, part) for part in parts})


def with_insert_rows(kind: type[Place], chunks: list[list[Any]]) -> Measured:
    with place(kind) as where:
        where.create("rows")
        know_connection(where)
        hook, rows = where.hook(), [row for rows in chunks for row in rows]
        gc.collect()
        began = time.perf_counter()
        hook.insert_rows(f"{where.prefix}rows", rows, target_fields=NAMES, commit_every=CHUNK)
        seconds = time.perf_counter() - began
        check_table(where, chunks)
    return rates(seconds / len(chunks))


def enter_pipeline(work: Workload, kind: type[Place]) -> None:
    @work.contestant(PIPELINE, "Pipeline(list of tuples, [], SinkTable(...)).run(): the engine and its start included")
    def pipeline(params: Params) -> Measured:
        chunks = chunks_of(params["rows"])
        with place(kind) as where:
            where.create("rows")
            know_connection(where)
            items = [row for rows in chunks for row in rows]
            sink = SinkTable("rows", conn_id="bench", schema=where.schema, columns=TYPES)
            gc.collect()
            began = time.perf_counter()
            Pipeline(items, [], sink, chunk_size=CHUNK, load_key="bench").run()
            seconds = time.perf_counter() - began
            check_table(where, chunks)
            check_ledger(where, chunks)
        return rates(seconds / len(chunks))


COPY = "psycopg 3: cursor.copy(COPY ... FORMAT BINARY), set_types, write_row for each row, commit"
POSTGRES = workload("sink-postgres", "PostgreSQL", Postgres, {"a bare COPY BINARY loop": (copying, COPY)})
enter_pipeline(POSTGRES, Postgres)


@POSTGRES.target("PostgreSQL: rows >= 15 x hook.insert_rows", 15.0, unit="x")
def postgres_insert_rows(medians: Medians) -> float | None:
    return ratio(medians, OURS, INSERT_ROWS, "rows_per_second")


SQLITE = workload(
    "sink-sqlite",
    "SQLite",
    Sqlite,
    {
        "bare executemany": (executing_many, "sqlite3: BEGIN IMMEDIATE, executemany(INSERT), COMMIT"),
        "bare executemany, times as texts": (
            with_texts,
            "the same with (*row[:5], row[5].isoformat(' ')) for each row",
        ),
    },
)
enter_pipeline(SQLITE, Sqlite)
MARIADB = workload(
    "sink-mariadb",
    "MariaDB",
    Mariadb,
    {
        "bare executemany": (
            executing_many,
            "mysql-connector-python: executemany(INSERT), which it sends as one INSERT of all rows; commit",
        )
    },
)
WORKLOADS = {work.name: work for work in (POSTGRES, SQLITE, MARIADB)}
