# ruff: noqa: DTZ001, DTZ901 - times without a zone are what half of this is about
"""What goes into a table comes out of it as the same value, on every backend."""

from __future__ import annotations

import enum
import importlib
import itertools
import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_parallel_provider import JsonText
from airflow_parallel_provider.errors import SchemaMismatch
from airflow_parallel_provider.sql.backends.types import generic_type
from airflow_parallel_provider.values.kinds import Column, Kind
from tests.support.databases import OWN, SqliteDatabase, TestDatabase, fast_on
from tests.support.given import examples
from tests.support.turns import in_turn

pytestmark = pytest.mark.airflow
OWN_BACKENDS = pytest.mark.parametrize("database", OWN, indirect=True)

PROPERTY = examples(40)

_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=30)
_json_leaves = (
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e6, 1e6).map(lambda f: round(f, 3)) | _texts
)
_json = st.recursive(
    _json_leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3), max_leaves=6
).filter(lambda value: isinstance(value, (dict, list)))
_zones = st.builds(timezone, st.timedeltas(timedelta(hours=-12), timedelta(hours=12)))

VALUES: Mapping[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(),
    "int": st.integers(-(2**63), 2**63 - 1),
    "hugeint": st.integers(-(10**30), 10**30),
    "float": st.floats(),
    "decimal": st.decimals(-(10**20), 10**20, allow_nan=False, allow_infinity=False, places=7),
    "text": _texts,
    "bytes": st.binary(max_size=40),
    "date": st.dates(),
    "datetime": st.datetimes(),
    "datetimetz": st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=_zones),
    "time": st.times(),
    "timedelta": st.timedeltas(timedelta(days=-90_000), timedelta(days=90_000)),
    "uuid": st.uuids(),
    "json": _json,
}
"""A strategy per kind of column; kinds and columns have the same names."""


def _same(value: Any) -> Any:
    return value


READ: Mapping[str, Mapping[str, Callable[[Any], Any]]] = {
    "sqlite": {
        "bool": bool,
        "hugeint": int,
        "decimal": Decimal,
        "date": date.fromisoformat,
        "datetime": datetime.fromisoformat,
        "datetimetz": datetime.fromisoformat,
        "time": time.fromisoformat,
        "timedelta": lambda seconds: timedelta(seconds=seconds),
        "uuid": UUID,
        "json": json.loads,
    },
    "postgres": {"hugeint": int},
    "duckdb": {"json": json.loads},
    "mariadb": {
        "bool": bool,
        "hugeint": int,
        "bytes": bytes,
        "datetimetz": lambda value: value.replace(tzinfo=UTC),
        "time": lambda value: (datetime.min + value).time(),
        "timedelta": lambda seconds: timedelta(microseconds=int(seconds.scaleb(6))),
        "uuid": UUID,
        "json": json.loads,
    },
}
"""How a value of a kind is read where the driver gives something else than the value itself."""


def read(database: TestDatabase, kind: str, value: Any) -> Any:
    return None if value is None else READ[database.name].get(kind, _same)(value)


def expected(database: TestDatabase, value: Any) -> Any:
    """What must come out: NaN is NULL where a database has no NaN. PostgreSQL and DuckDB have one."""
    if isinstance(value, float) and math.isnan(value):
        return "nan" if database.name in ("postgres", "duckdb") else None
    return value


def comparable(value: Any) -> Any:
    return "nan" if isinstance(value, float) and math.isnan(value) else value


@pytest.mark.hypothesis
@pytest.mark.parametrize("database", OWN, indirect=True)
def test_every_type_comes_back_as_it_went(database: TestDatabase) -> None:
    values = dict(VALUES)
    if database.name == "mariadb":
        values["float"] = st.floats(allow_infinity=False)
    row_of = st.fixed_dictionaries({kind: st.none() | strategy for kind, strategy in values.items()})
    columns = {"seq": "int", **{kind: kind for kind in VALUES}}
    listed = ", ".join(database.quote(name) for name in VALUES)
    numbers, chunks = itertools.count(), itertools.count()

    with database.opened(columns=columns, primary_key="seq") as hook:

        @PROPERTY
        @given(st.lists(row_of, min_size=1, max_size=5))
        def check(given_rows: list[dict[str, Any]]) -> None:
            first = next(numbers)
            rows = [{"seq": first, **given_rows[0]}, *({"seq": next(numbers), **row} for row in given_rows[1:])]
            hook.write_chunk(f"{next(chunks):08d}", rows)

            found = database.fetch(f"SELECT {listed} FROM {database.place('scores')} WHERE seq >= {first} ORDER BY seq")
            got = [
                {kind: comparable(read(database, kind, value)) for kind, value in zip(VALUES, row, strict=True)}
                for row in found
            ]
            assert got == [{kind: expected(database, row[kind]) for kind in VALUES} for row in rows]

        check()


@pytest.mark.hypothesis
@pytest.mark.parametrize("kind", VALUES)
@fast_on("sqlite", "postgres", "mariadb", "duckdb", of=OWN)
@in_turn("mariadb", "duckdb")
def test_inferred_column_holds_what_it_was_inferred_from(database: TestDatabase, kind: str) -> None:
    strategy = VALUES[kind]
    if database.name == "mariadb" and kind == "float":
        strategy = st.floats(allow_infinity=False)
    tables = itertools.count()

    @examples(4)
    @given(
        st.lists(st.none() | strategy, min_size=1, max_size=8).filter(
            lambda some: set(some) != {None} if kind != "json" else any(some)
        )
    )
    def check(values: list[Any]) -> None:
        table = f"t{next(tables)}"
        with database.opened(table, dead_letters=None) as hook:
            hook.write_chunk("00000000", [{"seq": seq, "value": value} for seq, value in enumerate(values)])

        got = [comparable(read(database, kind, value)) for _, value in database.rows(table, "seq, value")]
        assert got == [expected(database, value) for value in values]

    check()


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@OWN_BACKENDS
def test_values_of_libraries_are_what_they_stand_for(database: TestDatabase) -> None:
    np = pytest.importorskip("numpy")
    pd = pytest.importorskip("pandas")
    pendulum = pytest.importorskip("pendulum")
    moment = datetime(2013, 1, 31, 5, 17, 0, 250, tzinfo=UTC)
    row = {
        "np_int": np.int32(7), "np_float": np.float64(0.5), "np_bool": np.bool_(True), "np_text": np.str_("x"),
        "np_time": np.datetime64("2013-01-31T05:17:00.000250000"), "np_nat": np.datetime64("NaT"),
        "pd_time": pd.Timestamp(moment), "pd_nat": pd.NaT, "pd_na": pd.NA, "pd_delta": pd.Timedelta(seconds=1.5),
        "np_array": np.array([1, 2]), "pendulum": pendulum.instance(moment), "span": pendulum.duration(seconds=-90),
        "color": Color.RED, "level": Level.HIGH, "view": memoryview(b"ab"), "pair": (1, "a"),
    }  # fmt: skip
    kinds = {
        "np_time": "datetime", "pd_time": "datetimetz", "pd_delta": "timedelta", "np_array": "json",
        "pendulum": "datetimetz", "span": "timedelta", "pair": "json", "np_bool": "bool", "view": "bytes",
    }  # fmt: skip

    with database.opened() as hook:
        hook.write_chunk("00000000", [row])

    found = database.fetch(f"SELECT {', '.join(map(database.quote, row))} FROM {database.place('scores')}")[0]
    got = {name: read(database, kinds.get(name, ""), value) for name, value in zip(row, found, strict=True)}
    assert got == {
        "np_int": 7, "np_float": 0.5, "np_bool": True, "np_text": "x",
        "np_time": moment.replace(tzinfo=None), "np_nat": None,
        "pd_time": moment, "pd_nat": None, "pd_na": None, "pd_delta": timedelta(seconds=1.5),
        "np_array": [1, 2], "pendulum": moment, "span": timedelta(seconds=-90),
        "color": "red", "level": 3, "view": b"ab", "pair": [1, "a"],
    }  # fmt: skip


@OWN_BACKENDS
def test_frames_and_arrow_tables_are_rows(database: TestDatabase) -> None:
    pd = pytest.importorskip("pandas")
    pa = pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"id": [1, 2], "delay": [1.5, float("nan")], "carrier": ["UA", None]})
    arrow = pa.table({"id": [3, 4], "delay": [None, 2.5], "carrier": ["DL", "AA"]})

    with database.opened() as hook:
        receipt = hook.write_chunk("00000000", [frame, arrow, {"id": 5, "delay": 0.0, "carrier": "B6"}])

    assert receipt.rows == 5
    assert database.rows() == [(1, 1.5, "UA"), (2, None, None), (3, None, "DL"), (4, 2.5, "AA"), (5, 0.0, "B6")]


def test_integer_column_of_a_frame_with_gaps_fits_an_integer_column(sqlite: SqliteDatabase) -> None:
    pd = pytest.importorskip("pandas")

    with sqlite.opened(columns={"id": int, "delay": int}) as hook:
        hook.write_chunk("00000000", [pd.DataFrame({"id": [1, 2], "delay": [3, None]})])

    assert sqlite.rows(columns="id, delay, typeof(delay)") == [(1, 3, "integer"), (2, None, "null")]


WIDENED = [
    ([1, 2.5, None], "float", [1.0, 2.5, None]),
    ([True, 2], "int", [1, 2]),
    ([1, 2**70], "hugeint", [1, 2**70]),
    ([Decimal("1.5"), 2, 0.25], "decimal", [Decimal("1.5"), Decimal(2), Decimal("0.25")]),
    ([1, "a", 2.5], "text", ["1", "a", "2.5"]),
    ([date(2013, 1, 31), datetime(2013, 1, 31, 5)], "datetime", [datetime(2013, 1, 31), datetime(2013, 1, 31, 5)]),
    ([None, None], "text", [None, None]),
    ([{"a": 1}, JsonText('"b"'), 2, JsonText("null")], "json", [{"a": 1}, "b", 2, None]),
    ([{"a": 1}, '[{"b": 1.5}]'], "json", [{"a": 1}, [{"b": 1.5}]]),
]


@pytest.mark.parametrize(("values", "kind", "stored"), WIDENED)
@OWN_BACKENDS
@in_turn("mariadb", "duckdb", "postgres-psycopg2")
def test_kinds_found_together_get_the_narrowest_column_for_all(
    database: TestDatabase, values: list[Any], kind: str, stored: list[Any]
) -> None:
    with database.opened() as hook:
        hook.write_chunk("00000000", [{"seq": seq, "value": value} for seq, value in enumerate(values)])

    got = [read(database, kind, value) for _, value in database.rows(columns="seq, value")]
    assert got == stored


FEW = ("sqlite", "postgres")
"""Where misfits are tried in each run: most are found before a database sees them."""
MISFITS = [
    ("int", 2.5, "a float with a fraction"),
    ("int", float("inf"), "an infinite float"),
    ("int", 2**63, "an integer beyond 64 bit"),
    ("int", "12", "a value of type str"),
    ("int", Decimal("1.5"), "a Decimal with a fraction"),
    ("int", timedelta(milliseconds=1), "a timedelta with a fraction of a second"),
    ("bool", 2, "an integer other than 0 and 1"),
    ("float", 2**53 + 1, "an integer beyond 2\\*\\*53"),
    ("float", Decimal("0.12345678901234567890123"), "a Decimal with more digits than a float holds"),
    ("float", "secret", "a value of type str"),
    ("text", b"secret", "a value of type bytes"),
    ("text", True, "a value of type bool"),
    ("text", "a\ud800secret", "a text that is not valid Unicode"),
    ("bytes", "secret", "a value of type str"),
    ("date", datetime(2013, 1, 31, 5), "a value of type datetime"),
    ("date", "secret", "a text that is not an ISO date"),
    ("datetime", "secret", "a text that is not an ISO date and time"),
    ("time", time(5, tzinfo=UTC), "a time of day with a time zone"),
    ("json", {"secret": {1, 2}}, "a set inside JSON"),
    ("json", {"secret": math.nan}, "a NaN or an infinite float in JSON"),
    ("json", "secret", "a text that is not an object or array of JSON .*JsonText"),
    ("json", "1", "a text that is not an object or array of JSON"),
    ("json", '{"secret": NaN}', "a text that is not JSON"),
    ("json", JsonText("secret"), "a text that is not JSON"),
    ("json", {"a": JsonText("{secret")}, "a JsonText that is not JSON"),
    ("json", {(1, 2): "secret"}, "a dict with keys that are neither texts nor numbers"),
    ("decimal(6,2)", Decimal("1.125"), "a Decimal with more than 2 digits after the point"),
    ("decimal(6,2)", Decimal(12345), "a Decimal with more than 4 digits before the point"),
    ("text", object(), "a value of type builtins.object"),
]


@pytest.mark.parametrize(
    ("database", "kind", "value", "complaint"),
    [
        pytest.param(name, *case, id=f"{name}-{case[0]}-{case[2]}", marks=() if name in FEW else pytest.mark.slow)
        for name in OWN
        for case in MISFITS
        # MariaDB has no bool of its own: the column takes any small integer. SQLite keeps all digits of a Decimal.
        if (name, case[0]) != ("mariadb", "bool") and not (name == "sqlite" and case[0].startswith("decimal("))
    ],
    indirect=["database"],
)
def test_what_does_not_fit_is_named_without_its_value(
    database: TestDatabase, kind: str, value: Any, complaint: str
) -> None:
    with database.opened(columns={"id": int, "value": kind}) as hook:
        with pytest.raises(SchemaMismatch, match=complaint) as raised:
            hook.write_chunk("00000007", [{"id": 1, "value": None}, {"id": 2, "value": value}])

        text = str(raised.value)
        assert "'value'" in text
        assert "scores'" in text
        assert "chunk 00000007" in text
        assert any(cure in text for cure in ("in a stage", "columns={'value'", "widen the column"))
        assert "secret" not in text
        assert database.rows() == []
        assert database.ledger() == []
        hook.write_chunk("00000007", [{"id": 3, "value": None}])  # the connection is as good as before

    assert [row[0] for row in database.rows()] == [3]


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_postgres_takes_no_nul_in_a_text(database: TestDatabase) -> None:
    with database.opened() as hook, pytest.raises(SchemaMismatch, match=r"a text with a NUL character .*row 1"):
        hook.write_chunk("00000000", [{"value": "a"}, {"value": "secret\x00"}])


@pytest.mark.parametrize(("sql_type", "bits"), [("smallint", 16), ("integer", 32)], ids=["smallint", "integer"])
@pytest.mark.parametrize("database", ["postgres", "mariadb"], indirect=True)
def test_integer_is_not_cut_to_a_narrow_column(database: TestDatabase, sql_type: str, bits: int) -> None:
    """psycopg's binary dumper of a smallint makes 4464 of 70000 without a word."""
    database.execute(f"CREATE TABLE {database.place('scores')} (value {sql_type})")

    with database.opened() as hook:
        hook.write_chunk("00000000", [{"value": 2 ** (bits - 1) - 1}, {"value": -(2 ** (bits - 1))}])
        with pytest.raises(SchemaMismatch, match=f"an integer beyond {bits} bit"):
            hook.write_chunk("00000001", [{"value": 2 ** (bits - 1)}], first_position=100)

    assert database.rows() == [(-(2 ** (bits - 1)),), (2 ** (bits - 1) - 1,)]


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_postgres_types_beyond_ours_go_as_text(database: TestDatabase) -> None:
    database.execute(
        f"CREATE TYPE {database.place('mood')} AS ENUM ('fine', 'low')",
        f"CREATE TABLE {database.place('scores')} "
        f"(a {database.place('mood')}, b integer[], c real, d inet, e bigserial)",
    )

    with database.opened() as hook:
        hook.write_chunk("00000000", [{"a": "fine", "b": [1, 2], "c": 0.5, "d": "10.0.0.1"}])
        with pytest.raises(SchemaMismatch, match="beyond the range of a float"):
            hook.write_chunk("00000001", [{"a": "low", "b": None, "c": 1e300, "d": None}], first_position=100)

    assert database.rows(columns="a::text, b, c, host(d), e") == [("fine", [1, 2], 0.5, "10.0.0.1", 1)]


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
def test_infinity_is_refused_where_the_database_has_none(database: TestDatabase) -> None:
    with database.opened() as hook, pytest.raises(SchemaMismatch, match="an infinite float"):
        hook.write_chunk("00000000", [{"value": math.inf}])


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
def test_rows_beyond_one_packet_are_sent_in_several(database: TestDatabase) -> None:
    wide = "é'\\" * 1_000_000  # 4 MB, the double when escaped; a packet holds 16 MB

    with database.opened(columns={"id": int, "value": str}) as hook:
        hook.write_chunk("00000000", [{"id": number, "value": wide} for number in range(6)])

    assert database.rows(columns="id, length(value)") == [(number, 4_000_000) for number in range(6)]


def test_number_column_of_sqlite_does_not_round(sqlite: SqliteDatabase) -> None:
    """A column of NUMERIC affinity turns text that looks like a number into a float of 15 digits."""
    sqlite.execute("CREATE TABLE scores (price DECIMAL(30, 20))")

    with sqlite.opened() as hook:
        hook.write_chunk("00000000", [{"price": Decimal("0.1")}])
        with pytest.raises(SchemaMismatch, match="a Decimal of more than 15 significant digits"):
            hook.write_chunk("00000001", [{"price": Decimal("0.1234567890123456")}], first_position=100)

    assert sqlite.rows() == [(0.1,)]


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([{"id": 1, "nam": "x"}], r"has no column 'nam'.*add it to the table|has no column 'nam'.*add the column"),
        ([{"id": 1, "NAME": "x"}], r"has no column 'NAME'.*it has 'name': write it the same way"),
        ([{"name": "x"}], r"needs column 'id' \(NOT NULL, no default\).*return it from the last stage"),
        ([{"id": None, "name": "x"}], r"column 'id' .*cannot take None .*return a value for every row"),
        ([{}], r"the rows have no columns at all"),
        ([(1, "x")], r"a tuple of 2 values without names: name them with columns=\[...\] of the sink"),
        (["x"], r"row 0 of the chunk is of type str, which has no columns: return a dict"),
        ([{1: "x"}], r"a row has a key of type int: column names are texts"),
    ],
)
def test_rows_of_another_shape_than_the_table_are_refused(
    sqlite: SqliteDatabase, rows: list[Any], complaint: str
) -> None:
    sqlite.execute("CREATE TABLE scores (id INTEGER NOT NULL, name TEXT)")

    with sqlite.opened() as hook, pytest.raises(SchemaMismatch, match=complaint):
        hook.write_chunk("00000000", rows)

    assert sqlite.rows() == []


def test_bool_and_text_in_one_column_have_no_common_type(sqlite: SqliteDatabase) -> None:
    with (
        sqlite.opened() as hook,
        pytest.raises(
            SchemaMismatch,
            match=r"column 'value' holds bool and text in one chunk.*SinkTable\(columns=\{'value': ...\}\)",
        ),
    ):
        hook.write_chunk("00000000", [{"value": True}, {"value": "yes"}])


def test_key_that_rows_do_not_have_is_named(sqlite: SqliteDatabase) -> None:
    with (
        sqlite.opened(primary_key="id") as hook,
        pytest.raises(SchemaMismatch, match="the rows have no column 'id', which is in primary_key"),
    ):
        hook.write_chunk("00000000", [{"name": "x"}])


@pytest.mark.parametrize("database", ["duckdb"], indirect=True)
def test_integer_beyond_128_bit_is_named(database: TestDatabase) -> None:
    most = 2**127 - 1
    with database.opened() as hook:
        hook.write_chunk("00000000", [{"value": most}, {"value": -most - 1}])
        with pytest.raises(SchemaMismatch, match=r"column 'value' \(hugeint\) cannot take an integer beyond 128 bit"):
            hook.write_chunk("00000001", [{"value": most + 1}], first_position=100)

    assert database.rows() == [(-most - 1,), (most,)]


@pytest.mark.parametrize("database", ["postgres-generic"], indirect=True)
def test_json_column_on_any_database_takes_null_and_the_null_of_json(database: TestDatabase) -> None:
    """SQLAlchemy's own type would write the null of JSON for None, and a text in quotes for a text."""
    database.execute(f"CREATE TABLE {database.place('scores')} (id int, value jsonb)")

    with database.opened() as hook:
        values = [None, JsonText("null"), '{"a": 1}', {"a": 1}, 1]
        hook.write_chunk("00000000", [{"id": at, "value": value} for at, value in enumerate(values)])

    assert [row[0] for row in database.rows(columns="value::text", order="id")] == [
        None, "null", '{"a": 1}', '{"a": 1}', "1",
    ]  # fmt: skip


@fast_on("sqlite", "postgres", "mariadb", "duckdb", of=OWN)
def test_text_that_is_no_json_is_one_rejected_row(database: TestDatabase) -> None:
    with database.opened(columns={"id": int, "value": JsonText}, max_rejected=5) as hook:
        texts = ['{"a": 1}', "no json", "[1, 2]", "{", "5"]
        receipt = hook.write_chunk("00000000", [{"id": at, "value": text} for at, text in enumerate(texts)])

    assert (receipt.rows, receipt.rows_rejected) == (2, 3)
    assert [(at, read(database, "json", value)) for at, value in database.rows()] == [(0, {"a": 1}), (2, [1, 2])]
    for number, reason in enumerate(["not an object or array", "not JSON", "not an object or array"]):
        assert reason in database.rows("scores__rejected", "reason", "number")[number][0]


@pytest.mark.parametrize(
    ("dialect", "plain", "zoned"),
    [
        ("mssql", "DATETIME2(6)", "DATETIMEOFFSET(6)"),
        ("oracle", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE"),
        ("mysql", "DATETIME(6)", "DATETIME(6)"),
    ],
)
def test_moments_keep_their_microseconds(dialect: str, plain: str, zoned: str) -> None:
    """SQLAlchemy's own type of a moment is coarser there. No server of the first two can be had for the tests."""
    compiler = importlib.import_module(f"sqlalchemy.dialects.{dialect}").dialect()
    made = [
        generic_type(Column("at", kind), in_key=False).compile(compiler) for kind in (Kind.DATETIME, Kind.DATETIMETZ)
    ]

    assert made == [plain, zoned]
