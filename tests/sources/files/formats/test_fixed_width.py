"""Rows of texts in which each column has its place in the line."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from airflow_parallel_provider import FilesToTableOperator, ListSink, Pipeline, PlanError
from airflow_parallel_provider.engine.interfaces.failed_part import FailedPart
from airflow_parallel_provider.sources.files.formats.row_readers import read_rows
from tests.sources.files.formats.test_row_readers import failed, read

pytestmark = pytest.mark.airflow

WIDTHS = {"id": 4, "name": 6}


def rows_of(path: Path, content: str | bytes, columns: Any = WIDTHS, **options: Any) -> list[Any]:
    given = {name: options.pop(name) for name in ("encoding", "compression") if name in options}
    return read(path, content, format="fixed_width", fixed_width={"columns": columns, **options}, **given)


def test_widths(tmp_path: Path) -> None:
    found = rows_of(tmp_path / "x.txt", "   1Ann   \r\n\n0002B b   \n")

    assert found == [{"id": "1", "name": "Ann"}, {"id": "0002", "name": "B b"}]
    assert rows_of(tmp_path / "x.txt", "   1Ann   ", strip=False) == [{"id": "   1", "name": "Ann   "}]


def test_places(tmp_path: Path) -> None:
    """They may leave something out, and overlap."""
    columns = {"name": (4, 10), "key": [0, 10]}

    assert rows_of(tmp_path / "x.txt", "   1Ann    and more\n", columns) == [{"name": "Ann", "key": "1Ann"}]


def test_options_that_csv_has_too(tmp_path: Path) -> None:
    text = "HEAD\n# none\n0001311226   1,5\n0002NA       1.5\n"
    found = rows_of(
        tmp_path / "x.txt",
        text,
        {"id": 4, "day": 6, "price": 6},
        skiprows=1,
        comment="#",
        na_values={"day": ["NA"]},
        formats={"day": "%d%m%y", "price": {"decimal": ","}},
        filename="file",
        line_number="line",
    )

    where = {"file": f"file://{tmp_path}/x.txt", "line": 3}
    assert found[0] == {"id": "0001", "day": date(2026, 12, 31), "price": Decimal("1.5"), **where}
    assert failed(found) == [(4, "0002NA       1.5\n")]
    assert "x.txt, line 4: column 'price': it is not a number" in found[1].message


def test_encodings(tmp_path: Path) -> None:
    for encoding in ("cp037", "utf-16-le", "utf-8"):
        assert rows_of(tmp_path / "x.txt", "   1Änn   \n".encode(encoding), encoding=encoding) == [
            {"id": "1", "name": "Änn"}
        ]
    (row,) = rows_of(tmp_path / "x.txt", b"   1\xc4nn   \n")
    assert "byte 0xc4 at character 5 is not utf-8" in row.message


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("   1Ann\n", "7 characters, but the columns go to 10: pad=True reads short lines"),
        ("   1Ann    x\n", "12 characters, but the columns end at 10"),
    ],
)
def test_a_line_of_another_length_fails_alone_and_is_replayed(tmp_path: Path, line: str, reason: str) -> None:
    first, second = rows_of(tmp_path / "x.txt", f"   0Bo    \n{line}")

    assert first == {"id": "0", "name": "Bo"}
    assert isinstance(second, FailedPart)
    assert second.message == f"file://{tmp_path}/x.txt, line 2: {reason}"
    wider = {"columns": {"id": (0, 4), "name": (4, 10)}, "pad": True, "skiprows": 5}
    assert list(read_rows(second.item, format="fixed_width", fixed_width=wider)) == [{"id": "1", "name": "Ann"}]


def test_by_the_operator(tmp_path: Path) -> None:
    (tmp_path / "x.dat").write_text("   1Ann   \n")
    load = FilesToTableOperator(
        task_id="load",
        files=str(tmp_path / "*.dat"),
        sink=(sink := ListSink()),
        format="fixed_width",
        fixed_width={"columns": WIDTHS},
    )
    Pipeline(load.source, load.stages, sink).run()

    assert sink.rows == [{"id": "1", "name": "Ann"}]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"format": "fixed_width"}, r"fixed_width=None: say where the columns are"),
        ({"fixed_width": {"columns": WIDTHS}}, r"fixed_width=.*give format='fixed_width'"),
        ({"format": "fixed_width", "fixed_width": {}}, "columns is a dict of widths"),
        ({"format": "fixed_width", "fixed_width": {"columns": {"a": 0}}}, "the width of 'a'"),
        ({"format": "fixed_width", "fixed_width": {"columns": {"a": (4, 2)}}}, "the width of 'a'"),
        ({"format": "fixed_width", "fixed_width": {"columns": {"a": 1, "b": (4, 5)}}}, "one of them for all"),
        ({"format": "fixed_width", "fixed_width": {"columns": WIDTHS, "delimiter": ";"}}, "no option 'delimiter'"),
        ({"format": "fixed_width", "fixed_width": {"columns": WIDTHS, "formats": {"x": "%d"}}}, "has a column 'x'"),
        ({"format": "fixed_width", "fixed_width": {"columns": WIDTHS, "pad": 1}}, "pad is True or False"),
        ({"format": "fixed_width", "fixed_width": {"columns": WIDTHS, "filename": "id"}}, "fieldnames has the column"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(PlanError, match=complaint):
        FilesToTableOperator(task_id="load", files="/in/*", sink=ListSink(), **options)
