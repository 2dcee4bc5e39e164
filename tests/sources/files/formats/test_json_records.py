"""Documents of JSON, record by record: the same values and refusals as those of a document that is read as a whole."""

from __future__ import annotations

import gzip
import io
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_parallel_provider import FilesSource, ListSink, Pipeline, PlanError, RunFailed, Stage
from airflow_parallel_provider.errors import SourceError
from airflow_parallel_provider.sources.files.formats import json_records
from airflow_parallel_provider.sources.files.formats.row_shapes import records_in
from airflow_parallel_provider.values import json_text
from tests.support.given import quick

MOST = 1 << 20


class Drops:
    """A stream that gives one piece after the other, whatever is asked for."""

    def __init__(self, content: bytes, size: int) -> None:
        self._pieces = iter([content[at : at + size] for at in range(0, len(content), size)])

    def read(self, _size: int) -> bytes:
        return next(self._pieces, b"")


def found(content: bytes, place: str | None = None, *, encoding: str = "utf-8", size: int = 7) -> list[Any]:
    return list(json_records.json_records(Drops(content, size), encoding, place, MOST))  # type: ignore[arg-type]


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.decimals(-1e9, 1e9).map(str),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@quick
@given(records=st.lists(VALUES, max_size=5), size=st.integers(1, 40), indent=st.sampled_from([None, 0, 3]))
def test_values_are_those_of_the_whole_document(records: list[Any], size: int, indent: int | None) -> None:
    document = {"n": [1, [2, {}]], "data": {"x": None, "items": records, "more": [{"items": 5}]}, "end": 1}
    for value, place in ((records, None), (document, "data.items"), (document, "data"), (document, None)):
        text = json.dumps(value, indent=indent, ensure_ascii=False).encode("utf-8", "replace")
        expected = records_in(json_text.loads(text.decode()), place)

        assert repr(found(text, place, size=size)) == repr(expected)


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_numbers_are_exact_wherever_a_piece_ends(size: int) -> None:
    numbers = [
        "12345678901234567.89",
        "1.10",
        "-0.0",
        "1e5",
        "0.1234567890123456789",
        "123456789012345678901234567890",
        "-7",
    ]
    text = f"[{', '.join(numbers)}]"

    values = found(text.encode(), size=size)

    assert repr(values) == repr(json_text.loads(text))
    assert [str(value) for value in values][:1] == ["12345678901234567.89"]
    assert [type(value) for value in values] == [type(value) for value in json_text.loads(text)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252"])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_text_of_any_encoding(encoding: str, size: int) -> None:
    text = '[{"name": "zwölf"}, "é"]'
    assert found(text.encode(encoding), encoding=encoding, size=size) == [{"name": "zwölf"}, "é"]
    if encoding.endswith(("8", "le")):
        assert found(f"\ufeff{text}".encode(encoding), encoding=encoding, size=size) == [{"name": "zwölf"}, "é"]


@pytest.mark.parametrize(
    ("text", "place", "read", "reason"),
    [
        ('[{"id": 1},\n {"id": }]', None, 1, r"Expecting value: line 2 column 9 \(char 20\)"),
        ('[{"id": 1},\n {"id": 2}', None, 2, r"Expecting ',' delimiter: line 2 column 11 \(char 22\)"),
        ('[{"id": 1} {"id": 2}]', None, 1, r"Expecting ',' delimiter: line 1 column 12 \(char 11\)"),
        ("[1, 2] 3", None, 2, r"Extra data: line 1 column 8 \(char 7\)"),
        ("", None, 0, r"Expecting value: line 1 column 1 \(char 0\)"),
        ("[1, ]", None, 1, r"Expecting value: line 1 column 5 \(char 4\)"),
        ('["a", "b', None, 1, r"Unterminated string starting at: line 1 column 7 \(char 6\)"),
        ("[1, nul", None, 1, r"Expecting value: line 1 column 5 \(char 4\)"),
        ('[{"a": 1}, {"b": {"x": 1, "x": 2}}]', None, 1, r"at \[1\]\.b: an object has the key 'x' twice"),
        ('{"a": {"b": [1, {"c": 1e99999999999999999999}]}}', "a.b", 1, r"at a\.b\[1\]\.c: a number has an exponent"),
        ('{"a": [1], "a": [2]}', "a", 1, "an object has the key 'a' twice"),
        ('{"a": [1], "b": [{"c": 1, "c": 2}]}', "a", 1, r"at b\[0\]: an object has the key 'c' twice"),
        ('{"a": [1], "b"', "a", 1, "Expecting ':' delimiter"),
        ('{"a": [1], 5: 1}', "a", 1, "Expecting property name enclosed in double quotes"),
        ('{"x": 1, "y": 2}', "a", 0, "nothing at records='a': no 'a', which has 'x', 'y'"),
        ('{"x": {"y": []}}', "x.y.z", 0, "no 'z' at 'x.y', which has list"),
        ('{"x": "y"}', "x.z", 0, "no 'z' at 'x', which has str"),
        ("{}", "x", 0, "no 'x', which has nothing"),
        ('{"a": [1, ' + "[" * 100_000, "a", 1, "nested too deeply"),
    ],
)
@pytest.mark.parametrize("size", [1, 1_000_000])
def test_what_is_wrong_is_named_with_its_place(text: str, place: str | None, read: int, reason: str, size: int) -> None:
    records: list[Any] = []
    with pytest.raises(ValueError, match=reason):
        for record in json_records.json_records(Drops(text.encode(), size), "utf-8", place, MOST):  # type: ignore[arg-type]
            records.append(record)
    assert len(records) == read


@pytest.mark.parametrize("size", [1, 5, 100])
def test_byte_of_another_encoding_is_named_with_its_place(size: int) -> None:
    with pytest.raises(ValueError, match=r"byte 0xff at 8 is not utf-8: .*encoding='cp1252'"):
        found('[1, "é"'.encode() + b"\xff]", size=size)


def test_record_that_is_too_large_is_refused() -> None:
    with pytest.raises(SourceError, match="a record of more than largest_text=1,048,576 bytes"):
        found(b'[1, "' + b"x" * (4 << 20), size=1 << 20)


class Endless(io.RawIOBase):
    """A list of records that is made while it is read."""

    def __init__(self, records: int) -> None:
        self._records = records
        self._given = 0

    def read(self, _size: int = -1) -> bytes:
        if self._given == self._records:
            self._given += 1
            return b"]}}"
        if self._given > self._records:
            return b""
        begin = b'{"data": {"items": [' if not self._given else b","
        count = min(1000, self._records - self._given)
        self._given += count
        return begin + b",".join(b'{"id": 1, "text": "' + b"x" * 100 + b'"}' for _ in range(count))


def test_memory_is_that_of_a_record() -> None:
    """Of 12 MB."""
    count = 0
    tracemalloc.start()
    try:
        for record in json_records.json_records(Endless(100_000), "utf-8", "data.items", MOST):  # type: ignore[arg-type]
            count += record["id"]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 100_000
    assert peak < 6 << 20


@pytest.mark.airflow
def test_records_are_items(tmp_path: Path) -> None:
    for name in ("b", "a"):
        content = json.dumps({"data": {"items": [{"id": f"{name}{at}"} for at in range(5)]}})
        (tmp_path / f"{name}.json.gz").write_bytes(gzip.compress(content.encode()))
    source = FilesSource(tmp_path / "*", items="record", records="data.items")
    report = Pipeline(source, [], sink := ListSink(), chunk_size=4, ordered=True).run()

    assert [row["id"] for row in sink.rows] == ["a0", "a1", "a2", "a3", "a4", "b0", "b1", "b2", "b3", "b4"]
    assert (report.items_read, report.chunks_committed) == (10, 3)


@pytest.mark.airflow
def test_record_that_fails_is_named_with_its_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.json").write_text("[1, 2]" if name == "a" else "[1, 0, 5]")

    def read() -> Iterator[Any]:
        yield from FilesSource(tmp_path / "*.json", items="record")

    with pytest.raises(RunFailed, match=r"ZeroDivisionError: .*, item 3 \(.*/b\.json, record 2\)"):
        Pipeline(FilesSource(tmp_path / "*.json", items="record"), [Stage(lambda n: 1 / n)], ListSink()).run()
    (tmp_path / "b.json").write_text("[1, 0, }]")
    with pytest.raises(SourceError, match=r"b\.json: ValueError: Expecting value: line 1 column 8"):
        list(read())


@pytest.mark.airflow
def test_records_are_for_records() -> None:
    with pytest.raises(PlanError, match=r"FilesSource\.records.*items=\"record\""):
        FilesSource("/data/*", records="data")


@quick
@given(
    st.dictionaries(
        st.text(max_size=3), st.one_of(st.integers(), st.floats(), st.text(max_size=5), st.none()), max_size=4
    )
    | st.lists(st.integers(), max_size=2)
    | st.dictionaries(st.text(max_size=2), st.dictionaries(st.text(max_size=2), st.integers(), max_size=1), max_size=2),
    st.sampled_from(["", "\n", "\r\n", " \n", "x\n"]),
    st.sampled_from(["", " "]),
)
def test_flat_objects_are_those_of_the_other_decoder(value: Any, end: str, begin: str) -> None:
    line = begin + json.dumps(value) + end

    found = json_records.flat_object(line)

    if found is not None:
        assert repr(found) == repr(json_text.loads(line))


@pytest.mark.parametrize(
    "line",
    [
        '{"a": 1, "a": 2}',
        '{"a" :1,"a":2}',
        '{"a": {"b": 1}}',
        '{"at": "10:00"}',
        '{"a": 1} {"b": 2}',
        '{"a": 1',
        "[1]",
        "5",
        "",
        "[" * 100_000,
    ],
)
def test_other_lines_are_left_to_the_other_decoder(line: str) -> None:
    assert json_records.flat_object(line) is None


def test_numbers_of_flat_objects_stay_exact() -> None:
    assert repr(json_records.flat_object('{"a": 12345678901234567.89, "b": 1.5, "c": 1}\n')) == (
        "{'a': 12345678901234567.89, 'b': 1.5, 'c': 1}"
    )
