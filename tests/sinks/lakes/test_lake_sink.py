"""Sinks of lake tables in real folders: one version for each load, whatever dies, and whatever else writes to them.

Each test is run for each format; what one of them does alone is tested in its own folder.
"""

from __future__ import annotations

import json
import os
import signal
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from airflow_parallel_provider import DROP, Pipeline, PlanError, RunFailed, Stage
from airflow_parallel_provider.engine.interfaces.records import ChunkResult, LoadSpec
from airflow_parallel_provider.errors import SinkError
from tests.support.lakes import KINDS, ROWS, Lake, all_rows, ended
from tests.support.parts import failing_at, numbered

pytestmark = pytest.mark.airflow


@pytest.fixture(params=KINDS)
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    pytest.importorskip({"delta": "deltalake", "iceberg": "pyiceberg"}[request.param])
    return Lake(request.param, tmp_path / "table")


def publisher_class(lake: Lake) -> Any:
    from airflow_parallel_provider.sinks.lakes.delta.delta_publisher import DeltaPublisher
    from airflow_parallel_provider.sinks.lakes.iceberg.iceberg_publisher import IcebergPublisher

    return DeltaPublisher if lake.kind == "delta" else IcebergPublisher


def held(lake: Lake, point: str, act: Any, **options: Any) -> Any:
    """A sink that does something when it first reaches a point."""

    class Held(lake.sink_class):  # type: ignore[misc,name-defined]
        done = False

        def reached(self, here: str) -> None:
            if here == point and not Held.done:
                Held.done = True
                act()

    return lake.sink(Held, **options)


def run(sink: Any, key: str = "nightly", items: Any = range(ROWS)) -> Any:
    return Pipeline(items, [Stage(numbered)], sink, chunk_size=10, load_key=key).run()


def spec_of(generation: str, *, named: bool) -> LoadSpec:
    family = "dag/task/run"
    return LoadSpec(family if named else f"{family}/{generation}", 10, "list", family=family, generation=generation)


def test_a_load_that_is_in_the_table_is_skipped(lake: Lake) -> None:
    lake.load()

    report = lake.load(failing_at(0, []))

    assert (report.items_skipped, report.rows_committed, lake.version()) == (ROWS, 0, 0)


def test_readers_see_nothing_before_the_end_and_a_retry_goes_on(lake: Lake) -> None:
    calls: list[int] = []
    lake.load(key="before")
    with pytest.raises(RunFailed, match="not today"):
        lake.load(failing_at(70, calls))
    assert (len(lake.rows()), lake.version()) == (ROWS, 0)
    calls.clear()

    report = lake.load(failing_at(-1, calls))

    assert (report.items_skipped, sorted(calls)) == (70, list(range(70, ROWS)))
    assert (len(lake.rows()), lake.version()) == (2 * ROWS, 1)


def test_replace_is_one_version_and_the_one_before_stays_readable(lake: Lake) -> None:
    lake.load(key="one")
    lake.load(key="two", write_disposition="replace", items=range(7))

    assert lake.rows() == all_rows()[:7]
    assert lake.version() == 1
    assert len(lake.published_files()) == 11, "the version before is readable"
    lake.load(key="one", write_disposition="replace")
    assert lake.version() == 1, "a load that is in the table is done"


@pytest.mark.parametrize("how", ["append", "replace"])
def test_a_load_without_rows(lake: Lake, how: Any) -> None:
    new = Lake(lake.kind, lake.path.with_name("new"))
    new.load(lambda _: DROP, write_disposition=how)
    assert not new.exists
    assert new.load(failing_at(0, []), write_disposition=how).items_skipped == ROWS

    lake.load(key="one")
    lake.load(lambda _: DROP, key="two", write_disposition=how)
    assert len(lake.rows()) == (ROWS if how == "append" else 0)
    assert lake.load(failing_at(0, []), key="two", write_disposition=how).items_skipped == ROWS


@pytest.mark.parametrize(
    ("point", "how"),
    [
        ("after_part", "append"),
        ("after_progress", "append"),  # the way of writing matters from the publication on
        ("before_publication", "append"),
        ("after_publication", "replace"),
        pytest.param("before_publication", "replace", marks=pytest.mark.slow),
        pytest.param("after_publication", "append", marks=pytest.mark.slow),
    ],
)
def test_killed_attempt_is_gone_on_with(lake: Lake, point: str, how: Any) -> None:
    lake.load(key="before", items=range(3))
    visit = 4 if point in ("after_part", "after_progress") else 1
    assert ended(lake.started(point, visit, write_disposition=how)) == -signal.SIGKILL
    published = point == "after_publication"
    assert lake.version() == (1 if published else 0)

    report = lake.load(None, all_rows(), write_disposition=how)

    assert report.items_skipped == {"after_part": 30, "after_progress": 40}.get(point, ROWS)
    expected = all_rows() if how == "replace" else sorted([*all_rows(), *all_rows()[:3]], key=lambda row: row["id"])
    assert lake.rows() == expected
    assert lake.version() == 1
    assert set(lake.names("part-")) == lake.published_files(), "parts of the killed attempt are left"
    assert lake.names("_progress-", ".") == []


def test_three_attempts_at_once_publish_once(lake: Lake) -> None:
    codes = [ended(each) for each in [lake.started() for _ in range(3)]]

    assert codes == [0, 0, 0]
    assert lake.rows() == all_rows()
    assert lake.version() == 0
    assert len(lake.names("_manifest-")) == 1


@pytest.mark.parametrize("how", ["append", "replace"])
def test_another_attempt_publishes_just_before(lake: Lake, how: Any) -> None:
    """This one's parts are swept then, and its figures are those of the one that is in the table."""
    report = run(held(lake, "before_publication", lambda: lake.load(write_disposition=how), write_disposition=how))

    assert report.rows_committed == ROWS
    assert (lake.rows(), lake.version()) == (all_rows(), 0)
    assert len(lake.names("part-")) == 10
    assert len(lake.names("_manifest-")) == 1


@pytest.mark.parametrize("existing", [True, False], ids=["a table", "no table"])
def test_another_load_commits_just_before(lake: Lake, existing: bool) -> None:
    if existing:
        lake.load(key="first", items=range(2))
    run(held(lake, "before_publication", lambda: lake.load(key="another", items=range(3))))

    assert len(lake.rows()) == ROWS + 3 + 2 * existing
    assert lake.version() == 1 + existing


def test_commits_that_always_lose_end_in_an_error(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_parallel_provider.sinks.lakes import publisher

    class Faster(Exception):
        pass

    def lose(*_: Any) -> None:
        raise Faster("Metadata changed")

    with monkeypatch.context() as patch:
        patch.setattr(publisher_class(lake), "_commit", lose)
        patch.setattr(publisher_class(lake), "_conflicts", lambda _: (Faster,))
        patch.setattr(publisher, "_TRIES", 7)
        with pytest.raises(RunFailed, match=r"other commits were faster 7 times \(Faster: Metadata changed\)"):
            lake.load()
    assert lake.load().items_skipped == ROWS
    assert lake.rows() == all_rows()


@pytest.mark.parametrize("done", [True, False], ids=["done", "not done"])
def test_commits_that_nobody_knows_of_are_looked_for(lake: Lake, monkeypatch: pytest.MonkeyPatch, done: bool) -> None:
    commit, calls = publisher_class(lake)._commit, []

    def lost(self: Any, *args: Any) -> None:
        calls.append(1)
        if done or len(calls) > 4:
            commit(self, *args)
        if len(calls) < 5:
            raise OSError("the line is dead")

    monkeypatch.setattr(publisher_class(lake), "_commit", lost)

    assert lake.load().rows_committed == ROWS
    assert (len(calls), lake.rows(), lake.version()) == (1 if done else 5, all_rows(), 0)


def test_parts_that_were_deleted_are_written_again(lake: Lake) -> None:
    def delete() -> None:
        (lake.folder / lake.names("part-")[0]).unlink()

    with pytest.raises(RunFailed, match=r"1 parts of the load, as part-.* were deleted before they were published"):
        run(held(lake, "before_publication", delete))
    lake.load()

    assert lake.rows() == all_rows()


def test_a_load_is_known_where_its_manifest_is_gone(lake: Lake) -> None:
    lake.load()
    (lake.folder / lake.names("_manifest-")[0]).unlink()

    lake.load()

    assert (lake.rows(), lake.version()) == (all_rows(), 0)


def test_purge_deletes_what_was_never_published(lake: Lake) -> None:
    lake.load(key="one")
    lake.load(key="two", write_disposition="replace")
    published = set(lake.names("part-", "_manifest-"))
    with pytest.raises(RunFailed):
        lake.load(failing_at(70, []), key="given up")
    left = set(lake.names("part-", "_progress-")) - published
    assert len(left) == 8
    sink = lake.sink()
    assert sink.purge(timedelta(hours=1)) == 0
    for name in lake.names("part-", "_"):
        if name != "_delta_log":
            os.utime(lake.folder / name, (time.time() - 7200,) * 2)

    assert sink.purge(timedelta(hours=1)) == 8
    assert set(lake.names("part-", "_manifest-", "_progress-")) == published
    with pytest.raises(SinkError, match=r"give a datetime\.timedelta"):
        sink.purge(3600)  # type: ignore[arg-type]


def test_rows_that_are_not_valid_and_items_that_failed_are_files_beside(lake: Lake) -> None:
    def stage(number: int) -> Any:
        if number == 7:
            raise ValueError("seven")
        return numbered(number)

    def validate(row: dict[str, Any]) -> Any:
        return row["id"] != 12 or "twelve"

    aggregates = {"rows": "count", "sum": "sum(id)"}
    report = lake.load(stage, validate=validate, max_rejected=1, aggregates=aggregates, pipeline={"tolerance": 2})

    assert (report.rows_committed, report.items_dead_lettered, report.rows_rejected) == (ROWS - 2, 1, 1)
    assert [row["id"] for row in lake.rows()] == [n for n in range(ROWS) if n not in (7, 12)]
    assert report.aggregates == {"rows": ROWS - 2, "sum": sum(range(ROWS)) - 19}
    (dead,) = lake.names("_dead_letters-")
    (rejected,) = lake.names("_rejected-")
    assert json.loads((lake.folder / dead).read_text())["item"] == 7
    found = json.loads((lake.folder / rejected).read_text())
    assert (found["position"], found["reason"], found["row"]["id"]) == (12, "twelve", 12)
    again = lake.load(stage, validate=validate, max_rejected=1, aggregates=aggregates, pipeline={"tolerance": 2})
    assert again.aggregates == report.aggregates


def test_too_many_rejected_rows_end_the_run(lake: Lake) -> None:
    with pytest.raises(RunFailed, match="rows were rejected"):
        lake.load(validate=lambda row: row["id"] % 10 != 3, max_rejected=2, pipeline={"tolerance": 50})
    assert not lake.exists


def test_rejected_rows_of_earlier_attempts_count(lake: Lake) -> None:
    def committed(sink: Any, chunks: range) -> None:
        sink.prepare(LoadSpec("nightly", 2, "list"))
        done = sink.open()
        for n in chunks:
            if f"{n:08d}" not in done:
                sink.commit(ChunkResult(f"{n:08d}", n, 2 * n, 2, 0, [{"id": n}, {"id": -1}]))

    options: dict[str, Any] = {"validate": lambda row: row["id"] >= 0, "max_rejected": 3}
    first = lake.sink(**options)
    committed(first, range(2))
    first.close()
    second = lake.sink(**options)
    with pytest.raises(SinkError, match="max_rejected"):
        committed(second, range(4))
    second.close()


@pytest.mark.parametrize(
    ("named", "on_rerun", "times"),
    [(True, None, 1), (False, None, 2), (True, "append", 2), (False, "resume", 1)],
)
def test_what_a_clear_does(lake: Lake, named: bool, on_rerun: Any, times: int) -> None:
    for generation in ("1", "1", "2"):
        sink = lake.sink(on_rerun=on_rerun)
        sink.prepare(spec_of(generation, named=named))
        if not sink.open():
            sink.commit(ChunkResult("00000000", 0, 0, 1, 0, [{"id": 1}]))
        sink.finish()
        sink.close()

    assert len(lake.rows()) == times


def test_load_that_was_begun_otherwise_is_refused(lake: Lake) -> None:
    with pytest.raises(RunFailed, match="not today"):
        lake.load(failing_at(70, []))
    with pytest.raises(RunFailed, match=r"LoadMismatch: .* chunk_size was 10 and is 20"):
        lake.load(pipeline={"chunk_size": 20, "max_in_flight": 20})


@pytest.mark.parametrize("finished", [True, False], ids=["done", "at work"])
def test_task_instances_of_a_mapped_task_do_not_replace_one_table(lake: Lake, finished: bool) -> None:
    def spec(index: int) -> LoadSpec:
        labels = {"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": str(index), "generation": "start/1"}
        return LoadSpec(f"d/t[{index}]/r", 10, "list", labels=labels)

    def commit(sink: Any, index: int) -> None:
        sink.prepare(spec(index))
        sink.open()
        sink.commit(ChunkResult("00000000", 0, 0, 1, 0, [{"id": index}]))

    first, second = (lake.sink(write_disposition="replace") for _ in range(2))
    commit(first, 0)
    if finished:
        first.finish()
    with pytest.raises(SinkError, match="task instance 0 of the mapped task 't' also replaces it"):
        commit(second, 1)
    first.close()
    second.close()
    for index in (3, 4):
        appending = lake.sink()
        commit(appending, index)
        appending.finish()
        appending.close()
    assert [row["id"] for row in lake.rows()] == ([0, 3, 4] if finished else [3, 4])


def of_items(rows: list[Any]) -> Any:
    def stage(number: int) -> Any:
        return rows[number]

    return {
        "stage": stage,
        "items": range(len(rows)),
        "pipeline": {"chunk_size": 1, "max_in_flight": 1, "ordered": True},
    }


@pytest.mark.parametrize("existing", [True, False], ids=["a table", "no table"])
@pytest.mark.parametrize("how", ["append", "replace"])
def test_columns_are_added(lake: Lake, existing: bool, how: Any) -> None:
    if existing:
        lake.load(key="first", items=range(2))
    rows: list[dict[str, Any]] = [
        {"id": 10, "name": "x"},
        {"id": 11, "price": 1.5, "nothing": None},
        {"id": 12, "tags": {"a": 1}, "price": None},
        {"id": 13, "name": "y", "nothing": None, "price": 2.5},
    ]

    lake.load(**of_items(rows), on_schema_change="add_columns", write_disposition=how)

    before = [numbered(n) for n in range(2)] if existing and how == "append" else []
    wanted = {"name": None, "price": None, "tags": None}
    rows = [{name: value for name, value in row.items() if name != "nothing"} for row in rows]
    assert lake.rows() == [{**wanted, **row} for row in [*before, *rows]]
    assert lake.table().schema.names == ["id", "name", "price", "tags"]


def test_columns_are_added_as_arrow_tables_and_by_an_attempt_that_goes_on(lake: Lake) -> None:
    calls: list[int] = []

    def stage(number: int) -> Any:
        calls.append(number)
        if number == 2 and len(calls) == 3:
            raise ValueError("not today")
        return pa.table({"id": [number], **({"more": [number * 10]} if number else {})})

    options: Any = {**of_items([0] * 3), "stage": stage, "on_schema_change": "add_columns"}
    with pytest.raises(RunFailed, match="not today"):
        lake.load(**options)
    assert not lake.exists

    assert lake.load(**options).items_skipped == 2
    assert lake.rows() == [{"id": 0, "more": None}, {"id": 1, "more": 10}, {"id": 2, "more": 20}]


def test_a_new_column_keeps_to_its_type(lake: Lake) -> None:
    lake.load(key="first", items=range(2))
    rows = [{"id": 10, "more": 1}, {"id": 11, "more": "x"}, {"id": 12, "more": 3}]
    options: Any = of_items(rows)
    options["pipeline"]["tolerance"] = 1

    report = lake.load(**options, on_schema_change="add_columns", max_rejected=1)

    assert report.rows_rejected == 1
    assert [(row["id"], row["more"]) for row in lake.rows()] == [(0, None), (1, None), (10, 1), (12, 3)]


def test_another_load_adds_a_column_just_before(lake: Lake) -> None:
    """The same column fits; one that took its place does not, and the load says so."""
    lake.load(key="first", items=range(2))

    def add(value: Any) -> Any:
        return lambda: lake.load(None, [{"id": 50, "more": value}], key="other", on_schema_change="add_columns")

    def stage(number: int) -> Any:
        return {"id": number, "more": number}

    sink = held(lake, "before_publication", add(5), on_schema_change="add_columns")
    Pipeline(range(10, 12), [Stage(stage)], sink, load_key="same").run()
    assert [row.get("more") for row in lake.rows()] == [None, None, 10, 11, 5]
    other = Lake(lake.kind, lake.path.with_name("second"))
    other.load(key="first", items=range(2))
    sink = held(
        other,
        "before_publication",
        lambda: other.load(None, [{"id": 50, "more": "x"}], key="other", on_schema_change="add_columns"),
        on_schema_change="add_columns",
    )
    with pytest.raises(RunFailed, match=r"column 'more' was int64 when the parts were written and is .*string"):
        Pipeline(range(10, 12), [Stage(stage)], sink, load_key="same").run()
    assert len(other.rows()) == 3


def test_shards_do_not_add_columns(lake: Lake) -> None:
    pipeline = Pipeline(range(4), [], lake.sink(on_schema_change="add_columns"), load_key="k")

    with pytest.raises(PlanError, match=r"on_schema_change.*shards cannot agree on new columns"):
        pipeline.begin()
