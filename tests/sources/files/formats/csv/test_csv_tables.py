"""CSV as Arrow tables: the same values and lines as row by row, whatever the text, wherever it is cut into pieces."""

from __future__ import annotations

import io
import itertools
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_parallel_provider.engine.interfaces.failed_part import FailedPart
from airflow_parallel_provider.errors import SourceError
from airflow_parallel_provider.rows.block import enumerate_rows
from airflow_parallel_provider.rows.reject import line_of
from airflow_parallel_provider.sources.files.formats.csv.csv_options import CsvOptions
from airflow_parallel_provider.sources.files.formats.csv.csv_rows import csv_rows
from airflow_parallel_provider.sources.files.formats.csv.csv_tables import CsvTables
from airflow_parallel_provider.sources.files.formats.text_lines import TextLines
from tests.support.given import examples

Read = list[tuple[int, Any]]


def by_rows(content: bytes, options: CsvOptions, columns: Any = None, before: int = 0) -> Read:
    """Each row with its line, read row by row; an error as its text."""
    lines = TextLines.of_stream(io.BytesIO(content), "utf-8", "x.csv")
    lines.number = before
    found: Read = []
    try:
        for row in csv_rows(lines, options, delimiter=None, columns=columns, numbered=True):
            if isinstance(row, FailedPart):
                found.append((row.item.line, row.message))
            else:
                found.append((line_of(row) or 0, dict(row)))
    except SourceError as error:
        found.append((0, str(error)))
    return found


def by_tables(content: bytes, options: CsvOptions, piece: int) -> tuple[Read, bool]:
    """The same by tables as far as they go; and whether anything was left to the other reader."""
    tables = CsvTables(io.BytesIO(content), "utf-8", options, None, piece=piece)
    found: Read = [(line_of(row) or 0, dict(row)) for row, _ in enumerate_rows(list(tables))]
    if tables.rest is None:
        return found, False
    found += by_rows(tables.rest.stream.read(), options, tables.rest.columns, tables.rest.lines)
    return found, True


texts = st.text(alphabet=list('ab1,"\n\r é\0'), max_size=8)
fields = st.one_of(st.sampled_from(["", "a", "12", '"b,c"', '"d\ne"', '"f""g"', '""', '"h"i', 'j"k', " l"]), texts)
records = st.lists(st.lists(fields, min_size=1, max_size=3).map(",".join), max_size=8)


@examples(400)
@given(
    st.sampled_from(["x,y", "x,y\r", '"x",y', "x", "x,x", "x,", "", "sep=,", "\ufeffx,y", '"x\nz",y']),
    records,
    st.sampled_from(["\n", "\r\n", "\n\n"]),
    st.integers(1, 40),
)
@example("x,y", ["1,2", "3", "4,5"], "\n", 5)
@example("x,y", ['1,"a\nb"', "", "3,4", "", ""], "\n", 7)
@example("x,y", ['"a"b,"c"'], "\n", 100)
def test_values_and_lines_are_those_of_the_other_reader(head: str, rows: list[str], end: str, piece: int) -> None:
    content = end.join([head, *rows]).encode()
    for options in (
        CsvOptions.of({}),
        CsvOptions.of({"na_values": ["a", ""]}),
        CsvOptions.of({"na_values": {"y": "a"}}),
    ):
        assert by_tables(content, options, piece)[0] == by_rows(content, options)


@pytest.mark.parametrize("piece", [3, 20, 1_000])
def test_a_plain_file_is_read_as_tables_to_its_end(piece: int) -> None:
    content = b'\xef\xbb\xbfid,name\r\n1,one\r\n2,"two, ""2""\r\nlines"\r\n3,\r\n\r\n'

    found, left = by_tables(content, CsvOptions.of({}), piece)

    assert found == [
        (2, {"id": "1", "name": "one"}),
        (3, {"id": "2", "name": 'two, "2"\r\nlines'}),
        (5, {"id": "3", "name": ""}),
    ]
    assert not left


def test_what_is_not_plain_is_left_from_its_piece_on() -> None:
    good = [f"{number},x\n" for number in range(2, 100)]
    content = "".join(["id,v\n", *good, "bad\n", *good]).encode()

    tables = CsvTables(io.BytesIO(content), "utf-8", CsvOptions.of({}), None, piece=100)
    rows = sum(table.num_rows for table in tables)

    assert tables.rest is not None
    assert (rows, tables.rest.lines) == (rows, rows + 1)
    assert 50 < rows < 99
    assert by_tables(content, CsvOptions.of({}), 100)[0] == by_rows(content, CsvOptions.of({}))


@pytest.mark.parametrize(
    "options",
    [
        {"strict": False},
        {"quotechar": "'"},
        {"skiprows": 1},
        {"header": False},
        {"fieldnames": ["a", "b"]},
        {"comment": "#"},
        {"formats": {"y": "%d.%m.%Y"}},
        {"line_number": "line"},
        {"filename": "file"},
        {"restkey": "more"},
        {"restval": ""},
        {"field_size_limit": 3},
        {"na_values": {"z": ["a"]}},
        {"skipinitialspace": True},
    ],
)
def test_options_that_arrow_does_not_have_are_left_to_the_other_reader(options: dict[str, Any]) -> None:
    content = b"x,y\n1,31.12.2026\n2,abcdef\n"

    found, left = by_tables(content, CsvOptions.of(options), 100)

    assert left
    assert found == by_rows(content, CsvOptions.of(options))


def test_another_delimiter() -> None:
    content = b'x;y\n"1;2";"a,b"\n3;4\n'

    assert by_tables(content, CsvOptions.of({"delimiter": ";"}), 100) == (
        [(2, {"x": "1;2", "y": "a,b"}), (3, {"x": "3", "y": "4"})],
        False,
    )


def test_other_encodings_are_left_to_the_other_reader() -> None:
    tables = CsvTables(io.BytesIO("x,y\né,1\n".encode("latin-1")), "latin-1", CsvOptions.of({}), None)

    assert list(tables) == []
    assert tables.rest is not None
    assert tables.rest.stream.read() == "x,y\né,1\n".encode("latin-1")


def test_pieces_are_read_when_they_are_asked_for() -> None:
    """A file of many gigabytes is not in memory at once."""
    read = itertools.count()

    class Counted(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            next(read)
            return super().read(size)

    tables = iter(CsvTables(Counted(b"x,y\n" + b"1,2\n" * 1_000), "utf-8", CsvOptions.of({}), None, piece=400))
    next(tables)

    assert next(read) <= 2
