"""``SinkTable(newest=...)``: a merge keeps the newer of two rows with one key, in whatever order they arrive."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from airflow_parallel_provider import Pipeline, RunFailed, SinkTable, Stage
from airflow_parallel_provider.engine.interfaces.records import LoadSpec
from airflow_parallel_provider.errors import LoadMismatch, PlanError, SchemaMismatch
from airflow_parallel_provider.values.kinds import Column, Kind
from tests.support.databases import OWN, SPEC, TestDatabase, on_each_backend, on_two_backends
from tests.support.turns import in_turn

pytestmark = pytest.mark.airflow
MERGE: dict[str, Any] = {"write_disposition": "merge", "primary_key": ["id"], "newest": "seen"}
OWN_BACKENDS = pytest.mark.parametrize("database", OWN, indirect=True)

ORDERS: dict[str, tuple[Any, list[Any]]] = {
    "int": (int, [9, 10, 1_000]),
    "hugeint": ("hugeint", [9 * 10**20, 10**21, 10**22]),
    "float": (float, [-2.5, 9.0, 10.5]),
    "decimal": ("decimal(30,10)", [Decimal("9.5"), Decimal("10.0000000001"), Decimal("10.0000000002")]),
    "date": (date, [date(999, 1, 1), date(2026, 11, 2), date(2026, 11, 3)]),
    "datetime": (
        datetime,
        list(map(datetime.fromisoformat, ("2026-11-02T09:00:00", "2026-11-02T09:00:00.000001", "2026-11-02T09:00:01"))),
    ),
    "datetimetz": (
        "datetimetz",
        [datetime(2026, 11, 2, 9, tzinfo=UTC), datetime(2026, 11, 2, 9, 0, 0, 500, tzinfo=UTC)],
    ),
    "text": (str, ["2026-11-02T09:00", "2026-11-02T10:00"]),
}
"""Kind of column -> values from the oldest to the newest, whose texts mostly sort in another way."""


def chunks_of(rows: list[dict[str, Any]], *, frame: bool) -> list[Any]:
    pa = pytest.importorskip("pyarrow")
    return [pa.Table.from_pylist(rows)] if frame else rows


@pytest.mark.parametrize("frame", [False, True], ids=["rows", "arrow"])
@pytest.mark.parametrize("kind", ORDERS)
@OWN_BACKENDS
@in_turn("mariadb", "duckdb", "postgres-psycopg2")
def test_newer_row_stays_whatever_the_order(database: TestDatabase, kind: str, frame: bool) -> None:
    """In one chunk (keys 1 and 2), and against what is there (key 3)."""
    if frame and kind == "hugeint":
        pytest.skip("no type of Arrow")
    if database.name == "mariadb" and kind == "date":
        pytest.skip("no dates before the year 1000")
    declared, values = ORDERS[kind]
    old, new = values[0], values[-1]
    columns = {"id": int, "seen": declared, "name": str}
    chunks = [
        [
            {"id": 1, "seen": new, "name": "new"},
            {"id": 2, "seen": old, "name": "old"},
            {"id": 3, "seen": new, "name": "new"},
            {"id": 1, "seen": old, "name": "old"},
            {"id": 2, "seen": new, "name": "new"},
        ],
        [{"id": 3, "seen": old, "name": "old"}],
        *([{"id": 4, "seen": value, "name": str(at)}] for at, value in enumerate(values)),
        *([{"id": 4, "seen": value, "name": "too old"}] for value in values[:-1]),
    ]

    with database.opened(columns=columns, **MERGE) as hook:
        for number, rows in enumerate(chunks):
            hook.write_chunk(f"{number:08d}", chunks_of(rows, frame=frame), first_position=number * 10)

    last = str(len(values) - 1)
    assert database.rows(columns="id, name") == [(1, "new"), (2, "new"), (3, "new"), (4, last)]


@pytest.mark.parametrize("frame", [False, True], ids=["rows", "arrow"])
@on_each_backend
def test_null_is_older_than_any_value_and_of_equals_the_last_stays(database: TestDatabase, frame: bool) -> None:
    rows = [
        (1, 5, "five"), (1, None, "null"),
        (2, None, "null"), (2, 5, "five"),
        (3, None, "first"), (3, None, "last"),
        (4, 5, "first"), (4, 5, "last"),
        (5, None, "null"),
        (6, 5, "five"),
        (7, 5, "first"),
        (8, None, "first"),
    ]  # fmt: skip
    later = [(5, 5, "five"), (6, None, "null"), (7, 5, "last"), (8, None, "last")]

    with database.opened(columns={"id": int, "seen": int, "name": str}, **MERGE) as hook:
        for number, part in enumerate((rows, later)):
            given = chunks_of([dict(zip(("id", "seen", "name"), row, strict=True)) for row in part], frame=frame)
            receipt = hook.write_chunk(f"{number:08d}", given, first_position=number * 100)

    names = [name for (name,) in database.rows(columns="name", order="id")]
    assert names == ["five", "five", "last", "last", "five", "five", "last", "last"]
    assert receipt.rows == len(later)  # rows that were brought, written or not


@OWN_BACKENDS
def test_columns_of_every_kind_arrive_as_without_it(database: TestDatabase) -> None:
    kinds: dict[str, tuple[Any, Any, Any]] = {
        "b": (bool, True, False),
        "f": (float, 1.5, 0.1),
        "d": ("decimal(30,10)", Decimal("1.1"), Decimal("12345678901234567.89")),
        "t": (str, "one", "zwei \N{SNOWMAN} '"),
        "x": (bytes, b"one", b"\x00\xff"),
        "day": (date, date(2026, 1, 1), date(2026, 12, 31)),
        "at": (datetime, datetime.fromisoformat("2026-01-01"), datetime.fromisoformat("2026-01-01T01:02:03.000004")),
        "u": ("uuid", UUID(int=1), UUID(int=2**127)),
        "j": (dict, {"a": 1}, {"b": [1.5, None, "x"]}),
        "n": (int, 1, None),
    }
    columns = {"id": int, "seen": int, **{name: declared for name, (declared, _, _) in kinds.items()}}
    rows = [{"id": 1, "seen": at, **{name: values[at] for name, values in kinds.items()}} for at in (1, 2)]
    plain = {**MERGE, "newest": None}

    for table, options in (("scores", MERGE), ("plain", plain)):
        with database.opened(table, spec=LoadSpec(table, 100, ""), columns=columns, **options) as hook:
            for number, row in enumerate(rows):
                hook.write_chunk(f"{number:08d}", [row], first_position=number)

    assert database.rows("scores") == database.rows("plain")


@on_each_backend
def test_key_of_two_columns_and_names_that_must_be_quoted(database: TestDatabase) -> None:
    names = ("the day", "order", "seen at", "select")
    options = {"write_disposition": "merge", "primary_key": names[:2], "newest": "seen at"}

    with database.opened(spec=SPEC, **options) as hook:
        for number, values in enumerate([(1, 1, 7, "new"), (1, 1, 6, "old"), (1, 2, 1, "other")]):
            row = dict(zip(names, values, strict=True))
            hook.write_chunk(f"{number:08d}", [row], first_position=number)

    assert [row[3] for row in database.rows(order="1, 2")] == ["new", "other"]


@on_each_backend
def test_row_that_is_refused_does_not_change_which_of_the_others_stays(database: TestDatabase) -> None:
    """The chunk is then written in parts."""
    database.execute(
        f"CREATE TABLE {database.place('scores')} (id INTEGER PRIMARY KEY, seen INTEGER, name VARCHAR(9) NOT NULL)"
    )
    rows = [(1, 9, "new"), (2, 1, "old"), (3, 3, None), (1, 8, "old"), (2, 2, "new")]

    with database.opened(max_rejected=1, **MERGE) as hook:
        given = [dict(zip(("id", "seen", "name"), row, strict=True)) for row in rows]
        receipt = hook.write_chunk("00000000", given)

    assert receipt.rows_rejected == 1
    assert database.rows() == [(1, 9, "new"), (2, 2, "new")]


@pytest.mark.parametrize("database", ["mariadb", "mariadb-pymysql"], indirect=True)
def test_row_that_meets_another_unique_index_is_still_refused(database: TestDatabase) -> None:
    database.execute(
        f"CREATE TABLE {database.place('scores')} (id INTEGER PRIMARY KEY, mail VARCHAR(9) UNIQUE, seen INTEGER)"
    )
    with database.opened(max_rejected=1, **MERGE) as hook:
        hook.write_chunk("00000000", [{"id": 1, "mail": "a", "seen": 1}])
        receipt = hook.write_chunk("00000001", [{"id": 2, "mail": "a", "seen": 2}], first_position=1)

    assert receipt.rows_rejected == 1
    assert database.rows() == [(1, "a", 1)]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_times_that_something_else_has_written_in_another_form(database: TestDatabase) -> None:
    scores = database.place("scores")
    database.execute(
        f"CREATE TABLE {scores} (id INTEGER PRIMARY KEY, seen TIMESTAMPTZ, name TEXT)",
        f"INSERT INTO {scores} VALUES (1, '2026-11-02T09:00:00Z', 'old'), (2, '2026-11-02T11:00:00+02:00', 'old'),"
        "(3, 'yesterday', 'old'), (4, '2026-11-02T10:00:00.5Z', 'new')",
    )
    ten = datetime(2026, 11, 2, 10, tzinfo=UTC)

    with database.opened(**MERGE) as hook:
        hook.write_chunk("00000000", [{"id": number, "seen": ten, "name": "ten"} for number in (1, 2, 3, 4)])

    # What is no time compares as a text.
    assert [name for (name,) in database.rows(columns="name", order="id")] == ["ten", "ten", "old", "new"]


@on_each_backend
def test_column_that_is_added_to_the_table(database: TestDatabase) -> None:
    """The rows that are there have no value in it, so any row replaces them."""
    database.execute(f"CREATE TABLE {database.place('scores')} (id INTEGER PRIMARY KEY)")
    database.execute(f"INSERT INTO {database.place('scores')} VALUES (1)")

    with database.opened(on_schema_change="add_columns", **MERGE) as hook:
        hook.write_chunk("00000000", [{"id": 1, "seen": 5}, {"id": 1, "seen": 4}])

    assert database.rows() == [(1, 5)]


@on_each_backend
@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ("id INTEGER PRIMARY KEY", "has no column 'seen'"),
        ("id INTEGER PRIMARY KEY, seen JSON", r"column 'seen' \(json\) cannot say which of two rows is newer"),
    ],
)
def test_table_without_such_a_column(database: TestDatabase, columns: str, complaint: str) -> None:
    database.execute(f"CREATE TABLE {database.place('scores')} ({columns})")

    with pytest.raises(SchemaMismatch, match=complaint), database.opened(**MERGE):
        pass


@on_two_backends
def test_rows_without_the_column(database: TestDatabase) -> None:
    with database.opened(**MERGE) as hook:
        hook.write_chunk("00000000", [{"id": 1, "seen": 5}])
        with pytest.raises(SchemaMismatch, match="the rows have no column 'seen', which newest names"):
            hook.write_chunk("00000001", [{"id": 1, "other": 5}], first_position=1)


@on_two_backends
def test_first_rows_have_values_without_an_order(database: TestDatabase) -> None:
    complaint = "column 'seen' would be of type json, which cannot say"
    with database.opened(**MERGE) as hook, pytest.raises(SchemaMismatch, match=complaint):
        hook.write_chunk("00000000", [{"id": 1, "seen": {"a": 1}}])


@on_two_backends
def test_retry_with_another_column_is_refused(database: TestDatabase) -> None:
    with database.opened(**MERGE) as hook:
        hook.write_chunk("00000000", [{"id": 1, "seen": 5}])

    with pytest.raises(LoadMismatch, match="newest was 'seen' and is None"):
        database.opened(write_disposition="merge", primary_key=["id"])


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"write_disposition": "append"}, "write write_disposition='merge', or leave it out"),
        ({"newest": "id"}, "part of primary_key"),
        ({"newest": ""}, "SinkTable.newest='': give a name"),
        ({"newest": 5}, "SinkTable.newest=5: give a name"),
        ({"columns": {"id": int, "name": str}}, "not among columns"),
        ({"columns": {"id": int, "seen": dict}}, "its type json cannot say so"),
        ({"columns": [Column("id", Kind.INT), Column("seen", Kind.UUID)]}, "its type uuid cannot say so"),
    ],
)
def test_declaration_that_cannot_work(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(PlanError, match=complaint):
        SinkTable("scores", conn_id="warehouse", **{**MERGE, **options})


def test_column_without_a_declared_type_may_be_any() -> None:
    for columns in (["id", "seen"], ["id", "name"], {"id": int, "seen": str}):
        assert SinkTable("scores", conn_id="warehouse", columns=columns, **MERGE).newest == "seen"


@on_two_backends
def test_pipeline_need_not_keep_the_order(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a retry brings what the first attempt lacks, later than what it has brought."""
    from airflow_parallel_provider.sql import database as module

    monkeypatch.setattr(module, "get_connection", lambda *_: database.connection)
    sink = SinkTable("scores", conn_id="warehouse", schema=database.schema, lock_timeout=10, **MERGE)
    failing = True

    def row(number: int) -> dict[str, int]:
        if failing and number == 0:
            raise ValueError("not yet")
        return {"id": number % 3, "seen": number}

    def pipeline() -> Pipeline:
        return Pipeline(range(30), [Stage(row)], sink, chunk_size=3, load_key="nightly")

    assert not pipeline().ordered
    with pytest.raises(RunFailed):
        pipeline().run()
    failing = False
    pipeline().run()

    assert database.rows() == [(0, 27), (1, 28), (2, 29)]
