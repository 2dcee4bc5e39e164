"""``SqlSource(since=)`` with what fails, with a Clear, with mapped tasks and in processes: no row is passed over."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_parallel_provider import FilesSource, HttpPagesSource, Pipeline, PlanError, RunFailed, SinkTable, SqlSource
from airflow_parallel_provider import Stage as Step
from airflow_parallel_provider.sinks.replay import Replay
from tests.support.databases import TestDatabase, fast_on

pytestmark = pytest.mark.airflow

on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
on_databases_with_ranges = fast_on("sqlite", of=("sqlite", "postgres", "mariadb"))
MERGE: dict[str, Any] = {"write_disposition": "merge", "primary_key": ["id"]}


def copy(row: dict[str, Any]) -> dict[str, Any]:
    return row


def copy_all_but_five(row: dict[str, Any]) -> dict[str, Any]:
    if row["id"] == 5:
        raise ValueError("not today")
    return row


class Shop:
    """A table of orders, and a table that they are loaded into."""

    def __init__(self, database: TestDatabase) -> None:
        self.database = database
        self.place = database.place("orders")
        database.execute(f"CREATE TABLE {self.place} (id INTEGER PRIMARY KEY, changed INTEGER, tenant CHAR(1))")

    def put(self, *keys: int, changed: int, tenant: str = "a") -> None:
        for key in keys:
            self.database.execute(
                f"DELETE FROM {self.place} WHERE id = {key}",
                f"INSERT INTO {self.place} VALUES ({key}, {changed}, '{tenant}')",
            )

    def sink(self, **options: Any) -> SinkTable:
        return SinkTable("copies", conn_id="warehouse", schema=self.database.schema, lock_timeout=30, **options)

    def load(self, key: str, stage: Step | None = None, *, sink: dict[str, Any] = MERGE, **options: Any) -> Any:
        of_run = ("tolerance", "family", "generation", "mapped")
        run: dict[str, Any] = {name: options.pop(name) for name in of_run if name in options}
        given = {"key": "id", "since": "changed", "schema": self.database.schema, **options}
        source = SqlSource("orders", conn_id="warehouse", **given)
        stages = [stage or Step(copy)]
        settings = {"chunk_size": 2, "max_in_flight": 2, "load_key": key, **run}
        return Pipeline(source, stages, self.sink(**sink), **settings).run()

    @property
    def copies(self) -> list[tuple[int, int]]:
        return [(row[0], row[1]) for row in self.database.rows("copies", "id, changed", "1, 2")]


@pytest.fixture
def shop(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.setattr("airflow_parallel_provider.sql.database.get_connection", lambda *_: database.connection)
    return Shop(database)


# -- what fails ------------------------------------------------------------------------------------


@on_databases_with_ranges
def test_a_dead_letter_is_replayed_and_not_read_again(shop: Shop) -> None:
    for changed, key in enumerate((1, 5, 9), start=1):
        shop.put(key, changed=changed)
    monday = shop.load("monday", Step(copy_all_but_five, name="copy"), tolerance=1)
    shop.put(10, changed=4)
    tuesday = shop.load("tuesday")

    assert monday.items_dead_lettered == 1
    assert tuesday.items_read == 2  # with that of the highest value
    assert shop.copies == [(1, 1), (9, 3), (10, 4)]
    replay = Replay(shop.sink(**MERGE), "copy", own="replay")
    Pipeline(replay.source(), [Step(copy)], replay.sink(), load_key="replay").run()
    assert shop.copies == [(1, 1), (5, 2), (9, 3), (10, 4)]


@on_sqlite
def test_a_replayed_row_replaces_no_newer_one(shop: Shop) -> None:
    shop.put(1, 5, changed=1)
    newest = {**MERGE, "newest": "changed"}
    shop.load("monday", Step(copy_all_but_five, name="copy"), tolerance=1, sink=newest)
    shop.put(5, changed=2)
    shop.load("tuesday", sink=newest)
    replay = Replay(shop.sink(**newest), "copy", own="replay")
    Pipeline(replay.source(), [Step(copy)], replay.sink(), load_key="replay").run()

    assert shop.copies == [(1, 1), (5, 2)]


@on_sqlite
def test_a_rejected_row_is_kept(shop: Shop) -> None:
    shop.put(1, 5, changed=1)
    report = shop.load("monday", sink={**MERGE, "validate": lambda row: row["id"] != 5}, tolerance=1)

    assert report.rows_rejected == 1
    assert shop.copies == [(1, 1)]
    assert len(shop.database.rows("copies__rejected")) == 1


SOURCES = {
    "SqlSource": lambda: SqlSource("orders", conn_id="warehouse", key="id", since="changed"),
    "HttpPagesSource": lambda: HttpPagesSource("/orders", conn_id="api", since="updated_after"),
    "FilesSource": lambda: FilesSource("/data/*.csv", only_new=True),
}


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("field", ["dead_letters", "rejected"])
def test_what_fails_must_be_kept_since_no_later_load_reads_it(name: str, field: str) -> None:
    source, forgets = SOURCES[name](), {field: None}

    with pytest.raises(PlanError, match=rf"SinkTable\.{field}=None: with tolerance=1 an item may fail"):
        Pipeline(source, [], SinkTable("copies", conn_id="warehouse", **MERGE, **forgets), tolerance=1)
    Pipeline(source, [], SinkTable("copies", conn_id="warehouse", **MERGE, **forgets))
    Pipeline([1], [], SinkTable("copies", conn_id="warehouse", **MERGE, **forgets), tolerance=1)


# -- Clear -----------------------------------------------------------------------------------------


def clear(shop: Shop, stage: Step | None, on_rerun: str | None, generation: str, **sink: Any) -> Any:
    """One day's load as the operator names it: a new generation of its family after each Clear."""
    key = "tuesday" if on_rerun == "resume" else f"tuesday#{generation}"
    options = {"family": "tuesday", "generation": generation, "sink": {**MERGE, "on_rerun": on_rerun, **sink}}
    return shop.load(key, stage, **options)


@on_databases_with_ranges
@pytest.mark.parametrize("on_rerun", ["resume", "append", None])
@pytest.mark.parametrize("fails", [True, False])
def test_a_clear(shop: Shop, on_rerun: str | None, fails: bool) -> None:
    """Of a load that failed, or that was complete: afterwards, every row is there in its last state."""
    shop.put(1, 2, changed=1)
    shop.load("monday")
    shop.put(3, 4, 5, 6, changed=2)
    if fails:
        with pytest.raises(RunFailed, match="not today"):
            clear(shop, Step(copy_all_but_five), on_rerun, "first")
    else:
        clear(shop, None, on_rerun, "first")
    shop.put(3, 7, changed=3)

    clear(shop, None, on_rerun, "second")
    shop.load("wednesday")

    assert shop.copies == [(1, 1), (2, 1), (3, 3), (4, 2), (5, 2), (6, 2), (7, 3)]


@on_sqlite
def test_a_clear_that_appends_stops_before_it_would_append_twice(shop: Shop) -> None:
    append = {"write_disposition": "append", "primary_key": ()}
    shop.put(3, 4, 5, 6, changed=2)
    with pytest.raises(RunFailed, match="not today"):
        clear(shop, Step(copy_all_but_five), "append", "first", **append)

    with pytest.raises(RunFailed, match="would read their rows again and append them a second time"):
        clear(shop, None, "append", "second", **append)
    assert shop.copies == [(3, 2), (4, 2)]


@on_sqlite
def test_a_clear_that_resumes_appends_each_row_once(shop: Shop) -> None:
    append = {"write_disposition": "append", "primary_key": ()}
    shop.put(3, 4, 5, 6, changed=2)
    with pytest.raises(RunFailed, match="not today"):
        clear(shop, Step(copy_all_but_five), "resume", "first", **append)
    clear(shop, None, "resume", "second", **append)

    assert shop.copies == [(3, 2), (4, 2), (5, 2), (6, 2)]


# -- mapped tasks, processes -------------------------------------------------------------------------


@on_databases_with_ranges
def test_each_mapped_task_goes_on_where_its_own_condition_has_ended(shop: Shop) -> None:
    def load(day: str, tenant: str) -> Any:
        options = {"where": "tenant = :tenant", "parameters": {"tenant": tenant}, "mapped": 2}
        return shop.load(f"{day}[{tenant}]", family=f"{day}[{tenant}]", **options)

    shop.put(1, 2, changed=1)
    shop.put(3, changed=5, tenant="b")
    first = [load("monday", tenant).items_read for tenant in "ab"]
    shop.put(4, changed=2)  # less than what the other has reached
    shop.put(5, changed=6, tenant="b")
    second = [load("tuesday", tenant).items_read for tenant in "ab"]

    assert first == [2, 1]
    assert second == [3, 2]  # with those of the last value
    assert shop.copies == [(1, 1), (2, 1), (3, 5), (4, 2), (5, 6)]


@on_databases_with_ranges
def test_a_stage_of_processes(shop: Shop) -> None:
    shop.put(1, 2, 5, 6, 7, changed=1)
    with pytest.raises(RunFailed, match="not today"):
        shop.load("monday", Step(copy_all_but_five, kind="process", workers=1))
    shop.put(8, changed=2)

    retry = shop.load("monday", Step(copy, kind="process", workers=1))
    assert (retry.items_skipped, retry.items_committed) == (2, 3)
    assert shop.load("tuesday", Step(copy, kind="process", workers=1)).items_read == 6
    assert [key for key, _ in shop.copies] == [1, 2, 5, 6, 7, 8]
