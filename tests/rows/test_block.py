"""Rows of any shape become one block, without a database."""

from __future__ import annotations

import dataclasses
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_parallel_provider.errors import SchemaMismatch
from airflow_parallel_provider.rows.block import Block, to_block
from tests.support.given import quick
from tests.support.liars import Lazy, LyingDict, LyingList, LyingTuple


@dataclasses.dataclass(frozen=True, slots=True)
class Flight:
    id: int
    carrier: str


@dataclasses.dataclass
class Lonely:
    id: int


class Delay(NamedTuple):
    id: int
    minutes: float


DICTS = [{"id": 1, "carrier": "UA"}, {"id": 2, "carrier": "DL"}]


@pytest.mark.parametrize(
    ("rows", "names", "values"),
    [
        pytest.param(DICTS, ("id", "carrier"), [(1, "UA"), (2, "DL")], id="same keys"),
        pytest.param([{"a": 1, "b": 2}, {"b": 3, "a": 4}], ("a", "b"), [(1, 2), (4, 3)], id="keys in another order"),
        pytest.param([{"a": 1}, {"b": 2}], ("a", "b"), [(1, None), (None, 2)], id="as many keys, but others"),
        pytest.param([{"a": 1}, {"a": 2, "b": 3}], ("a", "b"), [(1, None), (2, 3)], id="more keys later"),
        pytest.param([{"a": 1}], ("a",), [(1,)], id="one key"),
        pytest.param([{}, {"a": 1}], ("a",), [(None,), (1,)], id="a row without keys"),
        pytest.param([Flight(1, "UA")], ("id", "carrier"), [(1, "UA")], id="dataclass"),
        pytest.param([Lonely(1), Lonely(2)], ("id",), [(1,), (2,)], id="dataclass of one field"),
        pytest.param([Delay(1, 0.5)], ("id", "minutes"), [(1, 0.5)], id="named tuple"),
        pytest.param([MappingProxyType({"a": 1})], ("a",), [(1,)], id="mapping"),
        pytest.param(
            [{"id": 1}, Delay(2, 0.5), Flight(3, "UA"), {"id": 4}],
            ("id", "minutes", "carrier"),
            [(1, None, None), (2, 0.5, None), (3, None, "UA"), (4, None, None)],
            id="mixture",
        ),
        pytest.param([], (), [], id="nothing"),
    ],
)
def test_rows_become_a_block(rows: list[Any], names: tuple[str, ...], values: list[tuple[Any, ...]]) -> None:
    assert to_block(rows) == Block(names, values)


@pytest.mark.parametrize("row", [(1, "UA"), [1, "UA"]])
def test_rows_without_names_take_the_declared_ones(row: Any) -> None:
    assert to_block([row], ("id", "carrier")) == Block(("id", "carrier"), [(1, "UA")])


def test_tuples_are_not_copied() -> None:
    rows = [(1, "UA"), (2, "DL")]

    block = to_block(rows, ("id", "carrier"))

    assert all(mine is theirs for mine, theirs in zip(rows, block.rows, strict=True))


def test_pydantic_and_attrs_objects_are_rows() -> None:
    pydantic = pytest.importorskip("pydantic")
    attrs = pytest.importorskip("attrs")

    model = pydantic.create_model("Model", id=(int, ...), carrier=(str, "UA"))
    made = attrs.make_class("Made", {"id": attrs.field(), "carrier": attrs.field()})

    assert to_block([model(id=1), made(2, "DL")]) == Block(("id", "carrier"), [(1, "UA"), (2, "DL")])


def test_what_a_pydantic_object_has_beyond_its_fields_is_not_lost() -> None:
    pydantic = pytest.importorskip("pydantic")
    config = pydantic.ConfigDict(extra="allow")
    model = pydantic.create_model("Open", __config__=config, id=(int, ...))

    assert to_block([model(id=1), model(id=2, more="x")]) == Block(("id", "more"), [(1, None), (2, "x")])


def test_tables_are_many_rows() -> None:
    pd = pytest.importorskip("pandas")
    pa = pytest.importorskip("pyarrow")
    frame = pd.DataFrame(
        {"a": [1, 2], "b": pd.Series([None, 5], dtype="Int64"), "c": pd.to_datetime(["2013-01-31", None])}
    )
    batch = pa.RecordBatch.from_pydict({"a": [3], "b": [None]})

    block = to_block([frame, batch])

    assert block.names == ("a", "b", "c")
    assert [row[:2] for row in block.rows] == [(1, None), (2, 5), (3, None)]
    assert [row[2] is None for row in block.rows] == [False, True, True]


def test_frame_without_rows_adds_nothing() -> None:
    pd = pytest.importorskip("pandas")

    assert to_block([pd.DataFrame({"a": []}), {"b": 1}]) == Block(("b",), [(1,)])


@pytest.mark.parametrize(
    ("rows", "declared", "complaint"),
    [
        ([1], None, r"row 0 of the chunk is of type int, which has no columns: return a dict"),
        ([{"a": 1}, "text"], None, r"row 1 of the chunk is of type str"),
        ([(1, 2)], None, r"row 0 of the chunk is a tuple of 2 values without names"),
        ([(1, 2), (3,)], ("a", "b"), r"row 1 of the chunk has 1 values, but there are 2 columns \(a, b\)"),
        ([{5: 1}], None, r"a row has a key of type int"),
        ([{"a": 1}, {None: 1}], None, r"a row has a key of type NoneType"),
    ],
)
def test_row_without_columns_is_named(rows: list[Any], declared: tuple[str, ...] | None, complaint: str) -> None:
    with pytest.raises(SchemaMismatch, match=complaint):
        to_block(rows, declared)


def test_table_with_a_column_twice_is_refused() -> None:
    pd = pytest.importorskip("pandas")

    with pytest.raises(SchemaMismatch, match="the table has two columns 'a'"):
        to_block([pd.DataFrame([[1, 2]], columns=["a", "a"])])
    with pytest.raises(SchemaMismatch, match=r"a row of type Series is not a table: .*series.to_frame"):
        to_block([pd.Series([1])])


@quick
@given(st.lists(st.dictionaries(st.sampled_from("abcd"), st.integers()), max_size=8))
def test_no_value_is_lost_or_moved(rows: list[dict[str, int]]) -> None:
    block = to_block(rows)

    assert [
        {name: value for name, value in zip(block.names, row, strict=True) if value is not None} for row in block.rows
    ] == rows


# In an earlier version the lying dict became a row of NULLs, and the others ended the load.
@pytest.mark.parametrize(
    "liar", [LyingDict(id=2, v="b"), LyingTuple((2, "b")), LyingList([2, "b"], 1), LyingList([2, "b"], 1 << 62), Lazy()]
)
@pytest.mark.parametrize("others", [[{"id": 1, "v": "a"}], []])
def test_a_row_is_what_it_holds_whatever_it_says(liar: Any, others: list[Any]) -> None:
    block = to_block([*others, liar], ("id", "v"))

    assert block.names == ("id", "v")
    assert list(map(tuple, block.rows)) == [*((1, "a") for _ in others), (2, "b")]
