"""From PostgreSQL to PostgreSQL as lines of COPY: the same values, the same chunks, the same errors as row by row."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_parallel_provider import Pipeline, RunFailed, SinkTable, SqlSource, Stage
from airflow_parallel_provider.rows.texts.line_rows import LineRows, texts_of
from airflow_parallel_provider.sources.sql import line_reading
from tests.support.copies import made
from tests.support.databases import TestDatabase

pytestmark = pytest.mark.airflow

ODD = {
    "smallint": ["-32768"],
    "numeric(12,2)": ["-0.10", "9999999999.99"],
    "numeric": ["NaN", "1.10", "12345678901234567890.123456789"],
    "real": ["0.1", "infinity", "1e-40"],
    "double precision": ["0.1", "1.7976931348623157e+308", "-0", "nan"],
    "boolean": ["t", "f"],
    "text": ["", "tab\there", "back\\slash", "line\nend\r", "\\N", "NULL", "\\.", "\u00e9\U0001f600", '"quoted"'],
    "varchar(5)": ["ab   "],
    "char(5)": ["ab"],
    "bytea": ["\\x00ff5c"],
    "date": ["infinity", "0044-03-15 BC", "9999-12-31"],
    "time": ["24:00:00", "12:34:56.789"],
    "timetz": ["24:00:00+02"],
    "timestamp": ["-infinity", "2026-12-01 10:00:00.000001"],
    "timestamptz(3)": ["2026-12-01 10:00:00.123+02", "infinity"],
    "interval": ["1 year 2 mons -3 days -04:05:06.7", "36:00:00"],
    "uuid": ["7d7df6ad-9d3a-4ab4-a3a1-7a6b0a5d9f0e"],
    "json": ['{"a": 1.10, "a": 2}', "null", '"\\u0041\\n"'],
    "jsonb": ['{"a": 12345678901234567890.10}'],
    "inet": ["10.0.0.1/8"],
    "bit(3)": ["101"],
    "int4range": ["[1,5)", "empty"],
    "daterange[]": ['{"[2026-01-01,infinity)",NULL}'],
    "int[]": ["[2:3]={1,NULL}", "{}"],
    "text[]": ['{"a,b","c\\"d",NULL,"NULL"}'],
}


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[TestDatabase]:
    database = made("postgres", tmp_path)
    yield database
    database.drop()


@pytest.fixture
def target(tmp_path: Path) -> Iterator[TestDatabase]:
    database = made("postgres", tmp_path, "target")
    yield database
    database.drop()


@pytest.fixture
def connected(origin: TestDatabase, target: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_parallel_provider.sql import database as module

    known = {"warehouse": origin.connection, "target": target.connection}
    monkeypatch.setattr(module, "get_connection", lambda conn_id, field: known[conn_id])


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many lines each range had that was read as lines."""
    found: list[int] = []
    fetch = line_reading._fetch_lines

    def counted(*arguments: Any, **options: Any) -> list[bytes]:
        lines = fetch(*arguments, **options)
        found.append(len(lines))
        return lines

    monkeypatch.setattr(line_reading, "_fetch_lines", counted)
    return found


def filled(
    database: TestDatabase, table: str = "origin", columns: str = "id int PRIMARY KEY, v text", rows: int = 250
) -> None:
    database.execute(f"CREATE TABLE {database.place(table)} ({columns})")
    if rows:
        database.execute(
            f"INSERT INTO {database.place(table)} (id, v) SELECT n, 'value ' || n FROM generate_series(1, {rows}) n"
        )


def source(database: TestDatabase, **options: Any) -> SqlSource:
    return SqlSource("origin", conn_id="warehouse", key="id", schema=database.schema, range_size=100, **options)


def sink(database: TestDatabase, **options: Any) -> SinkTable:
    return SinkTable("copied", conn_id="target", schema=database.schema, **{"on_rerun": "append", **options})


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("settings", [(None, None), ("German,DMY", "SQL,MDY")], ids=["alike", "of other sessions"])
def test_every_value_is_copied_as_it_is(
    origin: TestDatabase, target: TestDatabase, kind: str, settings: tuple[str | None, ...], read: list[int]
) -> None:
    for database, table, style in zip((origin, target), ("origin", "copied"), settings, strict=True):
        filled(database, table, f"id int PRIMARY KEY, v {kind}", rows=0)
        if style is not None:
            options = f"-c DateStyle={style} -c IntervalStyle=sql_standard -c extra_float_digits=-5"
            database.connection.extra = json.dumps({"options": options})
    for number, value in enumerate([*ODD[kind], None]):
        literal = "NULL" if value is None else "E'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
        origin.execute(f"INSERT INTO {origin.place('origin')} VALUES ({number}, {literal})")

    report = Pipeline(source(origin), [], sink(target)).run()

    assert (report.rows_committed, sum(read)) == (len(ODD[kind]) + 1, len(ODD[kind]) + 1)
    assert target.rows("copied", "id, v::text") == origin.rows("origin", "id, v::text")


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"write_disposition": "replace"},
        {"write_disposition": "merge", "primary_key": "id"},
        {"write_disposition": "merge", "primary_key": "id", "newest": "v"},
    ],
)
def test_each_way_of_writing(
    origin: TestDatabase, target: TestDatabase, read: list[int], options: dict[str, Any]
) -> None:
    filled(origin)
    filled(target, "copied", "v text, more int DEFAULT 7, id int PRIMARY KEY", rows=0)
    target.execute(f"INSERT INTO {target.place('copied')} (id, v) VALUES (900, 'old')")
    if options.get("write_disposition") == "merge":
        target.execute(f"INSERT INTO {target.place('copied')} (id, v) VALUES (1, 'a'), (2, 'zzz')")

    Pipeline(source(origin), [], sink(target, **options), chunk_size=70).run()

    assert sum(read) == 250
    expected = origin.rows("origin", "id, v, 7")
    if options.get("newest"):
        expected[1] = (2, "zzz", 7)
    if options.get("write_disposition") != "replace":
        expected.append((900, "old", 7))
    assert target.rows("copied", "id, v, more") == expected


@pytest.mark.usefixtures("connected")
def test_conditions_with_every_kind_of_parameter(origin: TestDatabase, target: TestDatabase, read: list[int]) -> None:
    filled(origin, columns="id int PRIMARY KEY, v text, day date DEFAULT '2026-12-01'")
    filled(target, "copied", "id int PRIMARY KEY, v text, day date", rows=0)
    origin.execute(f"UPDATE {origin.place('origin')} SET v = E'it''s 100 %\\\\' WHERE id = 7")
    where = "(v = :text OR v LIKE '%1') AND day = :day AND id < :most AND '%s' = '%s'"
    parameters = {"text": "it's 100 %\\", "day": "2026-12-01", "most": 30}

    Pipeline(source(origin, where=where, parameters=parameters), [], sink(target)).run()

    assert [row[0] for row in target.rows("copied")] == [1, 7, 11, 21]
    assert sum(read) == 4


@pytest.mark.usefixtures("connected")
def test_a_refused_row_is_rejected_alone_and_readable(
    origin: TestDatabase, target: TestDatabase, read: list[int]
) -> None:
    filled(origin)
    filled(target, "copied", "id int PRIMARY KEY CHECK (id <> 123), v text", rows=0)

    report = Pipeline(source(origin), [], sink(target, max_rejected=1), chunk_size=70, tolerance=1).run()

    assert (report.rows_committed, report.rows_rejected, sum(read)) == (249, 1, 250)
    ((position, raw),) = target.rows("copied__rejected", "position, raw", "1")
    assert (position, json.loads(raw)) == (122, {"id": "123", "v": "value 123"})


@pytest.mark.usefixtures("connected")
def test_a_retry_goes_on_and_may_send_rows(origin: TestDatabase, target: TestDatabase, read: list[int]) -> None:
    """What the first try has committed as lines, the second one skips; chunks are the same either way."""
    filled(origin)
    filled(target, "copied", "id int PRIMARY KEY CHECK (id < 200), v text", rows=0)

    def load(**options: Any) -> Any:
        return Pipeline(source(origin), [], sink(target, **options), chunk_size=70, load_key="a load").run()

    with pytest.raises(RunFailed):
        load()
    assert len(target.rows("copied")) == 140
    target.execute(f"ALTER TABLE {target.place('copied')} DROP CONSTRAINT copied_id_check, ALTER v TYPE varchar")
    before = sum(read)

    report = load(on_rerun="resume")

    assert (report.rows_committed, sum(read)) == (110, before)  # the types differ now
    assert target.rows("copied") == origin.rows("origin")


@pytest.mark.usefixtures("connected")
def test_another_number_of_rows_in_a_retry_is_noticed(origin: TestDatabase, target: TestDatabase) -> None:
    filled(origin)
    filled(target, "copied", "id int PRIMARY KEY CHECK (id < 200), v text", rows=0)
    with pytest.raises(RunFailed):
        Pipeline(source(origin), [], sink(target), chunk_size=70, load_key="a load").run()
    origin.execute(f"DELETE FROM {origin.place('origin')} WHERE id = 220")

    with pytest.raises(RunFailed, match="rows 201 to 250"):
        Pipeline(source(origin), [], sink(target, on_rerun="resume"), chunk_size=70, load_key="a load").run()


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize(
    ("columns", "options"),
    [
        ("id int PRIMARY KEY, v varchar(20)", {}),
        ("id bigint PRIMARY KEY, v text", {}),
        ("id int PRIMARY KEY, v text, load text", {"load_column": "load"}),
        ("id int PRIMARY KEY, v text", {"aggregates": {"n": "count"}}),
        ("id int PRIMARY KEY, v text", {"on_schema_change": "add_columns"}),
        ("id int PRIMARY KEY, v text", {"validate": lambda row: type(row) is dict}),
    ],
)
def test_rows_are_sent_where_something_looks_at_them(
    origin: TestDatabase, target: TestDatabase, read: list[int], columns: str, options: dict[str, Any]
) -> None:
    filled(origin)
    filled(target, "copied", columns, rows=0)

    report = Pipeline(source(origin), [], sink(target, **options)).run()

    assert (report.rows_committed, read) == (250, [])


@pytest.mark.usefixtures("connected")
def test_a_stage_and_a_new_table_get_rows(origin: TestDatabase, target: TestDatabase, read: list[int]) -> None:
    filled(origin)

    Pipeline(source(origin), [], sink(target)).run()
    Pipeline(source(origin), [Stage(lambda row: {**row, "id": -row["id"]})], sink(target)).run()

    assert (len(target.rows("copied")), read) == (500, [])


@pytest.mark.usefixtures("connected")
def test_a_type_that_changes_meanwhile_is_noticed(
    origin: TestDatabase, target: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Digits would be lost without a word otherwise."""
    filled(origin, columns="id int PRIMARY KEY, v text, n numeric(10,2) DEFAULT 1")
    filled(target, "copied", "id int PRIMARY KEY, v text, n numeric(10,2)", rows=0)
    fetcher = line_reading.line_fetcher

    def late(*arguments: Any) -> Any:
        found = fetcher(*arguments)
        origin.execute(f"ALTER TABLE {origin.place('origin')} ALTER n TYPE numeric(10,4)")
        return found

    monkeypatch.setattr("airflow_parallel_provider.sources.sql.table_reader.line_fetcher", late)

    with pytest.raises(RunFailed, match=r"column 'n' was numeric\(10,2\) when the load began, and is numeric\(10,4\)"):
        Pipeline(source(origin), [], sink(target)).run()
    assert target.rows("copied") == []


@pytest.mark.usefixtures("connected")
def test_shards_send_lines(origin: TestDatabase, target: TestDatabase, read: list[int]) -> None:
    filled(origin)
    filled(target, "copied", "id int PRIMARY KEY, v text", rows=0)

    def pipeline() -> Pipeline:
        return Pipeline(
            source(origin), [], sink(target, write_disposition="replace"), chunk_size=50, load_key="sharded"
        )

    pipeline().begin()
    for shard in range(3):
        pipeline().run(shard=(shard, 3))
    report = pipeline().finish()

    assert report.rows_committed == 250
    assert sum(read) >= 250
    assert target.rows("copied") == origin.rows("origin")


@pytest.mark.usefixtures("connected")
def test_generated_columns_of_the_target_are_refused_as_ever(origin: TestDatabase, target: TestDatabase) -> None:
    filled(origin)
    filled(target, "copied", "id int PRIMARY KEY, v text GENERATED ALWAYS AS ('x') STORED", rows=0)

    with pytest.raises(RunFailed, match="computes column 'v' itself"):
        Pipeline(source(origin), [], sink(target)).run()


def test_lines_as_texts() -> None:
    rows = LineRows([b"1\ttab\\there\\\\\t\\N\n", b"2\t\\\\N\t\n"])

    assert list(rows) == [("1", "tab\there\\", None), ("2", "\\N", "")]
    assert rows[1] == ("2", "\\N", "")
    assert rows.numbered().lines == [b"1\ttab\\there\\\\\t\\N\t0\n", b"2\t\\\\N\t\t1\n"]
    assert texts_of(b"\\.\n") == (".",)
