"""Aggregates of a load do not depend on how its rows were cut into chunks, and are what their names say."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from datetime import date
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_parallel_provider.errors import PlanError, SchemaMismatch
from airflow_parallel_provider.rows.block import Block
from airflow_parallel_provider.sinks.aggregates.declare import Aggregate, declared_aggregates
from airflow_parallel_provider.sinks.aggregates.partials import (
    OTHER,
    from_text,
    merge_partials,
    partials_of,
    results_of,
    to_text,
)
from tests.support.given import examples

ALL = declared_aggregates(
    {
        "rows": "count",
        "values": "count(x)",
        "total": "sum(x)",
        "least": "min(x)",
        "most": "max(x)",
        "mean": "mean(x)",
        "spread": "quantiles(x, 0, 0.25, 0.5, 0.9, 1)",
        "different": "distinct(x)",
        "by_key": Aggregate("sum", "x", by="key", groups=3),
        "rows_by_key": Aggregate("count", by="key", groups=2),
        "different_by_key": Aggregate("distinct", "x", by="key", groups=2),
    }
)
_floats = st.floats(-1e300, 1e300) | st.just(math.nan)
_numbers = st.none() | st.integers(-(10**20), 10**20) | _floats | st.decimals(-(10**18), 10**18, places=4)
_keys = st.sampled_from(["a", "b", "c", "d", None, 1, 1.0, date(2013, 1, 1)])
_rows = st.lists(st.tuples(_numbers, _keys), max_size=40)


_draws = st.integers(0, 2**32).map(random.Random)
FEWER = examples(50)


def cut(rows: Sequence[Any], draw: random.Random) -> list[Block]:
    """The rows in chunks of random lengths, some of them empty."""
    blocks, at = [], 0
    while at < len(rows):
        length = draw.randint(0, 7)
        blocks.append(Block(("x", "key"), list(rows[at : at + length])))
        at += length
    return blocks


def through_ledger(blocks: Sequence[Block], declared: Any) -> list[Any]:
    return [from_text(to_text(partials_of(block, declared, "here"))) for block in blocks]


@FEWER
@given(_rows, _draws)
def test_any_cut_in_any_order_gives_the_same_aggregates(rows: list[Any], draw: random.Random) -> None:
    whole = results_of(merge_partials(through_ledger([Block(("x", "key"), rows)], ALL), ALL), ALL)
    partials = through_ledger(cut(rows, draw), ALL)
    draw.shuffle(partials)
    middle = draw.randint(0, len(partials))
    halves = [merge_partials(partials[:middle], ALL), merge_partials(partials[middle:], ALL)]  # merging in steps

    assert results_of(merge_partials(partials, ALL), ALL) == whole
    assert results_of(merge_partials(halves, ALL), ALL) == whole


@FEWER
@given(_rows, _draws)
def test_figures_are_what_they_are_called(rows: list[Any], draw: random.Random) -> None:
    values = [x for x, _ in rows if x is not None and x == x]
    found = results_of(merge_partials(through_ledger(cut(rows, draw), ALL), ALL), ALL)

    assert found["rows"] == len(rows)
    assert found["values"] == len(values)
    assert found["least"] == (min(values) if values else None)
    assert found["most"] == (max(values) if values else None)
    assert found["different"] == pytest.approx(len(set(values)), abs=1)
    if not values:
        assert found["total"] is found["mean"] is None
        return
    exact = sum(map(Fraction, values))
    try:
        assert found["total"] == (float(exact) if any(isinstance(x, float) for x in values) else exact)
    except OverflowError:
        assert math.isinf(found["total"])
    else:
        assert float(found["mean"]) == pytest.approx(float(exact / len(values)), rel=1e-12)


@FEWER
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), _draws)
def test_quantile_is_near_the_value_of_its_rank(values: list[float], draw: random.Random) -> None:
    declared = declared_aggregates({"q": "quantiles(x, 0, 0.5, 1)"})
    found = results_of(
        merge_partials(through_ledger(cut([(x, 1) for x in values], draw), declared), declared), declared
    )

    for fraction, figure in found["q"].items():
        exact = sorted(values)[math.floor(float(fraction) * (len(values) - 1))]
        assert figure == pytest.approx(exact, rel=0.0101, abs=1e-300)


@FEWER
@given(st.lists(st.floats(-1, 1), min_size=2, max_size=60), _draws)
def test_variance_survives_a_large_mean(values: list[float], draw: random.Random) -> None:
    """The sum of squares minus the square of the sum would be off by more than the whole variance here."""
    declared = declared_aggregates({"v": "variance(x)", "s": "stddev(x)"})
    shifted = [value + 1e9 for value in values]
    rows = [(value, 1) for value in shifted]
    found = results_of(merge_partials(through_ledger(cut(rows, draw), declared), declared), declared)

    exact = float(statistics.variance(map(Fraction, shifted)))
    deviation, step = math.sqrt(exact), math.ulp(1e9)
    # The mean of each chunk is rounded to the next float: differences between them are off by as much as one step.
    assert found["v"] == pytest.approx(exact, rel=1e-12, abs=4 * step * (deviation + step))
    assert found["s"] == pytest.approx(deviation, rel=1e-12, abs=4 * step)


@pytest.mark.parametrize("count", [10, 1_000, 50_000])
def test_distinct_is_within_four_standard_errors(count: int) -> None:
    declared = declared_aggregates({"d": "distinct(x)"})
    blocks = [
        Block(("x",), [(f"value {number % count}",) for number in range(at, at + 5000)])
        for at in range(0, count + 5000, 5000)
    ]
    found = results_of(merge_partials([partials_of(block, declared, "") for block in blocks], declared), declared)

    assert found["d"] == pytest.approx(count, rel=4 * 1.04 / 64, abs=1)


def test_sum_is_exact_where_adding_is_not() -> None:
    declared = declared_aggregates({"total": "sum(x)"})
    rows = [(1e100,), (1.0,), (-1e100,), (1e-3,)]
    found = results_of(
        merge_partials([partials_of(Block(("x",), [row]), declared, "") for row in rows], declared), declared
    )

    assert found["total"] == 1.001


def test_too_many_groups_are_added_up_and_the_chosen_do_not_depend_on_the_cut() -> None:
    declared = {"n": Aggregate("count", by="x", groups=4)}
    rows = [(number % 10,) for number in range(100)]
    found = results_of(partials_of(Block(("x",), rows), declared, ""), declared)["n"]
    one_by_one = merge_partials([partials_of(Block(("x",), [row]), declared, "") for row in reversed(rows)], declared)

    assert len(found) == 5
    assert sum(found.values()) == 100
    assert found[OTHER] == 60
    assert results_of(one_by_one, declared)["n"] == found


def test_infinities_and_missing_columns() -> None:
    declared = declared_aggregates({name: f"{name}(x)" for name in ("sum", "mean", "min", "max", "variance")})
    found = results_of(partials_of(Block(("x",), [(math.inf,), (1.0,)]), declared, ""), declared)
    missing = results_of(partials_of(Block(("y",), [(1,)]), declared, ""), declared)

    assert (found["sum"], found["mean"], found["min"], found["max"]) == (math.inf, math.inf, 1.0, math.inf)
    assert math.isnan(found["variance"])
    assert set(missing.values()) == {None}


@pytest.mark.parametrize(
    ("text", "value", "complaint"),
    [
        ("sum(x)", "secret", r"aggregates\['f'\]: sum\(x\) cannot take values of type str \(chunk 7\): convert"),
        ("max(x)", {"secret": 1}, r"cannot take values of type NoneType|dict"),
        ("distinct(x)", ["secret"], r"cannot take values that are not hashable"),
        ("count by x", ["secret"], r"cannot take a value of type list in the column of by="),
    ],
)
def test_values_that_do_not_fit_are_refused_without_being_shown(text: str, value: Any, complaint: str) -> None:
    declared = declared_aggregates({"f": text})
    with pytest.raises(SchemaMismatch, match=complaint) as raised:
        partials_of(Block(("x",), [(value,), (value,)]), declared, "chunk 7")

    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("count", "count"),
        (" sum( a b ) ", "sum(a b)"),
        ("mean(price) by the currency", "mean(price) by the currency (at most 100)"),
        ("count by x", "count by x (at most 100)"),
    ],
)
def test_texts_are_read(text: str, spelled: str) -> None:
    assert Aggregate.parse(text).as_text() == spelled


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"x": "median(x)"}, r"Aggregate.operation='median': write one of count"),
        ({"x": "sum"}, r"Aggregate.column=None: sum needs a column"),
        ({"x": "sum(a, 0.5)"}, r"SinkTable.aggregates='sum\(a, 0.5\)': only quantiles takes numbers"),
        ({"x": "sum(("}, r"SinkTable.aggregates='sum\(\(': write e.g. 'count'"),
        ({"x": 5}, r"SinkTable.aggregates\['x'\]=5: give a text"),
        ({"": "count"}, r"SinkTable.aggregates='': the name of an aggregate"),
        (["count"], r"SinkTable.aggregates=\['count'\]: give a dict"),
        ({"x": "quantiles(a, 1.5)"}, r"Aggregate.quantiles=.*fractions from 0 to 1"),
    ],
)
def test_declarations_that_cannot_be_right(given: Any, complaint: str) -> None:
    with pytest.raises(PlanError, match=complaint):
        declared_aggregates(given)


def test_more_declarations_that_cannot_be_right() -> None:
    with pytest.raises(PlanError, match=r"Aggregate.groups=0: give a whole number from 1 to 1,000"):
        Aggregate("count", by="x", groups=0)
    with pytest.raises(PlanError, match=r"Aggregate.by='': give the name of a column"):
        Aggregate("count", by="")
