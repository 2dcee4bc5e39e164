"""Bad rows go aside, with their chunk; good ones get through, on every backend."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, Field

from airflow_parallel_provider.engine.interfaces.records import LoadSpec
from airflow_parallel_provider.errors import PlanError, RowsRejected, SchemaMismatch, SinkError
from airflow_parallel_provider.sinks.commit.committer import ChunkCommitter
from airflow_parallel_provider.sinks.table import SinkTable
from airflow_parallel_provider.values.typed_json import loads
from tests.support.children import KILLED, Child, killing_hook
from tests.support.databases import OWN, SPEC, TestDatabase, on_each_backend, on_each_database, on_two_databases
from tests.support.turns import in_turn

pytestmark = pytest.mark.airflow
OWN_BACKENDS = pytest.mark.parametrize("database", OWN, indirect=True)


def positive(row: dict[str, Any]) -> Any:
    if row["price"] < 0:
        raise ValueError(f"secret price {row['price']}")
    return "it is a secret zero" if row["price"] == 0 else None


class Priced(BaseModel):
    id: int
    price: float = Field(gt=0)


def prices(*values: Any) -> list[dict[str, Any]]:
    return [{"id": number, "price": value} for number, value in enumerate(values)]


def rejected(database: TestDatabase, columns: str = "number, position, refused_by, reason, raw") -> list[Any]:
    return database.rows("scores__rejected", columns, "chunk_id, number")


@on_two_databases
def test_rows_a_function_refuses_go_aside(database: TestDatabase) -> None:
    with database.opened(validate=positive, max_rejected=2) as hook:
        receipt = hook.write_chunk(
            "00000000", prices(1.5, -1, 2.5, 0), first_position=10, positions=lambda: [10, 11, 12, 13]
        )

    assert database.rows() == [(0, 1.5), (2, 2.5)]
    assert (receipt.rows, receipt.rows_rejected, receipt.items) == (2, 2, 4)
    assert database.rows("airflow_parallel_ledger", "rows_committed, rows_rejected, items") == [(2, 2, 4)]
    assert rejected(database) == [
        (0, 11, "validate", "ValueError: secret price -1", '{"id": 1, "price": -1}'),
        (1, 13, "validate", "it is a secret zero", '{"id": 3, "price": 0}'),
    ]


@on_two_databases
def test_rows_a_model_refuses_go_aside_and_the_others_are_converted(database: TestDatabase) -> None:
    rows = [{"id": "7", "price": "1.5", "more": 1}, {"id": "secret", "price": -1}, {"id": 8, "price": 2}]
    with database.opened(validate=Priced, max_rejected=5) as hook:
        hook.write_chunk("00000000", rows)

    assert database.rows(columns="id, price") == [(7, 1.5), (8, 2.0)]
    (row,) = rejected(database, "position, reason, raw")
    assert row[0] is None
    assert row[1].startswith("id: Input should be a valid integer")
    assert "price: Input should be greater than 0" in row[1]
    assert loads(row[2]) == rows[1]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_model_takes_rows_of_many_shapes(database: TestDatabase) -> None:
    pandas = pytest.importorskip("pandas")

    @dataclasses.dataclass
    class Sold:
        id: int
        price: float

    frame = pandas.DataFrame({"id": [3, 4], "price": [3.5, -4]})
    with database.opened(validate=Priced, max_rejected=5, columns=["id", "price"]) as hook:
        hook.write_chunk(
            "00000000", [(1, 1.5), Sold(2, 2.5), Priced(id=9, price=9), frame], positions=lambda: [1, 2, 3, 4]
        )

    assert database.rows() == [(1, 1.5), (2, 2.5), (3, 3.5), (9, 9.0)]
    assert rejected(database, "position, raw") == [(4, '{"id": 4, "price": -4.0}')]


@on_two_databases
def test_function_may_mend_a_row(database: TestDatabase) -> None:
    def mend(row: dict[str, Any]) -> Any:
        return {**row, "price": abs(row["price"])} if row["price"] < 0 else True

    with database.opened(validate=mend) as hook:
        hook.write_chunk("00000000", prices(1.5, -2.5))

    assert database.rows() == [(0, 1.5), (1, 2.5)]
    assert not database.exists("scores__rejected")


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_function_may_answer_with_a_truth_value_of_numpy(database: TestDatabase) -> None:
    numpy = pytest.importorskip("numpy")
    rows = prices(numpy.float64(1.5), numpy.float64(-2.5))
    with database.opened(validate=lambda row: row["price"] > 0, max_rejected=1) as hook:
        hook.write_chunk("00000000", rows)

    assert database.rows() == [(0, 1.5)]
    assert rejected(database, "number, reason") == [(0, "<lambda> returned False")]


@pytest.mark.parametrize("validate", [Priced, lambda _: True], ids=["model", "function"])
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_tuple_of_another_length_is_rejected_not_cut(database: TestDatabase, validate: Any) -> None:
    columns = {"id": int, "price": float}
    with database.opened(validate=validate, columns=columns, max_rejected=2) as hook:
        hook.write_chunk("00000000", [(1, 1.5), (2, 2.5, "more"), (3,)])

    assert database.rows() == [(1, 1.5)]
    reasons = [reason for (reason,) in rejected(database, "reason")]
    assert ["3 values" in reasons[0], "1 values" in reasons[1]] == [True, True]
    assert "row 0" not in "".join(reasons)  # which row of the chunk that would be is unknown


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_key_that_a_model_forbids_is_in_no_log(database: TestDatabase) -> None:
    class Strict(BaseModel, extra="forbid"):
        id: int

    complaint = r"\(1 x ValidationError Strict: extra_forbidden\)"
    with database.opened(validate=Strict) as hook, pytest.raises(RowsRejected, match=complaint) as error:
        hook.write_chunk("00000000", [{"id": 1, "secret": 1}])

    assert "secret" not in str(error.value)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_model_names_no_tuples(database: TestDatabase) -> None:
    complaint = r"tuple of 2 values without names: name them with SinkTable\(columns="
    with database.opened(validate=Priced, max_rejected=9) as hook, pytest.raises(SchemaMismatch, match=complaint):
        hook.write_chunk("00000000", [(1, 1.5)])


@on_two_databases
def test_too_many_rejected_rows_leave_nothing_and_no_value_in_the_error(database: TestDatabase) -> None:
    with database.opened(validate=positive, max_rejected=2) as hook:
        hook.write_chunk("00000000", prices(1, 0))
        with pytest.raises(
            RowsRejected, match=r"chunk 00000001: 2 or more rows were rejected.*1 x refused by"
        ) as error:
            hook.write_chunk("00000001", prices(-1, 0, 3), first_position=2)
        hook.write_chunk("00000002", prices(-1, 5), first_position=5)

    assert "secret" not in str(error.value)
    assert "ValueError (test_rejected_rows.py:" in str(error.value)
    assert len(rejected(database)) == 2
    assert [row[0] for row in database.ledger()] == ["00000000", "00000002"]


@on_two_databases
def test_without_max_rejected_the_first_bad_row_is_one_too_many(database: TestDatabase) -> None:
    with database.opened(validate=positive) as hook, pytest.raises(RowsRejected):
        hook.write_chunk("00000000", prices(1, 0))

    assert not database.exists("scores")


@on_two_databases
def test_writing_a_chunk_again_rejects_nothing_twice(database: TestDatabase) -> None:
    with database.opened(validate=positive, max_rejected=1) as hook:
        first = hook.write_chunk("00000000", prices(1, 0))
        again = hook.write_chunk("00000000", prices(1, 0))
    with database.hook(validate=positive, max_rejected=1) as hook:
        hook.open(dataclasses.replace(SPEC, attempt=2))
        with pytest.raises(RowsRejected):  # those of the first try count
            hook.write_chunk("00000001", prices(0), first_position=2)

    assert first.rows_rejected == again.rows_rejected == 1
    assert len(rejected(database)) == 1


@on_two_databases
def test_rejected_rows_may_be_counted_only(database: TestDatabase) -> None:
    with database.opened(validate=positive, max_rejected=1, rejected=None) as hook:
        receipt = hook.write_chunk("00000000", prices(1, 0))

    assert receipt.rows_rejected == 1
    assert not database.exists("scores__rejected")


@on_two_databases
def test_discarded_load_takes_its_rejected_rows_along(database: TestDatabase) -> None:
    with database.opened(validate=positive, max_rejected=1) as hook:
        hook.write_chunk("00000000", prices(1, 0))
    with database.hook(validate=positive) as hook:
        hook.discard("nightly")

    assert rejected(database) == []


STRICT = "(id INTEGER NOT NULL PRIMARY KEY, price INTEGER NOT NULL CHECK (price > 0))"


def test_rows_only_the_database_refuses_are_found(database: TestDatabase) -> None:
    database.execute(f"CREATE TABLE {database.place('scores')} {STRICT}")
    rows = prices(*range(1, 101))
    rows[17]["price"] = -5  # the CHECK
    rows[40]["id"] = 39  # collides with its neighbor
    rows[63]["price"] = None
    rows[99]["price"] = "secret"  # refused before the database sees it

    with database.opened(max_rejected=4) as hook:
        receipt = hook.write_chunk("00000000", rows, positions=lambda: range(500, 600))
        hook.write_chunk("00000001", [{"id": 1000, "price": 1}], first_position=100)

    assert [row[0] for row in database.rows()] == [*(n for n in range(100) if n not in (17, 40, 63, 99)), 1000]
    assert (receipt.rows, receipt.rows_rejected) == (96, 4)
    found = rejected(database)
    assert [row[1:3] for row in found] == [(517, "table"), (540, "table"), (563, "table"), (599, "table")]
    assert [json.loads(row[4]) for row in found] == [rows[17], rows[40], rows[63], rows[99]]
    assert "None (it is NOT NULL)" in found[2][3]
    assert "cannot take" in found[3][3]
    assert not any("row 0" in row[3] or "\0" in row[3] for row in found)
    assert database.rows("airflow_parallel_ledger", "chunk_id, rows_committed, rows_rejected") == [
        ("00000000", 96, 4),
        ("00000001", 1, 0),
    ]


@on_each_backend
def test_rows_a_merge_refuses_are_found(database: TestDatabase) -> None:
    database.execute(f"CREATE TABLE {database.place('scores')} {STRICT}")
    options: dict[str, Any] = {"write_disposition": "merge", "primary_key": "id", "max_rejected": 1}
    with database.opened(**options) as hook:
        hook.write_chunk("00000000", [{"id": 1, "price": 1}, {"id": 2, "price": 2}])
        rows = [{"id": 2, "price": 7}, {"id": 3, "price": -1}, {"id": 2, "price": 8}, {"id": 4, "price": 4}]
        hook.write_chunk("00000001", rows, first_position=2)

    assert database.rows() == [(1, 1), (2, 8), (4, 4)]
    assert len(rejected(database)) == 1


@on_each_database
def test_more_refused_rows_than_allowed_leave_nothing(database: TestDatabase) -> None:
    database.execute(f"CREATE TABLE {database.place('scores')} {STRICT}")
    with database.opened(max_rejected=2) as hook, pytest.raises(RowsRejected, match=r"chunk 00000000: 3 or more rows"):
        hook.write_chunk("00000000", prices(1, -1, -2, 2, -3, 3))

    assert database.rows() == []
    assert database.ledger() == []
    assert rejected(database) == []


@on_each_database
def test_without_an_allowance_the_refusal_is_raised_as_before(database: TestDatabase) -> None:
    database.execute(f"CREATE TABLE {database.place('scores')} {STRICT}")
    with database.opened() as hook, pytest.raises(SchemaMismatch, match=r"NOT NULL"):
        hook.write_chunk("00000000", prices(1, None))


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_constraint_that_is_put_off_to_the_commit_is_found_as_well(database: TestDatabase) -> None:
    database.execute(
        f"CREATE TABLE {database.place('scores')} "
        "(id INTEGER NOT NULL, price INTEGER UNIQUE DEFERRABLE INITIALLY DEFERRED)"
    )
    with database.opened(max_rejected=1) as hook:
        hook.write_chunk("00000000", prices(1, 2, 1, 3))

    assert [row[0] for row in database.rows()] == [0, 1, 3]
    assert rejected(database, "raw") == [('{"id": 2, "price": 1}',)]


@on_each_database
def test_row_without_a_key_others_have_is_null_there_also_when_alone(database: TestDatabase) -> None:
    database.execute(
        f"CREATE TABLE {database.place('scores')} (id INTEGER NOT NULL PRIMARY KEY, name VARCHAR(9) DEFAULT 'x')"
    )
    rows = [{"id": 1}, {"id": 1}, {"id": 2, "name": "b"}, {"id": 3, "other": 1}]
    with database.opened(max_rejected=2) as hook:
        hook.write_chunk("00000000", rows)

    assert database.rows() == [(1, None), (2, "b")]
    assert [json.loads(raw) for (raw,) in rejected(database, "raw")] == [{"id": 1}, {"id": 3, "other": 1}]


def drawn_rows(draw: random.Random) -> Iterator[list[dict[str, Any]]]:
    ids = [draw.randint(0, 60) for _ in range(60)]
    for chunk in range(4):
        yield [{"id": ids[n], "price": draw.choice([1, 2, -1, None])} for n in range(chunk * 15, chunk * 15 + 15)]


@OWN_BACKENDS
@pytest.mark.parametrize("seed", range(3))
@in_turn("mariadb", "duckdb", "postgres-psycopg2")
def test_each_row_ends_in_exactly_one_of_the_two_tables(database: TestDatabase, seed: int) -> None:
    database.execute(f"CREATE TABLE {database.place('scores')} {STRICT}")
    chunks = list(drawn_rows(random.Random(seed)))
    with database.opened(max_rejected=60, validate=lambda row: row["id"] % 7 != 0) as hook:
        for number, rows in enumerate(chunks):
            hook.write_chunk(f"{number:08d}", rows, first_position=number * 15)

    expected: dict[int, int] = {}
    refused = []
    for rows in chunks:
        refused_here = [row for row in rows if row["id"] % 7 == 0]
        taken = []
        for row in rows:
            bad = row["price"] in (None, -1) or row["id"] in expected
            if row["id"] % 7 and bad:
                taken.append(row)
            elif row["id"] % 7:
                expected[row["id"]] = row["price"]
        refused += refused_here + taken
    assert database.rows() == sorted(expected.items())
    assert [json.loads(raw) for (raw,) in rejected(database, "raw")] == refused


@pytest.mark.parametrize("point", ["after_claim", "after_rows", "before_commit", "after_commit"])
@OWN_BACKENDS
@in_turn("mariadb", "duckdb", "postgres-psycopg2")
def test_rejected_rows_are_there_once_when_killed(database: TestDatabase, point: str) -> None:
    database.execute(f"CREATE TABLE {database.place('scores')} {STRICT}")

    def attempt(number: int, cls: Any = None) -> None:
        spec = LoadSpec("nightly", 3, "list", attempt=number)
        with database.hook(cls=cls, max_rejected=9, validate=lambda row: row["price"] != 13) as hook:
            done = hook.open(spec)
            for chunk in range(3):
                rows = [{"id": chunk * 3 + at, "price": price} for at, price in enumerate((5, -1, 13))]
                if f"{chunk:08d}" not in done:
                    hook.write_chunk(f"{chunk:08d}", rows, first_position=chunk * 3)

    # A refused chunk is claimed twice: the second time its rows are taken one by one.
    visits = 3 if point == "after_claim" else 2
    assert Child(lambda: attempt(1, killing_hook(visits, point))).wait() == KILLED
    attempt(2)

    assert database.rows() == [(0, 5), (3, 5), (6, 5)]
    assert [row[2] for row in rejected(database)] == ["validate", "table"] * 3
    assert [row[2] for row in database.ledger()] == [1, 1, 1]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"validate": 5}, r"SinkTable.validate=5: give a function of a row"),
        ({"validate": dict}, r"SinkTable.validate=<class 'dict'>: give a function"),
        ({"max_rejected": -1}, r"SinkTable.max_rejected=-1: give a whole number"),
        ({"max_rejected": 0.01}, r"SinkTable.max_rejected=0.01: give a whole number"),
        ({"dead_letter_length": 500.0}, r"SinkTable.dead_letter_length=500.0: give a whole number"),
        ({"rejected": ""}, r"SinkTable.rejected='': give a name"),
        ({"rejected": "t__dead_letters"}, r"rejected and ledger_table must differ"),
        ({"aggregates": ["count"]}, r"SinkTable.aggregates=\['count'\]: give a dict"),
    ],
)
def test_declarations_that_cannot_be_right(arguments: dict[str, Any], complaint: str) -> None:
    with pytest.raises(PlanError, match=complaint):
        SinkTable("t", conn_id="warehouse", **arguments)


@on_each_backend
def test_no_row_is_rejected_because_the_table_is_gone(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropped when the chunk has failed as a whole and its rows are about to be tried one by one."""
    try_alone = ChunkCommitter._attempt_row_by_row

    def drop_first(*arguments: Any) -> Any:
        database.execute(f"DROP TABLE {database.place('scores')}")
        return try_alone(*arguments)

    monkeypatch.setattr(ChunkCommitter, "_attempt_row_by_row", drop_first)
    with (
        database.opened(max_rejected=100, columns={"id": int, "price": float}) as hook,
        pytest.raises(SinkError, match=r"scores' no longer exists: it was dropped"),
    ):
        hook.write_chunk("00000000", prices(1.5, "no number", 2.5))

    assert rejected(database) == []
