"""The rows of files: which lines fail alone, what fails the file, and that every error names file and line."""

from __future__ import annotations

import csv
import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_parallel_provider import FilesSource
from airflow_parallel_provider.engine.interfaces.failed_part import FailedPart
from airflow_parallel_provider.errors import SourceError
from airflow_parallel_provider.sources.files.formats.row_readers import read_rows
from airflow_parallel_provider.values.items import SourceLine
from airflow_parallel_provider.values.typed_json import dumps, loads
from tests.support.given import quick

pytestmark = pytest.mark.airflow


def read(path: Path, content: str | bytes, **options: Any) -> list[Any]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    (file,) = FilesSource(path).files
    return list(read_rows(file, **options))


def failed(rows: list[Any]) -> list[tuple[int, str]]:
    """Line and text of what failed alone."""
    return [(row.item.line, row.item.text) for row in rows if isinstance(row, FailedPart)]


# -- CSV --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("2\n", "1 field, but there are 2 columns"),
        ("2,b,c\n", "3 fields, but there are 2 columns"),
        ('2,"b"x\n', "',' expected after"),
        ('2,"b\nb"x\n', "',' expected after"),
    ],
)
def test_line_that_cannot_be_read_fails_alone(tmp_path: Path, bad: str, reason: str) -> None:
    rows = read(tmp_path / "x.csv", f"id,v\n1,a\n{bad}3,c\n")

    assert [row for row in rows if isinstance(row, dict)] == [{"id": "1", "v": "a"}, {"id": "3", "v": "c"}]
    assert failed(rows) == [(3, bad)]
    assert rows[1].message.startswith(f"file://{tmp_path}/x.csv, line 3: {reason}")


def test_quote_without_an_end_takes_no_line_away(tmp_path: Path) -> None:
    """The lines behind it are in the text of what failed."""
    rows = read(tmp_path / "x.csv", 'id,v\n1,a\n2,"b\n3,c\n4,d\n')

    assert failed(rows) == [(3, '2,"b\n3,c\n4,d\n')]
    assert "unexpected end of data" in rows[-1].message


def test_bytes_that_cannot_be_decoded_fail_their_line(tmp_path: Path) -> None:
    rows = read(tmp_path / "x.csv", "id,v\n1,a\n2,Zoë\n3,c\n".encode("cp1252"))

    assert [row["id"] for row in rows if isinstance(row, dict)] == ["1", "3"]
    assert rows[1].message.endswith(
        "line 3: byte 0xeb at character 5 is not utf-8: name the encoding of the file, e.g. encoding='cp1252'"
    )


@pytest.mark.parametrize(
    ("head", "complaint"),
    [
        ("id,v,id", "line 1: two columns have the name 'id': rename one"),
        ('"id', "line 2: unexpected end of data"),
        ("id,Zoë", "line 1: byte 0xeb at character 6 is not utf-8"),
    ],
)
def test_header_that_cannot_be_read_fails_the_file(tmp_path: Path, head: str, complaint: str) -> None:
    with pytest.raises(SourceError, match=f"x.csv, {complaint}"):
        read(tmp_path / "x.csv", f"{head}\n1,2,3\n".encode("cp1252"))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("id,,\n1,,\n2,first,second\n", "line 3: there is a value in column 2, which has no name"),
        (",id\n0,1\n", "line 2: there is a value in column 1, which has no name"),
        ("id, ,v\n0,1,2\n", "line 2: there is a value in column 2, which has no name"),
    ],
)
def test_value_without_a_name_is_refused(tmp_path: Path, content: str, complaint: str) -> None:
    with pytest.raises(SourceError, match=rf"x\.csv, {complaint}.*fieldnames"):
        read(tmp_path / "x.csv", content)


def test_empty_columns_without_a_name_are_left_out(tmp_path: Path) -> None:
    assert read(tmp_path / "x.csv", "id,v,,\n1,a,,\n2,b,,\n") == [{"id": "1", "v": "a"}, {"id": "2", "v": "b"}]


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "SEP=;", "sep=; "])
def test_line_that_tells_excel_the_separator(tmp_path: Path, first: str) -> None:
    rows = read(tmp_path / "x.csv", f"\ufeff{first}\r\nid;v\r\n1;a,b\r\n2\r\n")

    assert rows[0] == {"id": "1", "v": "a,b"}
    assert failed(rows) == [(4, "2\r\n")]
    assert read(tmp_path / "y.csv", f"{first}\nid|v\n1|a\n", csv_options={"delimiter": "|"}) == [{"id": "1", "v": "a"}]


def test_blank_line_is_a_row_of_a_file_of_one_column(tmp_path: Path) -> None:
    """As DuckDB reads it; with more columns it is nothing."""
    assert read(tmp_path / "x.csv", "name\nann\n\nbob\n\n") == [{"name": name} for name in ("ann", "", "bob", "")]
    assert read(tmp_path / "y.csv", "\n\nid,v\n\n1,a\n\n") == [{"id": "1", "v": "a"}]


def test_rows_of_other_lengths_where_the_author_allows_them(tmp_path: Path) -> None:
    rows = read(tmp_path / "x.csv", "a,b\n1\n1,2,3\n", csv_options={"restval": "-", "restkey": "more"})

    assert rows == [{"a": "1", "b": "-"}, {"a": "1", "b": "2", "more": ["3"]}]


@quick
@given(rows=st.lists(st.fixed_dictionaries({"a": st.text("a,;\"'\n\r \t"), "b": st.text('x\n\r"')}), max_size=6))
def test_what_python_writes_is_read(rows: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["a", "b"], quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(rows)

    assert read(path, path.read_bytes()) == rows


# -- JSON -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ('{"id":', "Expecting value"),
        ('{"id": 1, "id": 2}', "the key 'id' twice"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_json_line_that_cannot_be_read_fails_alone(tmp_path: Path, bad: str, reason: str) -> None:
    rows = read(tmp_path / "x.jsonl", f'{{"id": 1}}\n\n{bad}\n{{"id": 3}}')

    assert rows[::2] == [{"id": 1}, {"id": 3}]
    assert failed(rows) == [(3, f"{bad}\n")]
    assert rows[1].message.startswith(f"file://{tmp_path}/x.jsonl, line 3: ")
    assert reason in rows[1].message


@pytest.mark.parametrize("content", ['[{"id": 1}, {"id"', '{"id": 1, "id": 2}', "[" * 100_000, b'{"a": "\xff"}'])
def test_json_that_cannot_be_read_names_the_file(tmp_path: Path, content: Any) -> None:
    with pytest.raises(SourceError, match=r"/x\.json: \w+: "):
        read(tmp_path / "x.json", content)


def test_numbers_are_exact(tmp_path: Path) -> None:
    text = '{"a": 12345678901234567.89, "b": [0.1234567890123456789], "c": 1.5}'

    for row in (*read(tmp_path / "x.jsonl", text), *read(tmp_path / "x.json", text)):
        assert (str(row["a"]), str(row["b"][0]), row["c"]) == ("12345678901234567.89", "0.1234567890123456789", 1.5)


def test_record_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    document = b'[1, {"a": "' + b" " * (4 << 20) + b'"}]'

    with pytest.raises(SourceError, match=r"x\.json\.gz: a record of more than largest_text=1,048,576 bytes"):
        read(tmp_path / "x.json.gz", gzip.compress(document), largest_text=1 << 20)
    with pytest.raises(SourceError, match=r"x\.zip!a\.json: .* more than largest_text=1,048,576 bytes"):
        read(tmp_path / "x.zip", zipped(tmp_path / "x.zip", **{"a.json": document.decode()}), largest_text=1 << 20)
    assert len(read(tmp_path / "x.json.gz", gzip.compress(document), largest_text=5 << 20)) == 2
    assert len(read(tmp_path / "x.json", document, largest_text=1 << 20)) == 2  # its size is in the listing
    assert read(tmp_path / "y.json.gz", gzip.compress(b"[" + b" " * (4 << 20) + b"]"), largest_text=1 << 20) == []


@pytest.mark.parametrize("name", ["x.jsonl.gz", "x.csv.gz"])
def test_line_that_unpacks_to_too_much_is_refused(tmp_path: Path, name: str) -> None:
    content = gzip.compress(b'"a"\n"b"\n' + b" " * (4 << 20))

    with pytest.raises(SourceError, match=rf"{name}: a line of more than largest_text=1,048,576 bytes"):
        read(tmp_path / name, content, largest_text=1 << 20)


# -- archives and encodings -------------------------------------------------------------------------------------------


def zipped(path: Path, **members: str) -> bytes:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path.read_bytes()


def test_all_members_and_their_names_in_errors(tmp_path: Path) -> None:
    content = zipped(tmp_path / "m.zip", **{"b.csv": "id,v\n2\n", "a.csv": "id,v\n1,a\n", "__MACOSX/._a.csv": "\0"})

    rows = read(tmp_path / "x.zip", content)

    assert rows[0] == {"id": "1", "v": "a"}
    assert rows[1].message.startswith(f"file://{tmp_path}/x.zip!b.csv, line 2: ")


def test_members_may_be_of_another_kind_than_the_archive(tmp_path: Path) -> None:
    content = zipped(tmp_path / "m.zip", **{"README": "hello", "a.jsonl": '{"id": 1}', "b.json": '[{"id": 2}]'})

    assert read(tmp_path / "x.zip", content, members="*.json*") == [{"id": 1}, {"id": 2}]
    with pytest.raises(SourceError, match=r"x\.zip: the archive has files of several kinds"):
        read(tmp_path / "x.zip", content)


@pytest.mark.parametrize("name", ["x.csv.gz", "x.jsonl.gz", "x.json.gz"])
def test_file_that_is_cut_off_gives_no_row(tmp_path: Path, name: str) -> None:
    content = "".join(f'{{"id": {number}}}\n' for number in range(50_000)).encode()
    packed = gzip.compress(content if ".json." not in name else b"[1]" + b" " * 50_000)

    with pytest.raises(SourceError, match=rf"{name}: the file is cut off"):
        read(tmp_path / name, packed[: len(packed) // 2])


def test_packed_parquet_is_refused(tmp_path: Path) -> None:
    for name in ("x.parquet.gz", "y.zip"):
        content = gzip.compress(b"PAR1") if name.endswith("gz") else zipped(tmp_path / "m.zip", **{"a.parquet": "PAR1"})
        with pytest.raises(SourceError, match="cannot be read from within a packed one: unpack it first"):
            read(tmp_path / name, content)


@pytest.mark.parametrize("encoding", ["utf-8", "UTF8", "U8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "utf-32-be"])
@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl"])
def test_byte_order_mark_is_skipped(tmp_path: Path, encoding: str, suffix: str) -> None:
    text = "id,name\n1,é\n" if suffix == "csv" else '{"id": "1", "name": "é"}'
    mark = "" if encoding in ("utf-16", "utf-32", "utf-8-sig") else "\ufeff"  # which write one

    assert read(tmp_path / f"x.{suffix}", (mark + text).encode(encoding), encoding=encoding) == [
        {"id": "1", "name": "é"}
    ]


def test_file_of_a_wide_encoding_that_is_none_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"x\.csv: UnicodeError"):
        read(tmp_path / "x.csv", "id,name\n1,é\n", encoding="utf-16")


# -- the item of a dead letter ----------------------------------------------------------------------------------------


def test_line_is_kept_in_a_dead_letter(tmp_path: Path) -> None:
    (part,) = read(tmp_path / "x.csv", b"id;v\n1;\xff;x\n", csv_options={"delimiter": ";"})

    text, exact = dumps(part.item, 10_000)

    assert exact
    assert json.loads(text)["$type"] == "SourceLine"
    found = loads(text)
    assert (found.line, found.text, tuple(found.columns)) == (2, "1;\udcff;x\n", ("id", "v"))


@pytest.mark.parametrize(
    ("name", "content", "options", "mended", "rows"),
    [
        ("x.csv", "id,v\n1\n", {}, {"csv_options": {"restval": ""}}, [{"id": "1", "v": ""}]),
        ("x.csv", "sep=;\nid;v\n1;\n2\n3;c\n", {}, {"csv_options": {"restval": ""}}, [{"id": "2", "v": ""}]),
        ("x.tsv", "id\tv\n1\n", {}, {"csv_options": {"restval": ""}}, [{"id": "1", "v": ""}]),
        ("x.csv", b"id,v\n1,\xeb\n", {}, {"encoding": "cp1252"}, [{"id": "1", "v": "ë"}]),
        ("x.jsonl", b'{"v": "\xeb"}\n', {}, {"encoding": "cp1252"}, [{"v": "ë"}]),
        ("x.csv", 'id,v\n1,"a\n2,b\n', {}, {"csv_options": {"quotechar": None, "quoting": csv.QUOTE_NONE}},
         [{"id": "1", "v": '"a'}, {"id": "2", "v": "b"}]),
    ],
)  # fmt: skip
def test_line_is_read_again_with_what_was_mended(
    tmp_path: Path, name: str, content: Any, options: Any, mended: Any, rows: list[Any]
) -> None:
    parts = [row for row in read(tmp_path / name, content, **options) if isinstance(row, FailedPart)]
    (item,) = [loads(dumps(part.item, 10_000)[0]) for part in parts]

    assert list(read_rows(item, **mended)) == rows
    (again,) = read_rows(item)
    assert again.item.line == item.line
    assert again.message == parts[0].message


@pytest.mark.parametrize("name", ["old.tsv.d/x.csv", "x.tsv.csv"])
def test_only_the_suffix_of_a_file_says_that_tabs_separate(tmp_path: Path, name: str) -> None:
    """A folder with ``.tsv`` in its name made one column of all."""
    (tmp_path / name).parent.mkdir(exist_ok=True)

    assert read(tmp_path / name, "id,v\n1,a\n") == [{"id": "1", "v": "a"}]


def test_text_of_a_line_may_be_mended() -> None:
    item = SourceLine("file:///x.csv", 7, "1,a\n2,b\n3\n", "csv", "utf-8", ("id", "v"))

    rows = list(read_rows(item))

    assert rows[:2] == [{"id": "1", "v": "a"}, {"id": "2", "v": "b"}]
    assert rows[2].message.startswith("file:///x.csv, line 9: 1 field")
