"""Where the columns of a new table come from: declaration, annotations, Arrow, dtypes, values, in this order."""

from __future__ import annotations

import dataclasses
import enum
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict
from uuid import UUID

import pytest

from airflow_parallel_provider.errors import PlanError, SchemaMismatch
from airflow_parallel_provider.sinks.table import SinkTable
from airflow_parallel_provider.values.column_specs import declared_columns
from airflow_parallel_provider.values.kinds import Column, Kind
from tests.support.databases import SqliteDatabase, TestDatabase, fast_on

if TYPE_CHECKING:
    from somewhere_else import Unknown  # type: ignore[import-not-found]

pytestmark = pytest.mark.airflow
EACH = fast_on("sqlite", "postgres", of=["sqlite", "postgres", "mariadb", "duckdb"])


class Color(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Flight:
    id: int
    delay: float | None
    price: Decimal | None
    left: datetime | None
    day: date | None
    key: UUID | None
    raw: bytes | None
    tags: list[str] | None
    color: Color | None
    gate: Literal[1, 2] | None
    late: bool | None
    anything: Any


class FlightTyped(TypedDict, total=False):
    id: int
    delay: float | None
    price: Decimal | None
    left: datetime | None
    day: date | None
    key: UUID | None
    raw: bytes | None
    tags: list[str] | None
    color: Color | None
    gate: Literal[1, 2] | None
    late: bool | None
    anything: Any


class FlightNamed(NamedTuple):
    id: int
    delay: float | None
    price: Decimal | None
    left: datetime | None
    day: date | None
    key: UUID | None
    raw: bytes | None
    tags: list[str] | None
    color: Color | None
    gate: Literal[1, 2] | None
    late: bool | None
    anything: Any


SAID = {
    "id": Kind.INT, "delay": Kind.FLOAT, "price": Kind.DECIMAL, "left": Kind.DATETIME, "day": Kind.DATE,
    "key": Kind.UUID, "raw": Kind.BYTES, "tags": Kind.JSON, "color": Kind.TEXT, "gate": Kind.INT, "late": Kind.BOOL,
    "anything": Kind.TEXT,
}  # fmt: skip
NOTHING = (1, *[None] * 11)


def flight_model() -> Any:
    pydantic = pytest.importorskip("pydantic")
    fields: dict[str, Any] = {name: (kind, ...) for name, kind in FlightTyped.__annotations__.items()}
    return pydantic.create_model("FlightModel", __module__=__name__, **fields)


def types_of(database: TestDatabase, table: str = "scores") -> list[tuple[str, str]]:
    """Names and types of a table's columns, from the database's own catalog."""
    if database.name == "sqlite":
        return database.fetch(f"SELECT name, type FROM pragma_table_info('{table}')")
    word = "column_type" if database.name == "mariadb" else "data_type"
    if database.name == "postgres":
        word = "format('%s %s %s', data_type, numeric_precision, numeric_scale)"
    return database.fetch(
        f"SELECT column_name, {word} FROM information_schema.columns "
        f"WHERE table_name = '{table}' AND table_schema = '{database.schema or 'main'}' ORDER BY ordinal_position"
    )


def expect(database: TestDatabase, kinds: Any) -> None:
    """The table has the columns that one with these explicit types has."""
    with database.opened("twin", dead_letters=None, columns=dict(kinds)) as hook:
        hook.write_chunk("00000000", [dict.fromkeys(kinds)])
    assert types_of(database) == types_of(database, "twin")


@pytest.mark.parametrize("make", [lambda: Flight, lambda: FlightNamed, flight_model], ids=["data", "named", "pydantic"])
@EACH
def test_annotations_type_columns_that_are_all_none(database: TestDatabase, make: Any) -> None:
    kind = make()
    row = kind(**dict(zip(SAID, NOTHING, strict=True)))

    with database.opened() as hook:
        hook.write_chunk("00000000", [row, row])

    assert database.rows() == [NOTHING, NOTHING]
    expect(database, SAID)


@pytest.mark.parametrize(
    "make",
    [lambda: FlightTyped, lambda: Flight, lambda: FlightNamed, flight_model],
    ids=["typed", "data", "named", "model"],
)
@EACH
def test_class_as_columns_types_the_dicts(database: TestDatabase, make: Any) -> None:
    with database.opened(columns=make()) as hook:
        hook.write_chunk("00000000", [{"id": 1}, {"id": 1, "left": None}])

    assert database.rows() == [NOTHING, NOTHING]
    expect(database, SAID)


@EACH
def test_model_that_validates_types_the_columns(database: TestDatabase) -> None:
    with database.opened(validate=flight_model()) as hook:
        hook.write_chunk("00000000", [dict(zip(SAID, NOTHING, strict=True))])

    expect(database, SAID)


def test_what_a_serializer_makes_of_a_value_is_not_what_the_annotation_says(sqlite: SqliteDatabase) -> None:
    pydantic = pytest.importorskip("pydantic")

    class Priced(pydantic.BaseModel):  # type: ignore[name-defined,misc]
        price: int

        @pydantic.field_serializer("price")
        def spelled(self, price: int) -> str:
            return f"{price} EUR"

    with sqlite.opened(validate=Priced) as hook:
        hook.write_chunk("00000000", [{"price": 3}])

    assert sqlite.rows() == [("3 EUR",)]


ARROW = {
    "small": ("int8", Kind.INT), "huge": ("uint64", Kind.HUGEINT), "ratio": ("float32", Kind.FLOAT),
    "price": ("decimal128", "decimal(12,3)"), "name": ("large_string", Kind.TEXT), "raw": ("binary", Kind.BYTES),
    "day": ("date32", Kind.DATE), "naive": ("timestamp", Kind.DATETIME), "aware": ("timestamptz", Kind.DATETIMETZ),
    "at": ("time64", Kind.TIME), "span": ("duration", Kind.TIMEDELTA), "sure": ("bool_", Kind.BOOL),
    "tags": ("list_", Kind.JSON), "kind": ("dictionary", Kind.TEXT), "none": ("null", Kind.TEXT),
}  # fmt: skip


def arrow_type(name: str) -> Any:
    pa = pytest.importorskip("pyarrow")
    made = {
        "decimal128": lambda: pa.decimal128(12, 3), "timestamp": lambda: pa.timestamp("us"),
        "timestamptz": lambda: pa.timestamp("ms", "Europe/Berlin"), "time64": lambda: pa.time64("us"),
        "duration": lambda: pa.duration("us"), "list_": lambda: pa.list_(pa.int32()),
        "dictionary": lambda: pa.dictionary(pa.int8(), pa.string()),
    }  # fmt: skip
    return made[name]() if name in made else getattr(pa, name)()


@EACH
def test_arrow_schema_types_the_columns(database: TestDatabase) -> None:
    pa = pytest.importorskip("pyarrow")
    schema = pa.schema([(name, arrow_type(arrow)) for name, (arrow, _) in ARROW.items()])

    with database.opened() as hook:
        hook.write_chunk("00000000", [pa.Table.from_pylist([{}], schema)])

    assert database.rows() == [(None,) * len(ARROW)]
    expect(database, {name: kind for name, (_, kind) in ARROW.items()})


@EACH
def test_dtypes_of_pandas_type_the_columns(database: TestDatabase) -> None:
    pd = pytest.importorskip("pandas")
    kinds = {
        "Int64": Kind.INT, "UInt64": Kind.HUGEINT, "float32": Kind.FLOAT, "boolean": Kind.BOOL, "string": Kind.TEXT,
        "datetime64[ns]": Kind.DATETIME, "datetime64[us, UTC]": Kind.DATETIMETZ, "timedelta64[ns]": Kind.TIMEDELTA,
        "category": Kind.TEXT, "object": Kind.TEXT, "date32[pyarrow]": Kind.DATE,
    }  # fmt: skip
    frame = pd.DataFrame({dtype: pd.Series([None, None], dtype=dtype) for dtype in kinds})
    frame["category"] = frame["category"].astype(pd.CategoricalDtype(["a", "b"]))

    with database.opened() as hook:
        hook.write_chunk("00000000", [frame])

    assert database.rows() == [(None,) * len(kinds)] * 2
    expect(database, kinds)


@EACH
def test_rows_of_polars_are_rows_with_types(database: TestDatabase) -> None:
    pl = pytest.importorskip("polars")
    kinds = {
        "int": (pl.Int16, Kind.INT, 7),
        "huge": (pl.UInt64, Kind.HUGEINT, 2**64 - 1),
        "real": (pl.Float32, Kind.FLOAT, 0.5),
        "sure": (pl.Boolean, Kind.BOOL, True),
        "text": (pl.String, Kind.TEXT, "\u00e9"),
        "raw": (pl.Binary, Kind.BYTES, b"a"),
        "day": (pl.Date, Kind.DATE, date(2013, 1, 31)),
        "at": (pl.Time, Kind.TIME, time(5, 17)),
        "naive": (pl.Datetime, Kind.DATETIME, datetime(2013, 1, 31, 5)),  # noqa: DTZ001
        "aware": (pl.Datetime("us", "UTC"), Kind.DATETIMETZ, datetime(2013, 1, 31, 5, tzinfo=UTC)),
        "span": (pl.Duration, Kind.TIMEDELTA, timedelta(seconds=90)),
        "price": (pl.Decimal(9, 2), "decimal(9,2)", Decimal("1.25")),
        "tags": (pl.List(pl.Int8), Kind.JSON, [1, 2]),
        "pair": (pl.Struct({"a": pl.Int8}), Kind.JSON, {"a": 1}),
        "cat": (pl.Categorical, Kind.TEXT, "x"),
        "none": (pl.Null, Kind.TEXT, None),
    }
    schema = {name: dtype for name, (dtype, _, _) in kinds.items()}
    empty = pl.DataFrame({name: [None] for name in kinds}, schema=schema)
    full = pl.DataFrame({name: [value] for name, (_, _, value) in kinds.items()}, schema=schema)

    with database.opened() as hook:
        hook.write_chunk("00000000", [empty])
        hook.write_chunk("00000001", [full], first_position=100)
    declared = {name: kind for name, (_, kind, _) in kinds.items()}
    with database.opened("by_hand", dead_letters=None, columns=declared) as hook:
        hook.write_chunk("00000000", [dict.fromkeys(kinds), {name: value for name, (_, _, value) in kinds.items()}])

    expect(database, declared)
    assert sorted(database.rows(), key=str) == sorted(database.rows("by_hand"), key=str)


@dataclasses.dataclass
class Small:
    n: float


def test_annotation_is_believed_before_arrow_before_dtypes_before_values(sqlite: SqliteDatabase) -> None:
    pa, pd = pytest.importorskip("pyarrow"), pytest.importorskip("pandas")
    arrow, frame, plain = pa.table({"n": [1]}), pd.DataFrame({"n": ["x"]}, dtype="string"), {"n": 1}
    cases = [
        ([plain, frame, arrow, Small(1.0)], "REAL"), ([plain, frame, Small(1.0)], "REAL"),
        ([plain, pd.DataFrame({"n": [2.5]})], "REAL"), ([plain, arrow, pd.DataFrame({"n": [3.0]})], "INTEGER"),
        ([plain], "INTEGER"), ([plain, frame], "TEXT"),
    ]  # fmt: skip
    for at, (rows, declared) in enumerate(cases):
        fits = [row for row in rows if row is not frame or declared == "TEXT"]
        with sqlite.opened(f"t{at}", dead_letters=None) as hook:
            hook.write_chunk("00000000", fits)
        assert types_of(sqlite, f"t{at}") == [("n", declared)], rows
    with sqlite.opened("last", dead_letters=None, columns={"n": str}) as hook:
        hook.write_chunk("00000000", [Small(1.0)])
    assert types_of(sqlite, "last") == [("n", "TEXT")]


@EACH
def test_table_that_is_there_is_believed_before_annotations(database: TestDatabase) -> None:
    database.execute(
        f"CREATE TABLE {database.place('scores')} (n {'bigint' if database.name != 'sqlite' else 'INTEGER'})"
    )

    with database.opened() as hook:
        hook.write_chunk("00000000", [Small(3.0)])
        with pytest.raises(SchemaMismatch, match="a float with a fraction"):
            hook.write_chunk("00000001", [Small(3.5)], first_position=100)

    assert database.rows() == [(3,)]


@dataclasses.dataclass
class Vague:
    n: int
    at: datetime


def test_values_say_what_an_annotation_leaves_open(sqlite: SqliteDatabase) -> None:
    with sqlite.opened() as hook:
        hook.write_chunk("00000000", [Vague(2**70, datetime(2013, 1, 31, tzinfo=UTC))])

    with sqlite.opened("twin", dead_letters=None, columns={"n": "hugeint", "at": "datetimetz"}) as hook:
        hook.write_chunk("00000000", [{"n": None, "at": None}])
    assert types_of(sqlite) == types_of(sqlite, "twin")


class HalfKnown(TypedDict):
    id: int
    other: Unknown
    many: int | float
    odd: int | bytes


def test_annotations_that_cannot_be_read_leave_the_column_to_the_rows() -> None:
    assert declared_columns(HalfKnown, "columns") == (
        Column("id", Kind.INT), Column("other"), Column("many", Kind.FLOAT), Column("odd"),
    )  # fmt: skip


@pytest.mark.parametrize("given", [int, Color, object])
def test_class_without_fields_is_refused(given: type) -> None:
    with pytest.raises(PlanError, match=r"SinkTable\.columns=.*give a TypedDict, a dataclass"):
        SinkTable("scores", conn_id="warehouse", columns=given)


@EACH
def test_added_column_has_its_annotated_type(database: TestDatabase) -> None:
    with database.opened(on_schema_change="add_columns") as hook:
        hook.write_chunk("00000000", [{"id": 1}])
        hook.write_chunk("00000001", [Flight(*NOTHING)], first_position=100)

    expect(database, SAID)
