"""CSV as people have it: lines before the head, no head, comments, marks for NULL, other notations, long fields."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from airflow_parallel_provider import FilesToTableOperator, ListSink
from airflow_parallel_provider.engine.interfaces.failed_part import FailedPart
from airflow_parallel_provider.errors import PlanError, SourceError
from airflow_parallel_provider.sources.files.formats.row_readers import read_rows
from airflow_parallel_provider.values.items import SourceLine
from tests.sources.files.formats.test_row_readers import failed, read

pytestmark = pytest.mark.airflow


@pytest.fixture(autouse=True)
def small_limit() -> Iterator[None]:
    """As it is in a new process."""
    before = csv.field_size_limit(131_072)
    yield
    csv.field_size_limit(before)


@pytest.mark.parametrize(
    ("content", "options", "rows"),
    [
        ("exported 1 May\nby ann\nid,v\n1,a\n", {"skiprows": 2}, [{"id": "1", "v": "a"}]),
        ("\ufeffsep=;\nreport\nid;v\n1;a\n", {"skiprows": 1}, [{"id": "1", "v": "a"}]),
        ('a "quoted\nid\n1\n', {"skiprows": 1}, [{"id": "1"}]),
        ("id\n", {"skiprows": 7}, []),
        ("1,a\n2,b\n", {"header": False}, [{"column0": "1", "column1": "a"}, {"column0": "2", "column1": "b"}]),
        ("1,a\n", {"header": None, "fieldnames": ["x", "y"]}, [{"x": "1", "y": "a"}]),
        ("v,v\n1,a\n", {"header": True, "fieldnames": ["x", "y"]}, [{"x": "1", "y": "a"}]),
        ("", {"header": False}, []),
        ('#by x\n\nid,v\n# 1,b\n1,"a\n#b"\n', {"comment": "#"}, [{"id": "1", "v": "a\n#b"}]),
        ("id,v\n2,#c\n", {"comment": "#"}, [{"id": "2", "v": "#c"}]),
        ("id,v\n\\N,NA\n,NA \n", {"na_values": ["\\N", "NA", ""]}, [{"id": None, "v": None}, {"id": None, "v": "NA "}]),
        ("id,v\nNA,NA\n,\n", {"na_values": {"v": "NA"}}, [{"id": "NA", "v": None}, {"id": "", "v": ""}]),
        ("id,\n,\nb,\n", {"na_values": [""]}, [{"id": None}, {"id": "b"}]),
    ],
)  # fmt: skip
def test_options_of_pandas(tmp_path: Path, content: str, options: dict[str, Any], rows: list[Any]) -> None:
    assert read(tmp_path / "x.csv", content, csv_options=options) == rows


@pytest.mark.parametrize(
    ("form", "text", "value"),
    [
        ("%d.%m.%Y", "31.12.2026", date(2026, 12, 31)),
        ("%d.%m.%Y %H:%M", "31.12.2026 23:59", datetime(2026, 12, 31, 23, 59)),  # noqa: DTZ001
        ("%Y-%m-%dT%H:%M:%S%z", "2026-12-31T23:59:00+0000", datetime(2026, 12, 31, 23, 59, tzinfo=UTC)),
        ("%I:%M %p", "11:30 PM", time(23, 30)),
        ({"decimal": ","}, "1234,50", Decimal("1234.50")),
        ({"decimal": ",", "thousands": "."}, "-1.234.567,89", Decimal("-1234567.89")),
        ({"decimal": ",", "thousands": " "}, "1\u202f234,5", Decimal("1234.5")),
        ({"thousands": ","}, "12,34,567.8", Decimal("1234567.8")),
        ({"decimal": ","}, "1,5E3", Decimal("1.5E3")),
        (str.upper, "a", "A"),
    ],
)
def test_format_of_a_column(tmp_path: Path, form: Any, text: str, value: Any) -> None:
    rows = read(tmp_path / "x.csv", f"v;w\n{text};x\n;x\n", csv_options={
        "delimiter": ";", "formats": {"v": form}, "na_values": [""],
    })  # fmt: skip

    assert rows == [{"v": value, "w": "x"}, {"v": None, "w": "x"}]
    assert type(rows[0]["v"]) is type(value)


@pytest.mark.parametrize(
    ("form", "text", "reason"),
    [
        ("%d.%m.%Y", "2026-12-31", "it does not have the format '%d.%m.%Y'"),
        ("%d.%m.%Y", "", "it does not have the format"),
        ({"decimal": ",", "thousands": "."}, "1.5", "it is not a number with ',' as decimal mark and '.' between"),
        ({"decimal": ","}, "1.5", "it is not a number with ',' as decimal mark"),
        (int, "x", "invalid literal"),
    ],
)
def test_value_in_another_format_fails_alone_with_its_line(tmp_path: Path, form: Any, text: str, reason: str) -> None:
    rows = read(tmp_path / "x.csv", f"v;w\n{text};x\n", csv_options={"delimiter": ";", "formats": {"v": form}})

    assert failed(rows) == [(2, f"{text};x\n")]
    assert f"x.csv, line 2: column 'v': {reason}" in rows[0].message
    assert not text or text not in rows[0].message.replace(str(tmp_path), "") or form is int


def test_columns_for_file_and_line(tmp_path: Path) -> None:
    options = {"filename": "file", "line_number": "line", "restval": "-"}

    rows = read(tmp_path / "x.csv", 'id,v\n\n1,"a\nb"\n2\n', csv_options=options)

    path = f"file://{tmp_path}/x.csv"
    assert rows == [{"id": "1", "v": "a\nb", "file": path, "line": 3}, {"id": "2", "v": "-", "file": path, "line": 5}]


def test_dead_letter_is_read_with_the_same_options() -> None:
    item = SourceLine("file:///x.csv", 7, "1,NA,1.5\n", "csv", "utf-8", ("id", "v", "w"))
    options = {"na_values": ["NA"], "formats": {"w": {"decimal": "."}}, "line_number": "line", "skiprows": 3}

    assert list(read_rows(item, csv_options=options)) == [{"id": "1", "v": None, "w": Decimal("1.5"), "line": 7}]


def test_long_fields(tmp_path: Path) -> None:
    text = "x" * 1_000_000

    assert read(tmp_path / "x.csv", f"v\n{text}\n") == [{"v": text}]


def test_field_that_is_too_long_fails_alone_and_says_what_to_do(tmp_path: Path) -> None:
    rows = read(tmp_path / "x.csv", f"v\n1\n{'2' * 200_000}\n3\n", csv_options={"field_size_limit": 1_000})

    assert [rows[0], rows[2]] == [{"v": "1"}, {"v": "3"}]
    assert "line 3: a field of more than 131,072 characters: a quote is not closed" in rows[1].message


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"formats": {"w": "%d"}}, "line 1: formats or na_values has a column 'w', which the file does not have"),
        ({"na_values": {"w": [""]}}, "formats or na_values has a column 'w'"),
        ({"filename": "v"}, "line 1: the file has a column 'v' itself"),
    ],
)
def test_column_that_the_file_has_not_fails_the_file(tmp_path: Path, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SourceError, match=rf"x\.csv, .*{complaint}"):
        read(tmp_path / "x.csv", "v\n1\n", csv_options=options)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"skiprows": -1}, "at least 0"),
        ({"skiprows": True}, "whole numbers"),
        ({"header": 3}, "header is True or False"),
        ({"comment": "//"}, "one character"),
        ({"comment": ","}, "is the delimiter or the quote"),
        ({"comment": ";", "delimiter": ";"}, "is the delimiter or the quote"),
        ({"na_values": [None]}, "list of texts"),
        ({"formats": "%d"}, "a dict by column"),
        ({"formats": {"v": "d.m.Y"}}, "nothing like %d"),
        ({"formats": {"v": "%Q"}}, "nothing like %d|not one of strptime"),
        ({"formats": {"v": "%d %Q"}}, "not one of strptime"),
        ({"formats": {"v": {"decimal": ",", "thousands": ","}}}, "two characters"),
        ({"formats": {"v": {"digits": 2}}}, "is a text such as"),
        ({"formats": {"w": "%d"}, "fieldnames": ["v"]}, "which fieldnames does not have"),
        ({"filename": "f", "line_number": "f"}, "name the same column"),
        ({"filename": "v", "fieldnames": ["v"]}, "fieldnames has the column 'v'"),
        ({"skip_rows": 1}, "skip_rows"),
    ],
)
def test_options_are_checked_when_the_dag_is_parsed(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(PlanError, match=complaint):
        FilesToTableOperator(task_id="load", files="x.csv", sink=ListSink(), csv_options=options)


def test_options_are_plain(tmp_path: Path) -> None:
    """They stay as they were given: Airflow shows them, and process workers get them."""
    options = {"formats": {"v": "%d.%m.%Y"}, "na_values": {"v": [""]}}
    load = FilesToTableOperator(task_id="load", files=str(tmp_path), sink=ListSink(), csv_options=options)

    assert json.dumps(load.stages[0].function.keywords["csv_options"]) == json.dumps(options)


def test_failed_part_is_a_failed_part(tmp_path: Path) -> None:
    (row,) = read(tmp_path / "x.csv", "v\nx\n", csv_options={"formats": {"v": "%d"}})

    assert isinstance(row, FailedPart)
    assert row.item.columns == ("v",)
