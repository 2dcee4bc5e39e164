"""Whole jobs: files, tables and pages into a table, compared with the loop that a user would write for the job."""

from __future__ import annotations

import gc
import io
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from airflow_parallel_provider import FilesToTableOperator, HttpPagesSource, Pipeline, SinkTable, SqlSource
from benchmarks.databases import Duckdb, Place, Postgres, Sqlite, place
from benchmarks.spec import OURS, Measured, Medians, Params, Workload, check

FILES = 20
TURNS = 2
BEGAN = date(2020, 1, 1)
COLUMNS = {
    "id": "bigint", "name": "text", "price": "numeric(12,2)", "quantity": "integer", "day": "date", "paid": "boolean",
    "note": "text",
}  # fmt: skip


def row(number: int) -> dict[str, Any]:
    """Values of the types that people have: decimals, dates, booleans, long texts and none."""
    return {
        "id": number,
        "name": f"customer {number % 977} of a town",
        "price": f"{number * 7919 % 10_000_000 / 100:.2f}",
        "quantity": number % 1000,
        "day": (BEGAN + timedelta(days=number % 2000)).isoformat(),
        "paid": number % 3 == 0,
        "note": None if number % 5 else "a longer text, as in a note of a customer " * 5,
    }


def json_row(number: int) -> dict[str, Any]:
    """The same, as JSON has it."""
    return {**row(number), "price": float(row(number)["price"])}


@dataclass
class Job:
    """What is loaded: files of rows, or a table, or pages; and where to."""

    rows: int
    folder: Path
    target: Any

    def connection(self) -> None:
        """Make the target known to Airflow."""
        os.environ["AIRFLOW_CONN_BENCH"] = self.target.connection.get_uri()

    def sink(self, table: str) -> SinkTable:
        return SinkTable(table, conn_id="bench", schema=self.target.schema, on_rerun="append")

    def create(self, table: str) -> None:
        columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
        self.target.run(f"CREATE TABLE {self.target.prefix}{table} ({columns})")

    def check(self, table: str) -> None:
        found = self.target.run(
            f"SELECT count(*), sum(id), sum(quantity), count(note), min(day), max(day) FROM {self.target.prefix}{table}"
        )[0]
        numbers = range(self.rows)
        expected = (self.rows, sum(numbers), sum(number % 1000 for number in numbers), len(numbers[::5]))
        check(tuple(map(int, found[:4])) == expected, f"{found} in the table")
        check([str(day)[:10] for day in found[4:]] == [str(BEGAN), str(BEGAN + timedelta(days=1999))], f"days {found}")


Way = Callable[[Job, str], object]
"""Does the job into a table that is there."""


def in_turns(job: Job, ways: tuple[Way, ...]) -> list[float]:
    """The least seconds of each way; each is the first one equally often. The first turn loads the libraries."""
    best = [float("inf")] * len(ways)
    for turn in range(1 + TURNS):
        for at in (*range(turn % len(ways), len(ways)), *range(turn % len(ways))):
            table = f"rows_{turn}_{at}"
            job.create(table)
            gc.collect()
            began = time.perf_counter()
            ways[at](job, table)
            seconds = time.perf_counter() - began
            job.check(table)
            if turn:
                best[at] = min(best[at], seconds)
    return best


@contextmanager
def prepared(kind: type[Place], rows: int, prepare: Callable[[Job], object]) -> Iterator[Job]:
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        with place(kind) as target:
            job = Job(rows, folder, target)
            job.connection()
            prepare(job)
            yield job
    finally:
        shutil.rmtree(folder)


# -- files --------------------------------------------------------------------------------


def each_file(job: Job, suffix: str) -> Iterator[tuple[Path, range]]:
    each = job.rows // FILES
    for number in range(FILES):
        yield job.folder / f"{number:02d}.{suffix}", range(number * each, (number + 1) * each)


def write_csv(job: Job) -> None:
    import csv

    for path, numbers in each_file(job, "csv"):
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows({**row(n), "paid": "true" if row(n)["paid"] else "false"} for n in numbers)


def write_jsonl(job: Job) -> None:
    for path, numbers in each_file(job, "jsonl"):
        path.write_text("".join(f"{json.dumps(json_row(n))}\n" for n in numbers))


def write_parquet(job: Job) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = pa.schema([
        ("id", pa.int64()), ("name", pa.string()), ("price", pa.decimal128(12, 2)), ("quantity", pa.int32()),
        ("day", pa.date32()), ("paid", pa.bool_()), ("note", pa.string()),
    ])  # fmt: skip
    for path, numbers in each_file(job, "parquet"):
        rows = [row(n) for n in numbers]
        columns = [pa.array([each[name] for each in rows]) for name in types.names]
        pq.write_table(pa.table([a.cast(f.type) for a, f in zip(columns, types, strict=True)], schema=types), path)


def load_files(suffix: str, **options: Any) -> Way:
    def load(job: Job, table: str) -> None:
        task = FilesToTableOperator(task_id="load", files=f"{job.folder}/*.{suffix}", sink=job.sink(table), **options)
        Pipeline(task.source, task.stages, task.sink, chunk_size=task.chunk_size).run()

    return load


def copy_csv_files(job: Job, table: str) -> None:
    with closing(job.target.raw()) as raw:
        for path in sorted(job.folder.glob("*.csv")):
            sql = f"COPY {job.target.prefix}{table} FROM STDIN (FORMAT CSV, HEADER)"
            with path.open("rb") as file, raw.cursor() as cursor, cursor.copy(sql) as copy:
                while data := file.read(65_536):
                    copy.write(data)
            raw.commit()


def read_csv_files(job: Job, table: str) -> None:
    with closing(job.target.raw()) as raw:
        for path in sorted(job.folder.glob("*.csv")):
            types = ", ".join(f"'{name}': '{kind}'" for name, kind in COLUMNS.items())
            raw.execute(f"INSERT INTO {table} SELECT * FROM read_csv('{path}', header=true, columns={{{types}}})")


def jsonl_by_hand(job: Job, table: str) -> None:
    with closing(job.target.raw()) as raw:
        for path in sorted(job.folder.glob("*.jsonl")):
            with raw.cursor() as cursor, cursor.copy(f"COPY {job.target.prefix}{table} FROM STDIN") as copy:
                for line in path.open():
                    copy.write_row(tuple(json.loads(line).values()))
            raw.commit()


def parquet_by_hand(job: Job, table: str) -> None:
    import pyarrow.csv as pc
    import pyarrow.parquet as pq

    options = pc.WriteOptions(include_header=False)
    with closing(job.target.raw()) as raw:
        for path in sorted(job.folder.glob("*.parquet")):
            data = io.BytesIO()
            pc.write_csv(pq.read_table(path), data, options)
            sql = f"COPY {job.target.prefix}{table} FROM STDIN (FORMAT CSV)"
            with raw.cursor() as cursor, cursor.copy(sql) as copy:
                copy.write(data.getbuffer())
            raw.commit()


# -- tables --------------------------------------------------------------------------------


def fill_source(job: Job) -> None:
    """The source is a table of PostgreSQL, whatever the target is."""
    own = job.target if isinstance(job.target, Postgres) else None
    source = own or Postgres()
    os.environ["AIRFLOW_CONN_SOURCE"] = source.connection.get_uri()
    columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    source.run(f"CREATE TABLE {source.prefix}source ({columns}, PRIMARY KEY (id))")
    with closing(source.raw()) as raw:
        with raw.cursor() as cursor, cursor.copy(f"COPY {source.prefix}source FROM STDIN") as copy:
            for number in range(job.rows):
                copy.write_row(tuple(row(number).values()))
        raw.commit()
    source.run(f"ANALYZE {source.prefix}source")
    job.source = source  # type: ignore[attr-defined]


def copy_table(job: Job, table: str) -> None:
    source: Any = job.source  # type: ignore[attr-defined]
    read = SqlSource("source", conn_id="source", schema=source.schema, key="id")
    Pipeline(read, [], job.sink(table), chunk_size=10_000).run()


def cursor_into_copy(job: Job, table: str) -> None:
    source: Any = job.source  # type: ignore[attr-defined]
    with closing(source.raw()) as read, closing(job.target.raw()) as write:
        with (
            read.cursor("rows") as rows,
            write.cursor() as cursor,
            cursor.copy(f"COPY {job.target.prefix}{table} FROM STDIN") as copy,
        ):
            rows.itersize = 10_000
            for each in rows.execute(f"SELECT * FROM {source.prefix}source ORDER BY id"):
                copy.write_row(each)
        write.commit()


def copy_into_copy(job: Job, table: str) -> None:
    source: Any = job.source  # type: ignore[attr-defined]
    with closing(source.raw()) as read, closing(job.target.raw()) as write:
        with (
            read.cursor().copy(f"COPY {source.prefix}source TO STDOUT") as out,
            write.cursor().copy(f"COPY {job.target.prefix}{table} FROM STDIN") as into,
        ):
            for data in out:
                into.write(data)
        write.commit()


# -- pages --------------------------------------------------------------------------------

PAGE = 1_000


def serve(job: Job) -> None:
    starts = range(0, job.rows, PAGE)
    pages = [json.dumps({"items": [json_row(n) for n in range(at, at + PAGE)]}).encode() for at in starts]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            number = int(parse_qs(urlsplit(self.path).query).get("page", ["1"])[0])
            body = pages[number - 1] if number <= len(pages) else b'{"items": []}'
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    job.port = server.server_address[1]  # type: ignore[attr-defined]
    os.environ["AIRFLOW_CONN_PAGES"] = json.dumps(
        {"conn_type": "http", "host": "127.0.0.1", "port": server.server_address[1], "schema": "http"}
    )


def load_pages(job: Job, table: str) -> None:
    source = HttpPagesSource("/rows", conn_id="pages", items="items", page_size=PAGE)
    Pipeline(source, [], job.sink(table), chunk_size=10_000).run()


def pages_by_hand(job: Job, table: str) -> None:
    import requests

    names = ", ".join(COLUMNS)
    marks = ", ".join(f":{name}" for name in COLUMNS)
    with closing(job.target.raw()) as raw, requests.Session() as session:
        number, port = 1, job.port  # type: ignore[attr-defined]
        while items := session.get(f"http://127.0.0.1:{port}/rows", params={"page": number}).json()["items"]:
            raw.execute("BEGIN")
            raw.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", items)
            raw.execute("COMMIT")
            number += 1


@dataclass
class Rival:
    """A way by hand, and the share of it that the engine should reach."""

    name: str
    way: Way
    config: str
    goal: float | None = None


def workload(
    names: tuple[str, str], kind: type[Place], prepare: Callable[[Job], object], ours: tuple[Way, str], *rivals: Rival
) -> Workload:
    (name, title), (own_way, config) = names, ours
    work = Workload(
        name=name,
        title=title,
        what=(
            "rows of 7 columns (bigint, text, numeric(12,2), integer, date, boolean, a long text in every fifth), "
            "types checked, ledger included. All ways take turns in one process; of_...: the engine's rate by theirs"
        ),
        timed="the whole job, from the call to the end of the last commit; libraries are loaded before",
        metric="rows_per_second",
        unit="rows/s",
        best="high",
        shows=tuple(f"of_{rival.name}" for rival in rivals),
        full={"rows": 500_000 if name != "job-pages" else 100_000},
        quick={"rows": 40_000},
        imports="airflow.sdk",
        rounds=3,
        limit=600.0,
    )

    def measure(params: Params) -> list[float]:
        with prepared(kind, params["rows"], prepare) as job:
            return in_turns(job, (own_way, *(rival.way for rival in rivals)))

    @work.contestant(OURS, config)
    def by_us(params: Params) -> Measured:
        own, *others = measure(params)
        shares = {f"of_{rival.name}": other / own for rival, other in zip(rivals, others, strict=True)}
        return {"rows_per_second": params["rows"] / own, **shares}

    for at, rival in enumerate(rivals, 1):

        def by_hand(params: Params, at: int = at) -> Measured:
            return {"rows_per_second": params["rows"] / measure(params)[at]}

        work.contestant(rival.name, rival.config)(by_hand)
        if rival.goal is not None:
            metric = f"of_{rival.name}"

            def share(medians: Medians, metric: str = metric) -> float | None:
                return medians[OURS][metric] if OURS in medians else None

            work.target(f"{title}: >= {rival.goal} x {rival.name}", rival.goal, unit="x")(share)
    return work


OPERATOR = "FilesToTableOperator(files, sink), no transform"
NULLS = {"na_values": {"note": [""]}}  # as COPY and read_csv have it
COPY = "copy.write of the files' bytes into COPY (FORMAT CSV), a commit per file"
JOBS = (
    workload(
        ("job-csv-postgres", "CSV files into PostgreSQL"),
        Postgres,
        write_csv,
        (load_files("csv", csv_options=NULLS), OPERATOR),
        Rival("COPY", copy_csv_files, COPY, 0.5),
    ),
    workload(
        ("job-csv-duckdb", "CSV files into DuckDB"),
        Duckdb,
        write_csv,
        (load_files("csv", csv_options=NULLS), OPERATOR),
        Rival("read_csv", read_csv_files, "INSERT ... SELECT * FROM read_csv(file, columns), a commit per file", 0.6),
    ),
    workload(
        ("job-jsonl-postgres", "JSON lines into PostgreSQL"),
        Postgres,
        write_jsonl,
        (load_files("jsonl"), OPERATOR),
        Rival("row loop", jsonl_by_hand, "json.loads of each line, copy.write_row, a commit per file", 0.7),
    ),
    workload(
        ("job-parquet-postgres", "Parquet into PostgreSQL"),
        Postgres,
        write_parquet,
        (load_files("parquet"), OPERATOR),
        Rival("COPY", parquet_by_hand, "pyarrow.csv.write_csv of each file into COPY (FORMAT CSV)", 0.7),
    ),
    workload(
        ("job-table-postgres", "A table of PostgreSQL into PostgreSQL"),
        Postgres,
        fill_source,
        (copy_table, "Pipeline(SqlSource(key='id'), [], SinkTable, chunk_size=10_000)"),
        Rival("row loop", cursor_into_copy, "a server-side cursor, copy.write_row", 0.9),
        Rival("COPY to COPY", copy_into_copy, "the bytes of COPY TO into COPY FROM", 0.6),
    ),
    workload(
        ("job-pages", "Pages of an API into SQLite"),
        Sqlite,
        serve,
        (load_pages, "Pipeline(HttpPagesSource, [], SinkTable, chunk_size=10_000); the server is in the same process"),
        Rival("page loop", pages_by_hand, "requests.Session().get().json(), executemany, a commit per page", 0.7),
    ),
)
WORKLOADS = {work.name: work for work in JOBS}
