"""A row that a file cannot hold is rejected alone, where rows may be rejected."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from airflow_parallel_provider import ListSink, Pipeline, RunFailed, Sink, SinkDelta, SinkFiles
from airflow_parallel_provider.engine.interfaces.records import ChunkResult
from airflow_parallel_provider.errors import RowsRejected, SchemaMismatch
from airflow_parallel_provider.rows.rejection_limit import RejectionLimit
from airflow_parallel_provider.sinks.files.formats import Encoder
from airflow_parallel_provider.sinks.files.row_isolation import encode_good_rows
from airflow_parallel_provider.values.unreadable import Unreadable
from tests.support.databases import SPEC, TestDatabase

pytestmark = pytest.mark.airflow

UNREAD = Unreadable("infinity", "column 'd' of row 7")
SINKS: dict[str, Callable[..., Sink]] = {
    "jsonl": SinkFiles,
    "csv": lambda path: SinkFiles(path, format="csv"),
    "parquet": lambda path: SinkFiles(path, format="parquet"),
    "delta": SinkDelta,
}


def encoded(rows: list[Any], most: int = 10, encoder: Encoder | None = None) -> tuple[int, list[tuple[Any, str]]]:
    """How many rows were encoded as Parquet, and number and reason of the others."""
    encoder = encoder or Encoder("parquet", None)
    found, rejected = encode_good_rows(encoder, Encoder.encode, rows, "chunk 1", RejectionLimit(most, None))
    return (found or (b"", 0))[1], [(row.at, row.cause) for row in rejected]


@pytest.mark.parametrize("kind", SINKS)
@pytest.mark.parametrize("value", [UNREAD, object()], ids=["unreadable", "unstorable"])
def test_the_other_rows_are_written(tmp_path: Path, kind: str, value: Any) -> None:
    if kind == "delta":
        pytest.importorskip("deltalake")
    rows = [{"id": number, "d": value if number == 7 else number} for number in range(20)]

    report = Pipeline(rows, [], SINKS[kind](tmp_path), chunk_size=20, tolerance=1, load_key="a").run()

    assert (report.rows_committed, report.rows_rejected) == (19, 1)
    (rejected,) = tmp_path.glob("_rejected-*-00000000.jsonl")
    found = json.loads(rejected.read_text())
    assert (found["position"], found["row"]["id"]) == (7, 7)
    assert "a row: column 'd'" in found["reason"]
    assert ("infinity, read from column 'd' of row 7" in found["reason"]) == (value is UNREAD)


@pytest.mark.parametrize("kind", SINKS)
def test_without_tolerance_the_run_fails_with_the_reason(tmp_path: Path, kind: str) -> None:
    if kind == "delta":
        pytest.importorskip("deltalake")
    with pytest.raises(RunFailed, match=r"chunk 00000000: column 'd': infinity, read from column 'd' of row 7"):
        Pipeline([{"d": 1}, {"d": UNREAD}], [], SINKS[kind](tmp_path), load_key="a").run()


def test_a_list_takes_no_value_that_was_not_read() -> None:
    rows: list[Any] = [{"d": 1}, {"d": UNREAD}, (UNREAD,), [2], 3]
    sink = ListSink()

    with pytest.raises(RunFailed, match="column 'd' of row 7: infinity"):
        Pipeline(rows, [], sink).run()
    assert sink.rows == []
    report = Pipeline(rows, [], sink, tolerance=2).run()

    assert (sink.rows, report.rows_committed, report.rows_rejected) == ([{"d": 1}, [2], 3], 3, 2)


def test_rejected_rows_count_over_all_attempts(tmp_path: Path) -> None:
    def load(last: Any) -> Any:
        rows = [{"d": UNREAD}, {"d": 1}, {"d": last}, {"d": 2}]
        sink = SinkFiles(tmp_path, max_rejected=1)
        return Pipeline(lambda: iter(rows), [], sink, chunk_size=2, tolerance=0.9, load_key="a", ordered=True).run()

    with pytest.raises(RunFailed, match=r"chunk 00000001: column 'd': infinity"):
        load(UNREAD)
    report = load(0)

    assert (report.items_skipped, report.rows_committed, report.rows_rejected) == (2, 2, 0)


def test_what_was_refused_leaves_no_trace_in_the_columns() -> None:
    encoder = Encoder("parquet", None)

    assert encoded([{"a": 1}, {"a": 2, "b": object()}], encoder=encoder)[0] == 1
    assert encoder.state()["columns"] == ["a"]


def test_a_mixture_has_no_row_to_blame() -> None:
    with pytest.raises(SchemaMismatch, match="make its values of one type"):
        encoded([{"a": 1}, {"a": "x"}, {"a": 2}])


def test_rows_of_another_table_are_not_rejected_one_by_one() -> None:
    encoder = Encoder("parquet", None)
    encoder.encode([{"a": 1}], "chunk 0")

    with pytest.raises(SchemaMismatch, match="all 2 rows of chunk 1: a row: column 'b' is not in the first part"):
        encoded([{"b": 1}, {"b": 2}], encoder=encoder)
    assert encoded([{"a": 1}, {"b": 2}], encoder=encoder)[0] == 1


def test_rows_of_an_arrow_table_are_rejected_one_by_one() -> None:
    encoder = Encoder("parquet", None)
    encoder.encode([{"a": 1}], "chunk 0")

    written, rejected = encoded([pa.table({"a": [1.0, 1.5, 2.0]})], encoder=encoder)

    assert (written, [at for at, _ in rejected]) == (2, [0])


def test_no_more_rows_than_allowed() -> None:
    with pytest.raises(RowsRejected, match="chunk 1: 2 or more rows"):
        encoded([{"a": UNREAD}, {"a": 1}, {"a": UNREAD}], most=1)
    assert encoded([{"a": UNREAD}])[0] == 0


@pytest.mark.parametrize("kind", ["table", "jsonl", "parquet"])
def test_rows_with_one_reason_have_one_cause(tmp_path: Path, sqlite: TestDatabase, kind: str) -> None:
    reads = [Unreadable("infinity", f"column 'd' of row {number} in the order of id") for number in range(3)]
    sink = SINKS[kind](tmp_path) if kind in SINKS else sqlite.hook()
    rows = [{"id": number, "d": value} for number, value in enumerate([*reads, 1])]
    rejected: list[tuple[str, int]] = []

    class Context:
        def may_reject(self, rows: int) -> bool:
            return True

        def rejected(self, cause: str, rows: int, position: int | None) -> None:
            rejected.append((cause, rows))

    sink.bind(Context())
    if isinstance(sink, Sink):
        sink.prepare(SPEC)
        sink.open()
        sink.commit(ChunkResult("00000000", 0, 0, 4, 0, rows))
    else:
        sink.open(SPEC)
        sink.write_chunk("00000000", rows)
    sink.close()

    ((cause, count),) = rejected
    assert count == 3
    assert cause.endswith(": correct the value in the source, or leave the row out in a stage")
