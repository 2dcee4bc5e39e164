"""JSON of every database, copied into every other as the text that it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_parallel_provider import JsonText, RunFailed, SqlSource, Stage
from tests.support.copies import copy, made
from tests.support.databases import TestDatabase

pytestmark = pytest.mark.airflow

TEXTS = [
    '{"a": [1, null, "x"], "b": {}}',
    "null",
    "1.10",
    '"a text"',
    '"1"',
    '{"m": 1.10, "n": 12345678901234567.89}',
    '"é\\"\\n"',
    "[]",
    None,
]
"""As PostgreSQL writes jsonb: so they are the same texts everywhere."""

SOURCES = ["postgres-jsonb", "postgres-json", "mariadb-json", "sqlite-json_text"]
JSON_COLUMN = {"postgres": "jsonb", "mariadb": "json", "sqlite": "json_text", "duckdb": "json"}
TARGETS = ["postgres", "mariadb", "sqlite", "duckdb"]


@pytest.fixture(params=SOURCES)
def origin(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TestDatabase]:
    """A table with every kind of JSON."""
    name, _, kind = request.param.partition("-")
    database = made(name, tmp_path, "origin")
    write(database, "origin", kind, TEXTS)
    yield database
    database.drop()


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TestDatabase]:
    database = made(request.param, tmp_path, "target")
    yield database
    database.drop()


def write(database: TestDatabase, table: str, kind: str, texts: list[str | None]) -> None:
    values = ", ".join(f"({number}, {literal(database, text)})" for number, text in enumerate(texts))
    database.execute(f"CREATE TABLE {database.place(table)} (id int PRIMARY KEY, v {kind})")
    if texts:
        database.execute(f"INSERT INTO {database.place(table)} VALUES {values}")


def literal(database: TestDatabase, text: str | None) -> str:
    if text is None:
        return "NULL"
    escaped = text.replace("'", "''")
    return "'" + (escaped.replace("\\", "\\\\") if database.name == "mariadb" else escaped) + "'"


def texts_in(database: TestDatabase, table: str = "copied") -> list[str | None]:
    column = {"postgres": "v::text", "duckdb": "CAST(v AS VARCHAR)"}.get(database.name, "v")
    return [row[0] for row in database.rows(table, column, "id")]


def test_json_is_copied_as_the_text_it_is(
    origin: TestDatabase, target: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(target, "documents", JSON_COLUMN[target.name], [])

    for table in ("documents", "copied"):  # one that exists, and a new one
        report = copy(monkeypatch, origin, target, into=table)

        assert report.rows_committed == len(TEXTS)
        assert texts_in(target, table) == TEXTS


@pytest.mark.parametrize("origin", SOURCES[:1], indirect=True)
@pytest.mark.parametrize("disposition", ["append", "merge", "replace"])
def test_json_null_is_kept_where_a_value_must_be(
    origin: TestDatabase, target: TestDatabase, disposition: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(target, "copied", f"{JSON_COLUMN[target.name]} NOT NULL", [])

    copy(
        monkeypatch, origin, target, source_options={"where": "v IS NOT NULL"},
        write_disposition=disposition, primary_key=["id"],
    )  # fmt: skip

    assert texts_in(target) == TEXTS[:-1]


@pytest.mark.parametrize("origin", ["postgres-json"], indirect=True)
@pytest.mark.parametrize("target", ["postgres"], indirect=True)
def test_json_with_a_key_twice_is_copied_or_refused(
    origin: TestDatabase, target: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '{"a": 1,\n  "a": 2, "long": 12345678901234567890123}'
    origin.execute(f"DELETE FROM {origin.place('origin')}")
    origin.execute(f"INSERT INTO {origin.place('origin')} VALUES (1, '{{}}'), (2, '{text}')")
    write(target, "copied", "json", [])
    write(target, "documents", "jsonb", [])

    copy(monkeypatch, origin, target)
    assert texts_in(target) == ["{}", text]

    with pytest.raises(RunFailed) as failed:
        copy(monkeypatch, origin, target, into="documents")
    assert "column 'v' (json) cannot take JSON with a key that an object has twice" in str(failed.value.__cause__)
    assert texts_in(target, "documents") == []


def test_functions_get_a_text_with_its_value(origin: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_parallel_provider.sql.database.get_connection", lambda *_: origin.connection)

    found = [row["v"] for row in SqlSource("origin", conn_id="from", key="id", schema=origin.schema)]

    assert found == TEXTS
    assert {type(each) for each in found} == {JsonText, type(None)}
    assert [each.value for each in found[:-1]] == [json.loads(text) for text in TEXTS if text is not None]


@pytest.mark.parametrize("origin", ["postgres-jsonb"], indirect=True)
@pytest.mark.parametrize("target", ["sqlite"], indirect=True)
@pytest.mark.parametrize("kind", ["process", "thread"])
def test_json_passes_through_stages(
    origin: TestDatabase, target: TestDatabase, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy(monkeypatch, origin, target, stages=[Stage(nested, kind=kind)], columns={"id": int, "v": JsonText})

    assert texts_in(target) == [
        f'{{"was": {text or "null"}, "type": "{"NoneType" if text is None else "JsonText"}"}}' for text in TEXTS
    ]


def nested(row: dict[str, Any]) -> dict[str, Any]:
    return {"id": row["id"], "v": {"was": row["v"], "type": type(row["v"]).__name__}}
