"""Rows of Excel workbooks, by sheet."""

from __future__ import annotations

import zipfile
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from airflow_parallel_provider import FilesSource, FilesToTableOperator, ListSink, PlanError
from airflow_parallel_provider.engine.interfaces.failed_part import FailedPart
from airflow_parallel_provider.errors import SourceError
from airflow_parallel_provider.sources.files.formats.row_readers import read_rows
from airflow_parallel_provider.values import typed_json

pytestmark = pytest.mark.airflow


def read(path: Path, **options: Any) -> list[Any]:
    (file,) = FilesSource(path).files
    return list(read_rows(file, **options))


def book(path: Path, *rows: Any, title: str = "Sheet", formats: dict[str, str] | None = None, **more: Any) -> Path:
    """A workbook with a sheet of these rows, and one with those of each other name."""
    made = openpyxl.Workbook()
    sheet = made.active
    assert sheet is not None
    sheet.title = title
    for row in rows:
        sheet.append(row)
    for cell, form in (formats or {}).items():
        sheet[cell].number_format = form
    for name, content in more.items():
        other = made.create_sheet(name)
        for row in content:
            other.append(row)
    made.save(path)
    return path


def edited(path: Path, old: str, new: str, part: str = "xl/worksheets/sheet1.xml") -> Path:
    """The same with another text in one of its parts, as other programs write it."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    assert old.encode() in parts[part], parts[part]
    parts[part] = parts[part].replace(old.encode(), new.encode())
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def test_values_are_those_of_the_cells(tmp_path: Path) -> None:
    values = (
        "text",
        12345678901234,
        0.1,
        True,
        date(2026, 11, 1),
        datetime.fromisoformat("2026-11-01T06:30"),
        time(6, 30),
        None,
    )
    path = book(tmp_path / "a.xlsx", list("abcdefgh"), values, formats={"E2": "dd.mm.yyyy"})

    (row,) = read(path)

    assert list(row.values()) == list(values)
    assert [type(value) for value in row.values()] == [type(value) for value in values]


def test_hours_beyond_a_day_and_a_day_with_a_time(tmp_path: Path) -> None:
    formats = {"A2": "[h]:mm", "B2": "dd.mm.yyyy", "C2": "yyyy-mm-dd hh:mm"}
    moment = datetime.fromisoformat("2026-11-01T06:00")
    path = book(
        tmp_path / "a.xlsx",
        ["a", "b", "c"],
        [timedelta(hours=30), moment, datetime.fromisoformat("2026-11-01")],
        formats=formats,
    )

    (row,) = read(path)

    assert row == {"a": timedelta(hours=30), "b": moment, "c": datetime.fromisoformat("2026-11-01")}


def test_days_since_1904(tmp_path: Path) -> None:
    from openpyxl.utils.datetime import CALENDAR_MAC_1904

    made = openpyxl.Workbook()
    made.epoch = CALENDAR_MAC_1904
    sheet = made.active
    assert sheet is not None
    sheet.append(["day"])
    sheet.append([date(2026, 11, 1)])
    made.save(tmp_path / "a.xlsx")

    assert read(tmp_path / "a.xlsx") == [{"day": date(2026, 11, 1)}]


def test_empty_rows_and_cells(tmp_path: Path) -> None:
    path = book(tmp_path / "a.xlsx", [], ["a", "b", "c"], [1], [], [None, 2], ["x", None, None, None])

    assert read(path) == [
        {"a": 1, "b": None, "c": None},
        {"a": None, "b": 2, "c": None},
        {"a": "x", "b": None, "c": None},
    ]


def test_the_header_that_is_chosen(tmp_path: Path) -> None:
    path = book(tmp_path / "a.xlsx", ["Report"], [None, "x"], ["id", 2025], [1, 2])

    assert read(path, excel_options={"skiprows": 2, "line_number": "row"}) == [{"id": 1, "2025": 2, "row": 4}]
    assert read(path, excel_options={"skiprows": 3, "header": False}) == [{"column0": 1, "column1": 2}]
    options = {"skiprows": 2, "header": True, "fieldnames": ["a", "b"], "filename": "file"}
    assert read(path, excel_options=options) == [{"a": 1, "b": 2, "file": f"file://{path}"}]


def test_formats_and_nulls_of_texts(tmp_path: Path) -> None:
    path = book(tmp_path / "a.xlsx", ["day", "note"], ["31.12.2026", "NA"], [date(2026, 1, 1), "x"])
    options = {"formats": {"day": "%d.%m.%Y"}, "na_values": {"note": ["NA"]}}

    rows = read(path, excel_options=options)

    assert rows == [{"day": date(2026, 12, 31), "note": None}, {"day": date(2026, 1, 1), "note": "x"}]


def test_a_sheet_by_name_or_number(tmp_path: Path) -> None:
    path = book(tmp_path / "a.xlsx", ["id"], [1], title="first", second=[["id"], [2]])

    assert read(path, excel_options={"sheet_name": "second"}) == [{"id": 2}]
    assert read(path, excel_options={"sheet_name": 0}) == [{"id": 1}]
    with pytest.raises(SourceError, match=r"a\.xlsx: it has the sheets 'first', 'second': say which, excel_options="):
        read(path)
    for wrong in ("third", 2):
        with pytest.raises(SourceError, match=r"there is no sheet .*there are 'first', 'second'"):
            read(path, excel_options={"sheet_name": wrong})


def test_a_hidden_sheet_is_not_asked_about(tmp_path: Path) -> None:
    made = openpyxl.load_workbook(book(tmp_path / "a.xlsx", ["id"], [1], lookup=[["x"]]))
    made["lookup"].sheet_state = "hidden"
    made.save(tmp_path / "a.xlsx")

    assert read(tmp_path / "a.xlsx") == [{"id": 1}]


def test_a_size_that_is_wrong_hides_no_cell(tmp_path: Path) -> None:
    path = book(tmp_path / "a.xlsx", ["id", "name"], [1, "x"], [2, "y"])
    edited(path, '<dimension ref="A1:B3"', '<dimension ref="A1"')

    assert read(path) == [{"id": 1, "name": "x"}, {"id": 2, "name": "y"}]


def test_formulas_have_the_value_that_was_calculated(tmp_path: Path) -> None:
    path = book(tmp_path / "a.xlsx", ["a", "b"], [1, "=A2+1"], [2, "=A3+1"], [3, '=""'])
    edited(path, "<f>A2+1</f><v></v>", "<f>A2+1</f><v>2</v>")
    edited(path, '<c r="B4"><f>""</f><v></v></c>', '<c r="B4" t="str"><f>""</f><v></v></c>')

    first, second, third = read(path)

    assert (first, third) == ({"a": 1, "b": 2}, {"a": 3, "b": ""})
    assert isinstance(second, FailedPart)
    assert "a.xlsx, sheet 'Sheet', row 3: column 'b': a formula that no program has calculated" in second.message


def test_errors_fail_their_row_alone(tmp_path: Path) -> None:
    path = book(tmp_path / "a.xlsx", ["a", "b"], [1, "#N/A"], [2, 3], [date(2026, 11, 1), "#DIV/0!"])

    first, second, third = read(path)

    assert second == {"a": 2, "b": 3}
    assert isinstance(first, FailedPart)
    assert isinstance(third, FailedPart)
    assert first.message == f"file://{path}, sheet 'Sheet', row 2: column 'b': #N/A"
    assert read(path, excel_options={"na_values": ["#N/A", "#DIV/0!"]})[0] == {"a": 1, "b": None}


def test_a_row_is_replayed_with_its_values(tmp_path: Path) -> None:
    moment = datetime.fromisoformat("2026-11-01T06:30")
    path = book(tmp_path / "a.xlsx", ["a", "b", "c"], [moment, "#N/A", "x"])
    (failed,) = read(path)
    item = typed_json.loads(typed_json.dumps(failed.item, 1 << 20)[0])

    assert list(read_rows(item, excel_options={"na_values": ["#N/A"]})) == [{"a": moment, "b": None, "c": "x"}]
    (again,) = read_rows(item)
    assert again.message == failed.message


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([["id", "id"], [1, 2]], "row 1: two columns have the name 'id'"),
        ([["id", None, "x"], [1, 2, 3]], "row 2: a value in column 2, which has no name"),
        ([["id", "#REF!"], [1, 2]], "row 1: the header has #REF!"),
        ([["line"], [1]], "the sheet has a column 'line' itself"),
    ],
)
def test_what_would_lose_values(tmp_path: Path, rows: Any, complaint: str) -> None:
    with pytest.raises(SourceError, match=rf"a\.xlsx, sheet 'Sheet'.*{complaint}"):
        read(book(tmp_path / "a.xlsx", *rows), excel_options={"line_number": "line"})


def test_cells_beyond_the_header(tmp_path: Path) -> None:
    (failed,) = read(book(tmp_path / "a.xlsx", ["id"], [1, 2]))

    assert failed.message.endswith("row 2: 2 cells, but there are 1 columns")


def test_what_is_no_workbook(tmp_path: Path) -> None:
    whole = book(tmp_path / "whole.xlsx", ["id"], *[[number] for number in range(2000)]).read_bytes()
    for content in (b"", b"id\n1\n", b"\xd0\xcf\x11\xe0" + bytes(600), whole[:-40], whole[: len(whole) // 2]):
        (tmp_path / "a.xlsx").write_bytes(content)
        with pytest.raises(SourceError, match=r"a\.xlsx: it is no \.xlsx file, or is cut off or encrypted"):
            read(tmp_path / "a.xlsx")
    with pytest.raises(SourceError, match="a file of excel cannot be read from within a packed one"):
        read(whole and (tmp_path / "whole.xlsx").rename(tmp_path / "a.xlsx.gz"))


def test_a_damaged_sheet(tmp_path: Path) -> None:
    path = book(tmp_path / "a.xlsx", ["id"], [1], [2])
    edited(path, "</row><row", "<row")

    with pytest.raises(SourceError, match=r"a\.xlsx"):
        read(path)


def test_the_library_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    path = book(tmp_path / "a.xlsx", ["id"])
    monkeypatch.setitem(sys.modules, "openpyxl", None)

    with pytest.raises(SourceError, match=r"a\.xlsx: to read Excel needs openpyxl: pip install 'airflow-.*\[excel\]'"):
        read(path)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"format": "csv", "excel_options": {"sheet_name": "x"}}, r"excel_options=.*format='csv' has no such option"),
        ({"excel_options": {"sheet": "x"}}, r"excel_options=.*there is no option 'sheet'"),
        ({"excel_options": {"sheet_name": True}}, r"sheet_name is the name of a sheet, or its number"),
        ({"format": "excel", "columns": ["a"]}, r"columns=.*format='excel' has no such option"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(PlanError, match=complaint):
        FilesToTableOperator(task_id="load", files="/in/*", sink=ListSink(), **options)
