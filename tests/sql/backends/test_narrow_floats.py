"""Whole numbers and floats of four bytes: exact or refused, whatever way they come."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest

from airflow_parallel_provider.errors import SchemaMismatch
from airflow_parallel_provider.rows.narrow_floats import need_no_look, rounded
from airflow_parallel_provider.values.json_text import JsonNumber
from tests.support.databases import TestDatabase
from tests.support.turns import in_turn

pytestmark = pytest.mark.airflow

NARROW = {"postgres": "real", "mariadb": "float", "duckdb": "float"}
WIDE = {"postgres": "double precision", "mariadb": "double", "duckdb": "double", "sqlite": "real"}
ODD, EVEN = 2**24 + 1, 2**24 + 2
"""The first whole number that a float of four bytes cannot hold, and one that it can."""

each_with_narrow = pytest.mark.parametrize("database", list(NARROW), indirect=True)


def narrow_table(database: TestDatabase, kind: str | None = None) -> None:
    kind = kind or NARROW[database.name]
    database.execute(f"CREATE TABLE {database.place('scores')} (id bigint, value {kind})")


def stored(database: TestDatabase) -> list[Any]:
    # MariaDB shows a FLOAT with six digits.
    value = "value + 0e0" if database.name == "mariadb" else "CAST(value AS double precision)"
    return [row[0] for row in database.rows(columns=value, order="id")]


@each_with_narrow
@pytest.mark.parametrize("value", [ODD, float(ODD), -ODD, Decimal(ODD), JsonNumber(f"{ODD}.0"), 10**39, 1e39, 1e-60])
@in_turn("mariadb", "duckdb")
def test_number_that_would_change_is_refused_by_row(database: TestDatabase, value: Any) -> None:
    narrow_table(database)

    with database.opened() as hook, pytest.raises(SchemaMismatch, match=r"'value' \(32-bit float\) .*row 1\).*a stage"):
        hook.write_chunk("00000000", [{"id": 1, "value": 1}, {"id": 2, "value": value}])

    assert stored(database) == []


@each_with_narrow
def test_other_numbers_are_the_nearest_that_the_column_has(database: TestDatabase) -> None:
    narrow_table(database)
    values = [EVEN, float(EVEN), 0.1, Decimal("0.1"), None, 1e30, math.pi, 0.0, -2.5, 2**100]

    with database.opened() as hook:
        hook.write_chunk("00000000", [{"id": at, "value": value} for at, value in enumerate(values)])

    expected = [None if value is None else pytest.approx(float(value), rel=1e-7) for value in values]
    assert stored(database) == expected
    assert stored(database)[0] == EVEN


@each_with_narrow
def test_only_the_row_that_does_not_fit_is_rejected(database: TestDatabase) -> None:
    narrow_table(database)

    with database.opened(max_rejected=1) as hook:
        receipt = hook.write_chunk("00000000", [{"id": at, "value": value} for at, value in enumerate([1.0, ODD, 0.5])])

    assert (receipt.rows, receipt.rows_rejected) == (2, 1)
    assert stored(database) == [1.0, 0.5]


@each_with_narrow
@pytest.mark.parametrize("library", ["arrow", "pandas"])
@pytest.mark.parametrize("disposition", ["append", "merge"])
@in_turn("mariadb", "duckdb")
def test_tables_and_frames_are_looked_at_too(database: TestDatabase, library: str, disposition: str) -> None:
    pa = pytest.importorskip("pyarrow")
    pytest.importorskip("pandas")
    narrow_table(database)
    database.execute(f"ALTER TABLE {database.place('scores')} ADD PRIMARY KEY (id)")

    def table(values: list[Any], kind: Any) -> Any:
        made = pa.table({"id": range(len(values)), "value": pa.array(values, kind)})
        return made if library == "arrow" else made.to_pandas()

    options = {"write_disposition": disposition, "primary_key": "id"}
    for kind in (pa.float64(), pa.int64()):
        with database.opened(**options) as hook, pytest.raises(SchemaMismatch, match=r"32-bit float.*\brow 1\)"):
            hook.write_chunk("00000000", [table([1, ODD], kind)])
    assert stored(database) == []
    with database.opened(**options) as hook:
        hook.write_chunk("00000001", [table([0.1, None, math.pi, float(EVEN)], pa.float64())])
    assert stored(database)[0] == pytest.approx(0.1, rel=1e-7)
    assert stored(database)[3] == EVEN


@pytest.mark.parametrize("database", list(WIDE), indirect=True)
def test_eight_bytes_hold_whole_numbers_up_to_2_to_53_and_those_with_few_bits(database: TestDatabase) -> None:
    pa = pytest.importorskip("pyarrow")
    narrow_table(database, WIDE[database.name])

    with database.opened() as hook:
        hook.write_chunk("00000000", [{"id": 1, "value": 2**53}, {"id": 2, "value": 2**60}, {"id": 3, "value": 10**15}])
        for rows in ([{"id": 4, "value": 2**53 + 1}], [pa.table({"id": [4], "value": [2**53 + 1]})]):
            with pytest.raises(SchemaMismatch, match=r"an integer beyond 2\*\*53"):
                hook.write_chunk("00000001", rows)

    assert [int(value) for value in stored(database)] == [2**53, 2**60, 10**15]


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
@pytest.mark.parametrize("kind", ["float(7,2)", "double(10,2)"])
def test_column_of_mariadb_that_rounds_refuses(database: TestDatabase, kind: str) -> None:
    narrow_table(database, kind)

    with database.opened() as hook:
        hook.write_chunk("00000000", [{"id": 1, "value": 0.25}])
        with pytest.raises(SchemaMismatch, match="a number with more than 2 digits after the point"):
            hook.write_chunk("00000001", [{"id": 2, "value": 0.125}])

    assert stored(database) == [0.25]


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0.1, 3.7], True), ([1.0, 2.0], True), ([0.1, 2.0], False), ([1e39], False), ([1e-60], False), ([], True)],
)
def test_look_at_a_whole_column_is_never_too_lenient(values: list[float], expected: bool) -> None:
    assert need_no_look(values) is expected
    if expected:
        assert list(map(rounded, values)) == values
