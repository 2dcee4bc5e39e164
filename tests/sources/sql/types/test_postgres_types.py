"""Intervals, ranges and arrays of PostgreSQL in ``SqlSource``, and on their way into other tables."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_parallel_provider import Interval, RunFailed, SqlSource, Stage
from airflow_parallel_provider.errors import SourceError
from airflow_parallel_provider.values import typed_json
from airflow_parallel_provider.values.intervals import DayTime, parts, span
from airflow_parallel_provider.values.unreadable import Unreadable
from tests.support.copies import copy, made
from tests.support.databases import TestDatabase

pytestmark = pytest.mark.airflow

TERMS = {
    "1 mon": Interval(1),
    "1 year": Interval(12),
    "-1 mons": Interval(-1),
    "11 mons": Interval(11),
    "1 mon 3 days 04:05:06.789": Interval(1, 3, 14_706_789_000),
    "-1 years -2 mons +3 days -04:05:06": Interval(-14, 3, -14_706_000_000),
    "00:00:00": timedelta(0),
    "1 day": timedelta(days=1),
    "24:00:00": timedelta(days=1),
    "36:00:00": timedelta(hours=36),
    "-00:00:00.000001": timedelta(microseconds=-1),
    "-1 days -02:00:00": timedelta(days=-1, hours=-2),
    "10 days 02:03:04.123457": timedelta(10, 7384, 123457),
}


def source(database: TestDatabase, key: str = "id") -> SqlSource:
    return SqlSource("origin", conn_id="warehouse", key=key, schema=database.schema, range_size=100)


def fill(database: TestDatabase, *terms: str, kind: str = "interval", table: str = "origin") -> None:
    values = ", ".join(f"({number}, '{term}')" for number, term in enumerate(terms))
    database.execute(f"CREATE TABLE {database.place(table)} (id int PRIMARY KEY, v {kind})")
    if terms:
        database.execute(f"INSERT INTO {database.place(table)} VALUES {values}")


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[TestDatabase]:
    database = made("postgres", tmp_path)
    yield database
    database.drop()


@pytest.fixture
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TestDatabase]:
    database = made(request.param, tmp_path, "target")
    yield database
    database.drop()


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
@pytest.mark.parametrize("kind", ["interval", "term"])
def test_interval_is_a_timedelta_unless_it_has_months(database: TestDatabase, kind: str) -> None:
    if kind == "term":
        database.execute(f"CREATE DOMAIN {database.place('term')} AS interval")
        kind = database.place("term")
    fill(database, *TERMS, kind=kind)

    found = [row["v"] for row in source(database)]

    assert found == list(TERMS.values())
    assert all(isinstance(value, (timedelta, Interval)) for value in found)


@pytest.mark.parametrize("target", ["postgres", "postgres-psycopg2", "duckdb"], indirect=True)
@pytest.mark.parametrize("disposition", ["append", "merge"])
def test_interval_is_copied_part_by_part(
    origin: TestDatabase, target: TestDatabase, disposition: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(origin, *TERMS)
    origin.execute(f"INSERT INTO {origin.place('origin')} VALUES (99, NULL)")

    copy(monkeypatch, origin, target, write_disposition=disposition, primary_key=["id"])

    if target.name == "postgres":
        assert target.rows("copied", "v::text", "id") == [(term,) for term in TERMS] + [(None,)]
    else:
        months = "(extract(year FROM v) * 12 + extract(month FROM v))::int"
        micros = "(extract(hour FROM v) * 3600000000 + extract(minute FROM v) * 60000000 + extract(microsecond FROM v))"
        found = target.rows("copied", f"{months}, extract(day FROM v)::int, {micros}::bigint", "id")
        assert found[:-1] == origin_parts(origin)
        assert found[-1] == (None, None, None)


def origin_parts(origin: TestDatabase) -> list[tuple[int, ...]]:
    months = "(extract(year FROM v) * 12 + extract(month FROM v))::int"
    micros = "(extract(hour FROM v) * 3600000000 + extract(minute FROM v) * 60000000 + extract(microseconds FROM v))"
    return origin.rows("origin", f"{months}, extract(day FROM v)::int, {micros}::bigint", "id")[:-1]


@pytest.mark.parametrize("target", ["mariadb", "sqlite"], indirect=True)
@pytest.mark.parametrize("exists", [True, False])
def test_months_are_refused_by_row_where_they_have_no_type(
    origin: TestDatabase, target: TestDatabase, monkeypatch: pytest.MonkeyPatch, *, exists: bool
) -> None:
    fill(origin, "1 day", "36:00:00", "1 month")
    if exists:
        fill(target, kind="decimal(20,6)", table="copied")

    with pytest.raises(RunFailed) as failed:
        copy(monkeypatch, origin, target)
    assert "column 'v'" in str(failed.value.__cause__)
    assert "cannot take a value of type Interval (chunk 00000000, row 2)" in str(failed.value.__cause__)

    report = copy(monkeypatch, origin, target, max_rejected=1, run_options={"tolerance": 1})
    assert report.rows_committed == 2
    assert [float(value) for (value,) in target.rows("copied", "v", "id")] == [86_400, 129_600]


@pytest.mark.parametrize("target", ["postgres"], indirect=True)
@pytest.mark.parametrize(
    ("kind", "term"),
    [
        ("interval[]", '{"1 mon","36:00:00",NULL}'),
        ("interval[][]", '{{"1 mon"},{"1 day"}}'),
        ("json[]", '{"{\\"a\\": 1.10}",NULL,"null"}'),
        ("jsonb[]", '{"[1.10]"}'),
        ("int4range", "[1,5)"),
        ("numrange", "empty"),
        ("daterange", "[2026-01-01,)"),
        ("tstzrange", '["2026-01-01 00:00:00+00",infinity)'),
        ("int4multirange", "{[1,3),[5,7)}"),
        ("daterange[]", '{"[2026-01-01,2026-02-01)"}'),
        ("pair", '(1 mon,"[1,2)")'),
        ("pair[]", '{"(1 mon,\\"[1,2)\\")"}'),
    ],
)
def test_what_drivers_cannot_give_back_is_copied_as_its_text(
    origin: TestDatabase, target: TestDatabase, kind: str, term: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for database in (origin, target):
        database.execute(f"CREATE TYPE {database.place('pair')} AS (term interval, span int4range)")
    if kind.startswith("pair"):
        fill(origin, term, kind=kind.replace("pair", origin.place("pair")))
        fill(target, kind=kind.replace("pair", target.place("pair")), table="copied")
    else:
        fill(origin, term, kind=kind)
        fill(target, kind=kind, table="copied")

    copy(monkeypatch, origin, target)

    assert target.rows("copied", "v::text", "id") == origin.rows("origin", "v::text", "id") != []


def seen(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "kind": type(row["v"]).__name__, "longer": row["v"] > timedelta(0)}


@pytest.mark.parametrize("target", ["postgres"], indirect=True)
@pytest.mark.parametrize("kind", ["thread", "process"])
def test_interval_passes_through_a_function(
    origin: TestDatabase, target: TestDatabase, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(origin, "36:00:00", "1 mon")

    report = copy(monkeypatch, origin, target, stages=[Stage(seen, kind=kind)], run_options={"tolerance": 1})

    assert report.items_dead_lettered == 1  # months cannot be compared with a timedelta
    assert target.rows("copied", "v::text, kind, longer", "id") == [("36:00:00", "DayTime", True)]
    (letter,) = target.rows("copied__dead_letters", "item", "position")
    assert typed_json.loads(letter[0]) == {"id": 1, "v": Interval(1)}


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_interval_is_a_key(database: TestDatabase) -> None:
    fill(database, *(f"{number} mons" for number in range(1, 131)), "1 day")
    database.execute(f"ALTER TABLE {database.place('origin')} ALTER v SET NOT NULL, ADD UNIQUE (v)")
    reader = source(database, "v")
    reader.prepare()
    reader.restore_state(json.loads(json.dumps(reader.get_state())))

    assert [row["id"] for row in reader] == [130, *range(130)]


def test_interval_is_the_same_after_a_pickle_and_a_dead_letter() -> None:
    for value in (Interval(1, -2, 3), DayTime(1, -1), DayTime(0, 90_000_000_000)):
        text, exact = typed_json.dumps([value], 1000)
        for other in (pickle.loads(pickle.dumps(value)), typed_json.loads(text)[0]):
            assert exact
            assert (type(other), parts(other)) == (type(value), parts(value))
    assert type(span(0, 1, 5)) is timedelta


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
@pytest.mark.parametrize(
    ("kind", "term"),
    [
        ("date", "infinity"),
        ("date", "-infinity"),
        ("date", "20240-01-01"),
        ("date", "0044-03-15 BC"),
        ("timestamp", "infinity"),
        ("timestamptz", "-infinity"),
        ("timestamptz", "0001-01-01 00:00:00 BC"),
        ("time", "24:00:00"),
        ("interval", "2000000000 days"),
        ("date[]", "{2026-01-01,infinity}"),
    ],
)
def test_value_that_python_has_not_is_one_rejected_row(
    database: TestDatabase, kind: str, term: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.execute(
        f"CREATE TABLE {database.place('origin')} (id int PRIMARY KEY, v {kind})",
        f"INSERT INTO {database.place('origin')} SELECT n, CASE WHEN n = 130 THEN '{term}' END::{kind} "
        "FROM generate_series(0, 250) n",
    )
    options: dict[str, Any] = {"source_options": {"range_size": 100}, "columns": {"id": int, "v": "text"}}

    with pytest.raises(RunFailed) as failed:
        copy(monkeypatch, database, database, **options)
    assert "read from column 'v' of row 130 in the order of id" in str(failed.value.__cause__)

    report = copy(monkeypatch, database, database, **options, max_rejected=1, run_options={"tolerance": 1})
    assert report.rows_committed == 250
    [(reason, raw)] = database.rows("copied__rejected", "reason, raw")
    assert "that Python does not have" in reason or "beyond the range" in reason
    assert '"id": 130' in raw


TEMPORAL = {
    "date": ("2026-01-01", "infinity", "20240-01-01", "0044-03-15 BC"),
    "timestamp": ("2026-01-01 01:02:03", "-infinity", "20240-01-01", "0044-03-15 BC"),
    "timestamptz": ("2026-01-01 01:02:03+00", "infinity", "20240-01-01 00:00:00+00", "0044-03-15 00:00:00+00 BC"),
    "time": ("01:02:03", "24:00:00", "24:00:00", "24:00:00"),
    "timetz": ("01:02:03+05:30", "24:00:00+00", "24:00:00+00", "24:00:00+00"),
    "date[]": ("{2026-01-01,NULL}", "{2026-01-01,infinity}", "{20240-01-01}", "{-infinity}"),
    "timestamptz[]": ("{2026-01-01 01:02:03+00}", "{infinity}", "{-infinity}", "{2026-01-01,infinity}"),
}


@pytest.mark.parametrize("database", ["postgres", "postgres-psycopg2"], indirect=True)
def test_no_driver_makes_another_value_of_it(database: TestDatabase) -> None:
    """Psycopg 2, which Airflow 3.1 uses, made 9999-12-31 of ``infinity`` and midnight of ``24:00:00``."""
    place = database.place("origin")
    columns = ", ".join(f"c{at} {kind}" for at, kind in enumerate(TEMPORAL))
    rows = [f"({at}, {', '.join(map(repr, terms))})" for at, terms in enumerate(zip(*TEMPORAL.values(), strict=True))]
    database.execute(f"CREATE TABLE {place} (id int PRIMARY KEY, {columns})", f"INSERT INTO {place} VALUES {rows[0]}")
    first = {key: value for key, value in next(iter(source(database))).items() if key != "id"}
    database.execute(f"INSERT INTO {place} VALUES {', '.join(rows[1:])}")

    readable, *unreadable = source(database)

    assert readable == {"id": 0, **first}
    assert list(first.values())[:1] == [date(2026, 1, 1)]
    assert not any(isinstance(value, Unreadable) for value in first.values())
    for row in unreadable:
        assert all(isinstance(value, Unreadable) for value in list(row.values())[1:]), row


BEYOND_PYTHON = {
    "date": ("infinity", "-infinity", "20240-02-29", "0001-03-01 BC", "0044-03-15 BC", "4713-01-01 BC"),
    "timestamp": ("infinity", "-infinity", "10000-01-01 00:00:00.000001", "0001-12-31 23:59:59.5 BC"),
    "timestamptz": ("infinity", "-infinity", "10000-01-01 05:06:07+05:30", "0001-01-01 00:00:00 BC"),
    "time": ("24:00:00",),
    "timetz": ("24:00:00+05:30",),
    "date[]": ("{2026-01-01,infinity,NULL}", "{{-infinity},{2026-01-01}}"),
    "timestamptz[]": ('{"10000-01-01 00:00:00+00"}',),
}


@pytest.mark.parametrize(
    ("target", "disposition", "kinds"),
    [
        ("postgres", "append", ("date", "timestamp", "timestamptz", "time")),  # of these alone a COPY would be binary
        ("postgres", "merge", ("date", "timestamp", "timestamptz", "time")),
        ("postgres", "append", tuple(BEYOND_PYTHON)),
        ("postgres-psycopg2", "merge", tuple(BEYOND_PYTHON)),
    ],
    indirect=["target"],
)
def test_value_that_python_has_not_is_copied_into_its_own_type(
    origin: TestDatabase, target: TestDatabase, disposition: str, kinds: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = ", ".join(f"c{at} {kind}" for at, kind in enumerate(kinds))
    for database, table in ((origin, "origin"), (target, "copied")):
        database.execute(f"CREATE TABLE {database.place(table)} (id int PRIMARY KEY, {columns})")
    for row in range(7):
        terms = (BEYOND_PYTHON[kind][row : row + 1] for kind in kinds)
        values = ", ".join(f"'{term[0]}'" if term else "NULL" for term in terms)
        origin.execute(f"INSERT INTO {origin.place('origin')} VALUES ({row}, {values})")

    copy(monkeypatch, origin, target, write_disposition=disposition, primary_key=["id"])

    texts = ", ".join(f"c{at}::text" for at in range(len(kinds)))
    assert target.rows("copied", f"id, {texts}", "id") == origin.rows("origin", f"id, {texts}", "id") != []


@pytest.mark.parametrize("target", ["postgres"], indirect=True)
def test_value_that_python_has_not_goes_into_no_other_type(
    origin: TestDatabase, target: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(origin, "infinity", kind="date")
    fill(target, kind="timestamp", table="copied")

    with pytest.raises(RunFailed) as failed:
        copy(monkeypatch, origin, target)

    assert "that Python does not have" in str(failed.value.__cause__)


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_function_that_uses_such_a_value_makes_one_dead_letter(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(database, "2026-01-01", "infinity", kind="date")

    report = copy(
        monkeypatch, database, database,
        stages=[Stage(lambda row: {"id": row["id"], "v": str(row["v"])}, kind="thread")], run_options={"tolerance": 1},
    )  # fmt: skip

    assert (report.rows_committed, report.items_dead_lettered) == (1, 1)
    assert "column 'v' of row 1 in the order of id" in database.rows("copied__dead_letters", "traceback")[0][0]


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
@pytest.mark.parametrize(
    "options",
    [
        {"aggregates": {"last": "max(v)", "rows": "count by v"}},
        {"validate": lambda row: row["id"] == 0 or row["v"].year > 2000},
        {"write_disposition": "merge", "primary_key": ["id"]},
        {"write_disposition": "replace"},
        {"load_column": "load"},
    ],
    ids=["aggregates", "validate", "merge", "replace", "load_column"],
)
def test_such_a_value_costs_one_row_with_every_feature(
    database: TestDatabase, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(database, "2026-01-01", "infinity", "2026-01-02", kind="date")

    fields = {"id": int, "v": "timestamp"}
    report = copy(
        monkeypatch, database, database, max_rejected=1, run_options={"tolerance": 1}, columns=fields, **options
    )

    assert (report.rows_committed, report.rows_rejected) == (2, 1)
    assert database.rows("copied", "v::date::text", "id") == [("2026-01-01",), ("2026-01-02",)]
    assert "column 'v' of row 1 in the order of id" in database.rows("copied__rejected", "reason")[0][0]
    if "aggregates" in options:
        assert report.aggregates["last"].startswith("2026-01-02")


@pytest.mark.parametrize("database", ["postgres", "postgres-psycopg2"], indirect=True)
def test_key_that_python_has_not_is_named(database: TestDatabase) -> None:
    database.execute(
        f"CREATE TABLE {database.place('origin')} (id date PRIMARY KEY)",
        f"INSERT INTO {database.place('origin')} VALUES ('2026-01-01'), ('infinity')",
    )

    with pytest.raises(SourceError, match=r"a row's key \(id\) is a date or time that Python does not have.*where="):
        list(source(database))
