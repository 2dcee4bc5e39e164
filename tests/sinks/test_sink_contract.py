"""A ``SinkTable`` as the sink of a pipeline."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from airflow_parallel_provider import DROP, Pipeline, SinkTable, Stage
from airflow_parallel_provider.engine.interfaces.records import ChunkResult, LoadSpec
from airflow_parallel_provider.errors import LoadMismatch, PlanError, RunFailed, SinkFailed
from tests.support.databases import SPEC, SqliteDatabase

pytestmark = pytest.mark.airflow


@pytest.fixture(autouse=True)
def warehouse(sqlite: SqliteDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SQLite file as the Airflow connection ``warehouse``."""
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", f'{{"conn_type": "sqlite", "host": "{sqlite.path}"}}')


def sink(**options: Any) -> SinkTable:
    return SinkTable("scores", conn_id="warehouse", **options)


def score(number: int) -> Any:
    if number % 10 == 3:
        return DROP
    if number % 10 == 7:
        raise ValueError(f"seven in {number}")
    return {"id": number, "score": number / 4}


def pipeline(load_key: str | None, stages: Any = None, **options: Any) -> Pipeline:
    settings = {"chunk_size": 10, "tolerance": 1.0, "load_key": load_key, **options}
    return Pipeline(range(95), stages or [Stage(score)], settings.pop("sink", None) or sink(), **settings)


def good_ids(limit: int = 95) -> list[int]:
    return [number for number in range(limit) if number % 10 not in (3, 7)]


def test_pipeline_lands_in_the_table(sqlite: SqliteDatabase) -> None:
    report = pipeline("nightly").run()

    assert report.items_committed == report.rows_committed == len(good_ids())
    assert report.items_dead_lettered == 9
    assert [row[0] for row in sqlite.rows()] == good_ids()
    assert [row[1] for row in sqlite.ledger()] == [10] * 9 + [5]
    assert sum(row[3] for row in sqlite.ledger()) == 9
    assert len(sqlite.rows("scores__dead_letters")) == 9
    assert sqlite.rows("airflow_parallel_ledger__loads", "state") == [("complete",)]


def test_same_load_key_goes_on(sqlite: SqliteDatabase) -> None:
    def refuse(row: dict[str, Any]) -> dict[str, Any]:
        if row["id"] == 55:
            raise ValueError("not today")
        return row

    # Whether that is the sixth to fail or 57, in the stage before, is up to the threads.
    with pytest.raises(RunFailed, match=r"6 of .* items failed, tolerance is 5"):
        pipeline("nightly", [Stage(score), Stage(refuse)], ordered=True, tolerance=5, max_in_flight=20).run()
    there = len(sqlite.rows())

    report = pipeline("nightly", attempt=2).run()

    assert 0 < there < len(good_ids())
    assert report.chunks_skipped > 0
    assert report.chunks_skipped + report.chunks_committed == 10
    assert [row[0] for row in sqlite.rows()] == good_ids()


def test_tolerance_means_the_same_in_a_retry(sqlite: SqliteDatabase) -> None:
    """Each of 20 items has five parts, and two of them fail: 40 dead letters, which are as much as 8 items."""

    def parts(number: int) -> Any:
        yield from ({"id": 5 * number + part, "score": part / 4} for part in range(5))

    def fail(row: dict[str, Any]) -> dict[str, Any]:
        if row["id"] % 5 < 2:
            raise ValueError("bad part")
        return row

    def load(tolerance: float, stop_at: int = 99) -> Any:
        def source() -> Any:
            for number in range(20):
                if number == stop_at:
                    raise OSError("gone")
                yield number

        stages = [Stage(parts), Stage(fail)]
        settings = {"chunk_size": 2, "max_in_flight": 2, "load_key": "nightly", "tolerance": tolerance}
        return Pipeline(source, stages, sink(), **settings).run()  # type: ignore[arg-type]

    with pytest.raises(RunFailed, match="gone"):
        load(1.0, stop_at=11)
    assert sum(row[0] for row in sqlite.rows("airflow_parallel_ledger", "failed_items")) == pytest.approx(4.0)
    with pytest.raises(RunFailed, match=r"40 failures in 20 items .* tolerance is 39 failures"):
        load(39)
    assert load(40).items_read == 20
    with pytest.raises(RunFailed, match=r"40 failures in 20 items, as much as 8 of them .* tolerance is 39.9%"):
        load(0.399)
    assert load(0.4).items_skipped == 20


@pytest.mark.parametrize("form", ["rows", "tables"])
def test_rejected_rows_are_parts_of_their_items(sqlite: SqliteDatabase, form: str) -> None:
    """Each of 20 items has five rows, of which `validate` refuses two: 40 rows, which are as much as 8 items."""
    pandas = pytest.importorskip("pandas")

    def parts(number: int) -> Any:
        rows = [{"id": 5 * number + part, "score": part / 4} for part in range(5)]
        yield from rows if form == "rows" else [pandas.DataFrame(rows)]

    def good(row: dict[str, Any]) -> bool:
        return bool(row["score"] >= 0.5)

    def load(tolerance: float) -> Any:
        settings = {"chunk_size": 2, "max_in_flight": 2, "load_key": "nightly", "tolerance": tolerance}
        return Pipeline(list(range(20)), [Stage(parts)], sink(validate=good), **settings).run()  # type: ignore[arg-type]

    with pytest.raises(RunFailed, match="tolerance"):
        load(0.39)
    there = len(sqlite.rows())
    with pytest.raises(RunFailed, match="tolerance"):
        load(39)
    assert load(0.4).rows_rejected < 40, "the rest of them"
    assert load(40).rows_rejected == 0
    assert there < len(sqlite.rows()) == 60


def test_without_a_load_key_each_run_is_a_load_of_its_own(sqlite: SqliteDatabase) -> None:
    for _ in range(2):
        pipeline(None).run()

    assert [row[0] for row in sqlite.rows()] == sorted(good_ids() * 2)
    assert len(sqlite.rows("airflow_parallel_ledger__loads")) == 2


def test_other_chunk_size_is_refused_by_name(sqlite: SqliteDatabase) -> None:
    pipeline("nightly").run()

    with pytest.raises(SinkFailed, match="chunk_size was 10 and is 20") as raised:
        pipeline("nightly", chunk_size=20).run()

    assert isinstance(raised.value.__cause__, LoadMismatch)
    assert [row[0] for row in sqlite.rows()] == good_ids()


def test_missing_connection_fails_before_the_first_item(mocker: Any) -> None:
    called = mocker.Mock(return_value=[])
    lost = SinkTable("scores", conn_id="nowhere")

    with pytest.raises(PlanError, match=r"SinkTable\.conn_id='nowhere'"):
        Pipeline(called, [Stage(score)], lost).run()

    assert called.call_count == 0


def test_sink_serves_one_run_after_the_other_and_not_two_at_once(sqlite: SqliteDatabase) -> None:
    one = sink()
    one.prepare(SPEC)
    with pytest.raises(PlanError, match="in use by another run"):
        one.prepare(SPEC)
    one.close()

    one.prepare(SPEC)
    assert one.open() == {}
    written = one.commit(ChunkResult("00000000", 0, 0, 2, 1, [{"id": 1}]))
    one.finish()
    one.close()
    one.close()

    one.prepare(dataclasses.replace(SPEC, attempt=2))
    committed = one.open()
    one.close()
    assert written == 1
    assert committed["00000000"].items == 2
    assert one == sink()


def test_labels_and_attempt_are_in_the_ledger(sqlite: SqliteDatabase) -> None:
    one = sink()
    one.prepare(LoadSpec("nightly", 10, "list", attempt=3, labels={"dag_id": "flights", "map_index": "-1"}))
    one.open()
    one.commit(ChunkResult("00000000", 0, 0, 1, 0, [{"id": 1}]))
    one.close()

    assert sqlite.rows("airflow_parallel_ledger", "attempt, labels") == [
        (3, '{"dag_id": "flights", "map_index": "-1"}')
    ]
    assert sqlite.rows("airflow_parallel_ledger__loads", "load_key, attempt, state") == [("nightly", 3, "open")]
