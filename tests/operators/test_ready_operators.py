"""The ready operators: files, tables and functions, each into a table that is read without our code."""

from __future__ import annotations

import gzip
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import DAG, BaseOperator

from airflow_parallel_provider import (
    DROP,
    FilesSource,
    FilesToTableOperator,
    ListSink,
    ParallelMapOperator,
    PlanError,
    ReplayDeadLettersOperator,
    SinkFiles,
    SinkTable,
    SqlSource,
    Stage,
    TableToTableOperator,
)
from airflow_parallel_provider.sources.files.formats.row_readers import format_of

pytestmark = pytest.mark.airflow

Contexts = Callable[..., dict[str, Any]]


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A SQLite file, known to Airflow as ``warehouse``."""
    file = tmp_path / "warehouse.db"
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "sqlite", "host": str(file)}))
    return file


def rows_of(file: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(query).fetchall()


def run(task: BaseOperator, context: dict[str, Any]) -> Any:
    """Render and execute, as Airflow does."""
    context = {"params": {}, **context}
    task.render_template_fields(context)  # type: ignore[arg-type]
    return task.execute(context)  # type: ignore[arg-type]


def typed(row: Any) -> Any:
    return {"id": int(row["id"]), "name": str(row["name"])}


def files_of_all_formats(folder: Path) -> None:
    folder.mkdir()
    (folder / "1.csv").write_bytes(b'\xef\xbb\xbfid,name\r\n1,one\r\n2,"two\nlines"\r\n')
    (folder / "2.tsv").write_text("id\tname\n3\tthree\n")
    (folder / "3.jsonl.gz").write_bytes(gzip.compress(b'{"id": 4, "name": "four"}\n\n{"id": 5, "name": "f\xc3\xbcnf"}'))
    (folder / "4.json").write_text('[{"id": 6, "name": "six"}]')
    (folder / "5.json").write_text('{"id": 7, "name": "seven"}')


ALL = [(1, "one"), (2, "two\nlines"), (3, "three"), (4, "four"), (5, "fünf"), (6, "six"), (7, "seven")]


def test_files_of_many_formats_into_a_table(tmp_path: Path, warehouse: Path, context_of: Contexts) -> None:
    files_of_all_formats(tmp_path / "2026-11-21")
    task = FilesToTableOperator(
        task_id="load",
        files=FilesSource(f"{tmp_path}/{{{{ day }}}}/*"),
        sink=SinkTable("{{ 'rows' }}", conn_id="warehouse", primary_key=["id"]),
        transform=typed,
    )

    summary = run(task, {**context_of(), "day": "2026-11-21"})

    assert rows_of(warehouse, "SELECT id, name FROM rows ORDER BY id") == ALL
    assert (summary["items_read"], summary["chunks_committed"]) == (5, 1)


def test_parquet_files_into_a_table(tmp_path: Path, warehouse: Path, context_of: Contexts) -> None:
    for name, first in (("a", 0), ("b", 100)):
        table = pa.table({"id": list(range(first, first + 30)), "price": [0.5] * 30})
        pq.write_table(table, tmp_path / f"{name}.parquet", row_group_size=20)
    task = FilesToTableOperator(
        task_id="load", files=str(tmp_path / "*.parquet"), sink=SinkTable("prices", conn_id="warehouse")
    )

    run(task, context_of())

    found = rows_of(warehouse, "SELECT id, price FROM prices ORDER BY id")
    assert found == [(number, 0.5) for number in [*range(30), *range(100, 130)]]


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("bad.csv", "id,name\n1\n", "bad.csv, line 2: 1 field, but there are 2 columns"),
        ("bad.csv", "id,name,id\n1,a,2\n", "bad.csv, line 1: two columns have the name 'id'"),
        ("bad.csv", 'id,name\n1,"a"b\n', "line 2: ',' expected after"),
        ("bad.jsonl", '{"id": 1}\n{"id":\n', "bad.jsonl, line 2: Expecting value"),
        ("bad.unknown", "?", "bad.unknown: the suffix names no known format"),
    ],
)
def test_file_that_cannot_be_read_says_where(
    tmp_path: Path, context_of: Contexts, name: str, content: str, complaint: str
) -> None:
    (tmp_path / name).write_text(content)
    task = FilesToTableOperator(task_id="load", files=str(tmp_path / "*"), sink=ListSink())

    with pytest.raises(AirflowFailException, match=complaint):
        run(task, context_of())


def test_largest_text_of_the_source_counts(tmp_path: Path, context_of: Contexts) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1}\n' + " " * 2_000_000)
    files = FilesSource(str(tmp_path / "*.jsonl"), largest_text=1_000_000)

    with pytest.raises(AirflowFailException, match=r"a\.jsonl: a line of more than largest_text=1,000,000 bytes"):
        run(FilesToTableOperator(task_id="load", files=files, sink=ListSink()), context_of())


def test_bad_line_is_one_dead_letter(tmp_path: Path, warehouse: Path, context_of: Contexts) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a", "b"):
        lines = [f"{name}{number},v\n" for number in range(1000)]
        lines[500], lines[700] = "short\n", f"{name},too,long\n"
        (folder / f"{name}.csv").write_text("id,v\n" + "".join(lines))
    task = FilesToTableOperator(
        task_id="load", files=f"{folder}/*", sink=SinkTable("rows", conn_id="warehouse"), tolerance=4
    )

    summary = run(task, context_of())

    assert rows_of(warehouse, "SELECT count(*) FROM rows") == [(1996,)]
    found = rows_of(warehouse, "SELECT position, stage, cause, item FROM rows__dead_letters ORDER BY cause")
    assert [(position, stage) for position, stage, _, _ in found] == [
        (0, "read"),
        (0, "read"),
        (1, "read"),
        (1, "read"),
    ]
    assert [json.loads(item)["value"]["line"] for *_, item in found] == [502, 702, 502, 702]
    assert found[0][2] == f"ValueError: file://{folder}/a.csv, line 502: 1 field, but there are 2 columns"
    assert (summary["items_read"], summary["items_dead_lettered"]) == (2, 2)


@pytest.mark.parametrize(
    ("tolerance", "complaint"),
    [
        (1, "2 failures in 1 items, tolerance is 1 failure"),
        (0.001, "2 failures in 1 items, as much as 0.002 of them, tolerance is 0.1% of the items"),
    ],
)
def test_bad_lines_beyond_the_tolerance_fail_the_task(
    tmp_path: Path, warehouse: Path, context_of: Contexts, tolerance: float, complaint: str
) -> None:
    (tmp_path / "a.csv").write_text("id,v\n" + "1,a\n" * 998 + "2\n3\n")
    task = FilesToTableOperator(
        task_id="load", files=f"{tmp_path}/*.csv", sink=SinkTable("rows", conn_id="warehouse"), tolerance=tolerance
    )

    with pytest.raises(AirflowFailException, match=rf"(?s){complaint}.*a\.csv, line 1000"):
        run(task, context_of())

    assert rows_of(warehouse, "SELECT name FROM sqlite_master WHERE name = 'rows'") == []


def test_fraction_is_of_the_lines_also_on_a_retry(tmp_path: Path, warehouse: Path, context_of: Contexts) -> None:
    """Each file has one bad line of a hundred, one in ten files cannot be read at all."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(10):
        (folder / f"{number}.csv").write_text("id,v\n" + f"{number},a\n" * 99 + f"{number}\n")
    (folder / "5.csv").write_bytes(b"id,\xff\n1,2\n")

    def load(tolerance: float, path: str = f"{folder}/*") -> Any:
        task = FilesToTableOperator(
            task_id="load", files=path, sink=SinkTable("rows", conn_id="warehouse"), tolerance=tolerance, workers=1,
            load_key="one", ordered=True, max_in_flight=1,
        )  # fmt: skip
        return run(task, context_of())

    with pytest.raises(AirflowFailException, match="6 failures in 6 items"):
        load(5)
    committed = rows_of(warehouse, "SELECT count(*) FROM rows")[0][0]
    assert 0 < committed < 9 * 99

    summary = load(0.11)  # a tenth for the file, nine tenths of a percent for the lines

    assert rows_of(warehouse, "SELECT count(*) FROM rows") == [(9 * 99,)]
    assert rows_of(warehouse, "SELECT count(*) FROM rows__dead_letters") == [(10,)]
    assert summary["items_skipped"] == committed // 99
    with pytest.raises(AirflowFailException, match="10 failures in 10 items"):
        load(0.108)


def test_bad_lines_are_replayed(tmp_path: Path, warehouse: Path, context_of: Contexts) -> None:
    (tmp_path / "a.csv").write_text("id,name\n1,one\n2\n3,three\n")
    (tmp_path / "b.jsonl").write_text('{"id": 4, "name": "four"}\n{"id": 5, "name": "five"\n')
    sink = SinkTable("rows", conn_id="warehouse", primary_key=["id"])

    def load(**options: Any) -> FilesToTableOperator:
        return FilesToTableOperator(
            task_id="load", files=f"{tmp_path}/[ab].*", sink=sink, transform=typed, tolerance=2, **options
        )

    run(load(), context_of())
    with closing(sqlite3.connect(warehouse)) as connection:
        connection.execute("UPDATE rows__dead_letters SET item = replace(item, 'five\\\"', 'five\\\"}')")
        connection.commit()

    mended = load(csv_options={"restval": "two"})
    summary = run(ReplayDeadLettersOperator(task_id="replay", sink=sink, stages=mended.stages), context_of())

    assert rows_of(warehouse, "SELECT id, name FROM rows ORDER BY id") == [
        (1, "one"), (2, "two"), (3, "three"), (4, "four"), (5, "five"),
    ]  # fmt: skip
    assert (summary["waiting"], summary["replayed"], summary["failed_again"]) == (2, 2, 0)
    assert rows_of(warehouse, "SELECT count(*) FROM rows__dead_letters WHERE resolved_at IS NULL") == [(0,)]


def test_bad_line_that_fails_again_stays_a_dead_letter(tmp_path: Path, warehouse: Path, context_of: Contexts) -> None:
    (tmp_path / "a.csv").write_text("id,name\n1,one\n2\n")
    sink = SinkTable("rows", conn_id="warehouse")
    load = FilesToTableOperator(task_id="load", files=f"{tmp_path}/a.csv", sink=sink, tolerance=1)
    run(load, context_of())

    replay = ReplayDeadLettersOperator(task_id="replay", sink=sink, stages=load.stages, tolerance=1.0)
    summary = run(replay, context_of())

    found = rows_of(warehouse, "SELECT position, cause, resolved_at IS NULL FROM rows__dead_letters ORDER BY 3")
    assert (summary["replayed"], summary["failed_again"], summary["rows"]) == (1, 1, 0)
    assert [open_ for *_, open_ in found] == [0, 1]
    assert found[0][:2] == found[1][:2]


def test_format_is_in_the_name() -> None:
    found = [format_of(name) for name in ("A.CSV", "b.tsv.gz", "c.ndjson.zst", "d.json", "e.pq", "x.csv.parquet")]

    assert found == ["csv", "csv", "jsonl", "json", "parquet", "parquet"]


def test_csv_in_other_ways(tmp_path: Path, context_of: Contexts) -> None:
    (tmp_path / "a.dat").write_bytes("1;Grün\n2;Blau\n".encode("latin-1"))
    sink = ListSink()
    task = FilesToTableOperator(
        task_id="load",
        files=str(tmp_path / "*.dat"),
        sink=sink,
        format="csv",
        encoding="latin-1",
        csv_options={"delimiter": ";", "fieldnames": ["id", "name"]},
    )

    run(task, context_of())

    assert sink.rows == [{"id": "1", "name": "Grün"}, {"id": "2", "name": "Blau"}]


def test_csv_need_not_be_strict(tmp_path: Path, context_of: Contexts) -> None:
    (tmp_path / "a.csv").write_text('id,name,,\n1,"a"b,,\n')
    sink = ListSink()
    options = {"strict": False}
    task = FilesToTableOperator(task_id="load", files=str(tmp_path / "*"), sink=sink, csv_options=options)

    run(task, context_of())

    assert sink.rows == [{"id": "1", "name": "ab"}]


def fill(file: Path, rows: int) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, day TEXT, amount REAL)")
        connection.executemany(
            "INSERT INTO orders VALUES (?, ?, ?)", [(number, f"day {number % 2}", number / 4) for number in range(rows)]
        )
        connection.commit()


def taxed(row: dict[str, Any]) -> Any:
    return DROP if row["id"] % 10 == 0 else {**row, "amount": row["amount"] * 1.5}


def test_table_into_another_database(
    tmp_path: Path, warehouse: Path, monkeypatch: pytest.MonkeyPatch, context_of: Contexts
) -> None:
    shop = tmp_path / "shop.db"
    fill(shop, 500)
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", json.dumps({"conn_type": "sqlite", "host": str(shop)}))
    source = SqlSource("orders", conn_id="shop", key="id", where="day = :day", parameters={"day": "{{ day }}"})
    task = TableToTableOperator(
        task_id="copy",
        source=source,
        sink=SinkTable("orders", conn_id="warehouse", primary_key=["id"]),
        transform=Stage(taxed, workers=2),
        chunk_size="{{ 100 }}",
    )

    summary = run(task, {**context_of(), "day": "day 0"})

    expected = [(number, "day 0", number / 4 * 1.5) for number in range(0, 500, 2) if number % 10]
    assert rows_of(warehouse, "SELECT id, day, amount FROM orders ORDER BY id") == expected
    assert summary["chunks_committed"] == 3
    assert source.parameters == {"day": "{{ day }}"}, "what the DAG file made is not rendered itself"


def test_table_is_copied_as_it_is(tmp_path: Path, warehouse: Path, context_of: Contexts) -> None:
    fill(warehouse, 20)
    task = TableToTableOperator(
        task_id="copy",
        source=SqlSource("orders", conn_id="warehouse", key="id"),
        sink=SinkTable("copies", conn_id="warehouse"),
    )

    run(task, context_of())

    assert rows_of(warehouse, "SELECT * FROM copies ORDER BY id") == rows_of(warehouse, "SELECT * FROM orders")


def test_only_new_rows_are_copied(tmp_path: Path, warehouse: Path, context_of: Contexts) -> None:
    fill(warehouse, 20)

    def copied(run_id: str) -> Any:
        task = TableToTableOperator(
            task_id="copy",
            source=SqlSource("orders", conn_id="warehouse", key="id", since="id"),
            sink=SinkTable("copies", conn_id="warehouse"),
        )
        return run(task, context_of(run_id=run_id))

    assert copied("monday")["items_read"] == 20
    with closing(sqlite3.connect(warehouse)) as connection:
        connection.execute("INSERT INTO orders SELECT id + 100, day, amount FROM orders WHERE id < 5")
        connection.commit()
    assert copied("tuesday")["items_read"] == 5
    assert rows_of(warehouse, "SELECT * FROM copies ORDER BY id") == rows_of(warehouse, "SELECT * FROM orders")


def squares(numbers: list[int]) -> list[dict[str, int]]:
    return [{"number": number, "square": number * number} for number in numbers]


def test_items_through_a_function(warehouse: Path, context_of: Contexts) -> None:
    task = ParallelMapOperator(
        task_id="squares",
        items=range(100),
        function=squares,
        batch_size=7,
        workers=3,
        sink=SinkTable("squares", conn_id="warehouse"),
        chunk_size=40,
    )

    run(task, context_of())

    assert rows_of(warehouse, "SELECT * FROM squares ORDER BY 1") == [(n, n * n) for n in range(100)]


def test_files_as_sink_in_a_folder_that_is_rendered(tmp_path: Path, context_of: Contexts) -> None:
    sink = SinkFiles(f"{tmp_path}/{{{{ day }}}}", format="csv")
    task = ParallelMapOperator(task_id="squares", items=range(20), function=squares, batch_size=5, sink=sink)

    run(task, {**context_of(), "day": "2026-11-21"})

    (part,) = (tmp_path / "2026-11-21").glob("part-*.csv")
    assert part.read_text().splitlines()[0] == "number,square"
    assert len(part.read_text().splitlines()) == 21
    assert sink.path == f"{tmp_path}/{{{{ day }}}}"


def test_items_may_come_from_upstream() -> None:
    with DAG("mapped"):
        items = BaseOperator(task_id="list_items")
        task = ParallelMapOperator(task_id="map", items=items.output, function=abs, sink=ListSink())

    assert task.upstream_task_ids == {"list_items"}


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: FilesToTableOperator(task_id="a", files={"x"}, sink=ListSink()), "source=.*give a path"),
        (
            lambda: FilesToTableOperator(task_id="a", files=FilesSource("/x/*", items="line"), sink=ListSink()),
            "files=.*leave out items=",
        ),
        (lambda: FilesToTableOperator(task_id="a", files="/x/*", format="xml", sink=ListSink()), "format='xml'"),
        (
            lambda: FilesToTableOperator(task_id="a", files="/x/*", csv_options={"sep": ";"}, sink=ListSink()),
            "csv_options=.*give options of csv.DictReader",
        ),
        (lambda: TableToTableOperator(task_id="a", source="orders", sink=ListSink()), "source='orders': give a SqlS"),
        (
            lambda: TableToTableOperator(task_id="a", source="orders", stages=[], sink=ListSink()),
            r"stages=\[\]: give one function or Stage as transform=",
        ),
        (
            lambda: FilesToTableOperator(task_id="a", files="/x/*", stages=[abs], sink=ListSink()),
            "stages=.*transform=, or take ParallelPipelineOperator",
        ),
        (
            lambda: FilesToTableOperator(task_id="a", files="/x/*", source="/y/*", sink=ListSink()),
            "source='/y/.': give the files as files=",
        ),
        (
            lambda: ParallelMapOperator(task_id="a", items=[], function=abs, source=[], sink=ListSink()),
            r"source=\[\]: give the items as items=",
        ),
        (lambda: ParallelMapOperator(task_id="a", items=[], function=7, sink=ListSink()), r"Stage\.function=7"),
        (lambda: ParallelMapOperator(task_id="a", items=7, function=abs, sink=ListSink()), r"source=7"),
    ],
)
def test_what_cannot_work_is_refused_when_the_dag_is_parsed(make: Callable[[], Any], complaint: str) -> None:
    with pytest.raises(PlanError, match=complaint):
        make()
