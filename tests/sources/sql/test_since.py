"""``SqlSource(since=)``: each load reads what is new since the last complete one, whatever the type of the column."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from airflow_parallel_provider import ListSink, Pipeline, PlanError, RunFailed, SinkTable, SqlSource, Stage
from airflow_parallel_provider.sources.sql.since import Cursor, Window, lower_bound
from tests.support.databases import TestDatabase, fast_on

pytestmark = pytest.mark.airflow

on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
on_databases_with_ranges = fast_on("sqlite", of=("sqlite", "postgres", "mariadb"))


def same(row: dict[str, Any]) -> dict[str, Any]:
    return row


class Shop:
    """A table of orders, and loads of it into a copy."""

    def __init__(self, database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("airflow_parallel_provider.sql.database.get_connection", lambda *_: database.connection)
        self.database = database

    def create(self, kind: str = "INTEGER NOT NULL") -> None:
        place = self.database.place("orders")
        self.database.execute(f"CREATE TABLE {place} (id INTEGER NOT NULL PRIMARY KEY, changed {kind}, name CHAR(1))")

    def put(self, *rows: tuple[int, Any], name: str = "a") -> None:
        """Insert rows, or update those that are there."""
        place = self.database.place("orders")
        for key, changed in rows:
            value = "NULL" if changed is None else changed if isinstance(changed, (int, Decimal)) else f"'{changed}'"
            self.database.execute(
                f"DELETE FROM {place} WHERE id = {key}", f"INSERT INTO {place} VALUES ({key}, {value}, '{name}')"
            )

    def pipeline(self, load: str, function: Any = same, *, merge: bool = True, **options: Any) -> Pipeline:
        newest = options.pop("newest", None)
        run = {name: options.pop(name) for name in ("chunk_size", "max_in_flight", "ordered") if name in options}
        how = {"write_disposition": "merge", "primary_key": ["id"], "newest": newest} if merge else {}
        sink = SinkTable("copies", conn_id="warehouse", schema=self.database.schema, lock_timeout=30, **how)
        given = {"key": "id", "since": "changed", "schema": self.database.schema, **options}
        source = SqlSource("orders", conn_id="warehouse", **given)
        return Pipeline(source, [Stage(function)], sink, load_key=load, **{"chunk_size": 2, **run})

    def load(self, load: str, function: Any = same, **options: Any) -> Any:
        return self.pipeline(load, function, **options).run()

    @property
    def copies(self) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = self.database.rows("copies", "id, changed, name")
        return found


@pytest.fixture
def shop(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> Shop:
    return Shop(database, monkeypatch)


def refuses(*keys: int) -> Any:
    def copy(row: dict[str, Any]) -> dict[str, Any]:
        if row["id"] in keys:
            raise ValueError("not today")
        return row

    return copy


MOMENTS = [datetime.fromisoformat("2026-11-01 10:00:00.123456") + timedelta(minutes=each) for each in range(9)]
TYPES: dict[str, tuple[str, list[Any]]] = {
    "int": ("BIGINT", [2**53 + each for each in range(9)]),
    "timestamp": ("{timestamp}", MOMENTS),
    "timestamptz": ("{timestamptz}", [f"{each}+00:00" for each in MOMENTS]),
    "date": ("DATE", [date(2026, 11, 1) + timedelta(days=each) for each in range(9)]),
    "text": ("VARCHAR(40)", [f"v {each}" for each in range(9)]),
    "decimal": ("DECIMAL(20,9)", [Decimal("10000000.123456789") + each for each in range(9)]),
}
NAMES = {
    "sqlite": ("TIMESTAMP", "TIMESTAMP"),
    "postgres": ("TIMESTAMP", "TIMESTAMPTZ"),
    "mariadb": ("DATETIME(6)",) * 2,
}


@on_databases_with_ranges
@pytest.mark.parametrize("merge", [True, False], ids=["merge", "append"])
@pytest.mark.parametrize("kind", TYPES)
def test_each_load_reads_what_is_new(shop: Shop, kind: str, merge: bool) -> None:
    sql_type, values = TYPES[kind]
    if kind == "timestamptz" and shop.database.name == "mariadb":
        values = MOMENTS
    names = NAMES[shop.database.name]
    shop.create(sql_type.format(timestamp=names[0], timestamptz=names[1]))
    shop.put((1, values[0]), (2, values[4]), (3, values[2]))

    first = shop.load("monday", merge=merge)
    shop.put((0, values[6]), (7, values[8]))
    second = shop.load("tuesday", merge=merge)
    third = shop.load("wednesday", merge=merge)

    assert [row[0] for row in shop.copies] == [0, 1, 2, 3, 7]
    # A merge takes rows of the very same value again: another one may have come since.
    assert [each.items_read for each in (first, second, third)] == ([3, 3, 1] if merge else [3, 2, 0])


@on_databases_with_ranges
def test_changed_rows_come_again(shop: Shop) -> None:
    shop.create()
    shop.put((1, 1), (2, 2), (3, 3))
    shop.load("monday")
    shop.put((1, 4), (9, 4), name="b")
    shop.load("tuesday")

    assert shop.copies == [(1, 4, "b"), (2, 2, "a"), (3, 3, "a"), (9, 4, "b")]


@on_sqlite
def test_the_cursor_may_be_the_key(shop: Shop) -> None:
    shop.create()
    shop.put(*((each, 1) for each in range(5)))
    reports = [shop.load("monday", since="id", merge=False)]
    shop.put((5, 0), (6, 0))
    reports += [shop.load(load, since="id", merge=False) for load in ("tuesday", "wednesday")]

    assert [row[0] for row in shop.copies] == list(range(7))
    assert [each.items_read for each in reports] == [5, 2, 0]


@on_sqlite
def test_a_failed_load_does_not_move_the_cursor(shop: Shop) -> None:
    shop.create()
    shop.put(*((each, each) for each in range(1, 7)))
    with pytest.raises(RunFailed, match="not today"):
        shop.load("monday", refuses(5), max_in_flight=2)
    assert [row[0] for row in shop.copies] == [1, 2, 3, 4]

    assert shop.load("tuesday").items_read == 6
    assert [row[0] for row in shop.copies] == [1, 2, 3, 4, 5, 6]


@on_sqlite
def test_append_refuses_to_read_again_what_a_failed_load_has_committed(shop: Shop) -> None:
    shop.create()
    shop.put(*((each, each) for each in range(1, 7)))
    with pytest.raises(RunFailed, match="not today"):
        shop.load("monday", refuses(5), max_in_flight=2, merge=False)

    with pytest.raises(RunFailed, match=r"load 'monday' has committed 4 items and is not complete.*on_rerun='resume'"):
        shop.load("tuesday", merge=False)
    shop.load("monday", merge=False)
    shop.put((7, 7))
    assert shop.load("tuesday", merge=False).items_read == 1
    assert [row[0] for row in shop.copies] == [1, 2, 3, 4, 5, 6, 7]


@on_databases_with_ranges
@pytest.mark.parametrize("ordered", [True, False])
def test_a_retry_reads_what_the_first_try_froze(shop: Shop, ordered: bool) -> None:
    """Rows that came later, and those that were updated meanwhile, are for the next load."""
    shop.create()
    shop.put(*((each, each) for each in range(1, 9)))
    with pytest.raises(RunFailed, match="not today"):
        shop.load("monday", refuses(5), max_in_flight=2, ordered=ordered)
    shop.put((9, 9), (0, 9), (1, 10), (5, 10), name="b")

    report = shop.load("monday", ordered=ordered)

    assert (report.items_skipped, report.items_committed) == (4, 3)
    assert shop.copies == [(1, 1, "a"), *((each, each, "a") for each in (2, 3, 4, 6, 7, 8))]
    assert shop.load("tuesday").items_read == 5  # with the row of the highest value of before
    assert shop.copies == sorted(shop.database.rows("orders", "id, changed, name"))


@on_sqlite
def test_a_row_that_turns_up_in_a_range_is_read_with_it(shop: Shop) -> None:
    shop.create()
    shop.put(*((each * 10, each) for each in range(1, 7)))
    with pytest.raises(RunFailed, match="not today"):
        shop.load("monday", refuses(60), max_in_flight=2)
    shop.put((55, 1))

    report = shop.load("monday")

    assert (report.items_skipped, report.items_committed) == (4, 3)
    assert [row[0] for row in shop.copies] == [10, 20, 30, 40, 50, 55, 60]


@on_databases_with_ranges
def test_shards_read_what_was_new_when_the_load_began(shop: Shop) -> None:
    shop.create()
    shop.put(*((each, each) for each in range(1, 4)))
    shop.load("monday")
    shop.put(*((each, each) for each in range(4, 13)))
    tuesday = {"newest": "changed"}  # shards have no common order
    shop.pipeline("tuesday", **tuesday).begin()
    shop.put((13, 13), (6, 14), name="b")
    for index in range(2):
        shop.pipeline("tuesday", **tuesday).run(shard=(index, 2))
    report = shop.pipeline("tuesday", **tuesday).finish()

    assert report.items_read == 9  # 3 to 12 but 6
    assert shop.load("wednesday").items_read == 3
    assert shop.copies == sorted(shop.database.rows("orders", "id, changed, name"))


LAGS: dict[str, tuple[str, list[Any], Any]] = {
    "number": ("INTEGER", [10, 20, 30, 29, 26], 3),
    "times": ("{timestamp}", [MOMENTS[0], MOMENTS[1], MOMENTS[8], MOMENTS[7], MOMENTS[3]], timedelta(minutes=2)),
    "dates": ("DATE", [date(2026, 1, day) for day in (1, 2, 20, 19, 5)], timedelta(hours=30)),
}


@on_databases_with_ranges
@pytest.mark.parametrize("kind", LAGS)
def test_late_rows_within_the_lag_are_read(shop: Shop, kind: str) -> None:
    sql_type, (one, two, last, late, too_late), lag = LAGS[kind]
    shop.create(sql_type.format(timestamp=NAMES[shop.database.name][0]))
    shop.put((1, one), (2, two), (3, last))
    shop.load("monday", since_lag=lag)
    shop.put((4, late), (5, too_late))

    assert shop.load("tuesday", since_lag=lag).items_read == 2
    assert [row[0] for row in shop.copies] == [1, 2, 3, 4]


@on_databases_with_ranges
def test_null_in_the_cursor(shop: Shop) -> None:
    shop.create("INTEGER")
    shop.put((1, 1), (2, None), (3, 3))

    with pytest.raises(
        PlanError, match=r"SqlSource.since='changed': the column is NULL in some rows.*since_null='skip'"
    ):
        shop.load("monday")
    shop.load("monday", since_null="skip")
    assert [row[0] for row in shop.copies] == [1, 3]
    assert shop.load("tuesday", since_null="load").items_read == 2
    assert [row[0] for row in shop.copies] == [1, 2, 3]


@on_sqlite
@pytest.mark.parametrize("nulls", ["skip", "load"])
def test_nothing_but_nulls(shop: Shop, nulls: str) -> None:
    shop.create("INTEGER")
    shop.put((1, None))
    reports = [shop.load("monday", since_null=nulls)]
    shop.put((2, 2))
    reports.append(shop.load("tuesday", since_null=nulls))

    assert [each.items_read for each in reports] == ([0, 1] if nulls == "skip" else [1, 2])


@on_sqlite
def test_another_condition_begins_anew(shop: Shop) -> None:
    shop.create()
    shop.put((1, 1), (2, 2))
    options = {"where": "name = :name", "columns": ["id", "name"]}
    shop.load("monday", parameters={"name": "a"}, **options)
    shop.put((3, 1), (4, 2), name="b")

    assert shop.load("monday b", parameters={"name": "b"}, **options).items_read == 2
    assert shop.load("tuesday", parameters={"name": "a"}, **options).items_read == 1


@on_sqlite
def test_purging_keeps_the_last_load_only(shop: Shop) -> None:
    shop.create()
    shop.put((1, 1), (2, 2))
    for load in ("monday", "tuesday", "wednesday"):
        shop.load(load)
    hook = shop.database.hook("copies")

    assert hook.purge_ledger(timedelta(0), abandoned=True) == 2
    assert shop.load("thursday").items_read == 1
    hook.discard("thursday")
    hook.discard("wednesday")
    assert shop.load("friday").items_read == 2


@on_sqlite
def test_by_itself_it_reads_all_rows(shop: Shop) -> None:
    shop.create()
    shop.put((1, 1), (2, 2), (3, 2))

    assert len(list(SqlSource("orders", conn_id="warehouse", key="id", since="changed"))) == 3


@pytest.mark.parametrize(
    ("options", "sink", "complaint"),
    [
        ({}, {"write_disposition": "replace"}, r"SinkTable\.write_disposition='replace': .*SqlSource\.since='changed'"),
        ({"since_lag": 1}, {}, r"SinkTable\.write_disposition='append': SqlSource\.since_lag=1 reads rows again"),
        ({"since_null": "load"}, {}, r"SinkTable\.write_disposition='append': SqlSource\.since_null='load'"),
        ({"since_lag": -1}, {}, r"SqlSource\.since_lag=-1"),
        ({"since_lag": float("nan")}, {}, r"SqlSource\.since_lag=nan"),
        ({"since_lag": "1 hour"}, {}, r"SqlSource\.since_lag='1 hour': give a timedelta"),
        ({"since": None, "since_lag": 1}, {}, r"SqlSource\.since_lag=1: it goes with since="),
        ({"since": None, "since_null": "skip"}, {}, r"SqlSource\.since_null='skip'"),
        ({"since_null": "drop"}, {}, r"SqlSource\.since_null='drop'"),
        ({"since": ""}, {}, r"SqlSource\.since=''"),
    ],
)
def test_what_contradicts_is_refused(options: dict[str, Any], sink: dict[str, Any], complaint: str) -> None:
    with pytest.raises(PlanError, match=complaint):
        source = SqlSource("orders", **{"conn_id": "warehouse", "key": "id", "since": "changed", **options})
        Pipeline(source, [], SinkTable("copies", conn_id="warehouse", **sink))


def test_only_a_table_knows() -> None:
    source = SqlSource("orders", conn_id="warehouse", key="id", since="changed")
    with pytest.raises(PlanError, match=r"SqlSource\.since='changed': the ledger of a SinkTable"):
        Pipeline(source, [], ListSink())


@on_sqlite
def test_column_and_lag_must_fit(shop: Shop) -> None:
    shop.create("VARCHAR(9)")
    shop.put((1, "x"))
    with pytest.raises(PlanError, match=r"SqlSource\.since='absent': table 'orders' has no such column"):
        shop.load("monday", since="absent")
    shop.load("monday", since_lag=timedelta(1))
    with pytest.raises(RunFailed, match=r"since_lag.*cannot be taken off a str"):
        shop.load("tuesday", since_lag=timedelta(1))


@pytest.mark.parametrize(
    ("high", "lag", "low"),
    [
        ("2026-11-01 10:00:00", timedelta(seconds=0.5), "2026-11-01 09:59:59"),
        ("2026-11-01T10:00:00.250Z", timedelta(seconds=0.5), "2026-11-01T09:59:59.750Z"),
        ("2026-11-01 10:00:00.000001+01:00", timedelta(hours=1), "2026-11-01 09:00:00.000001+01:00"),
        ("2026-11-01", timedelta(hours=1), "2026-10-31"),
        (date(2026, 11, 1), timedelta(hours=25), date(2026, 10, 30)),
        (Decimal("1.1"), 0.1, Decimal("1.0")),
    ],
)
def test_a_lag_is_taken_off_in_the_form_of_the_value(high: Any, lag: Any, low: Any) -> None:
    before = Window(None, high, inclusive=False, is_first=True)

    assert lower_bound(Window.of_json(json.loads(json.dumps(before.as_json()))), Cursor("changed", lag, "error")) == low


def test_a_value_that_json_cannot_keep_is_refused() -> None:
    with pytest.raises(PlanError, match=r"SqlSource\.since='object'"):
        Window(None, object(), inclusive=False, is_first=True).as_json()
