"""Merges by key into lake tables: each key once, the later row of the source, one version; else a clear refusal."""

from __future__ import annotations

import signal
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest

from airflow_parallel_provider import Pipeline, RunFailed, Stage
from airflow_parallel_provider.errors import PlanError
from tests.support.lakes import KINDS, Lake, ended
from tests.support.parts import failing_at

pytestmark = pytest.mark.airflow

MERGE: dict[str, Any] = {"write_disposition": "merge", "primary_key": "id"}
BEFORE = [{"id": number, "name": "before"} for number in range(20)]


@pytest.fixture(params=KINDS)
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    pytest.importorskip({"delta": "deltalake", "iceberg": "pyiceberg"}[request.param])
    return Lake(request.param, tmp_path / "table")


def row_of(number: int) -> dict[str, Any]:
    """Two rows of one chunk may have one key, and two of different chunks, too: of 95 rows, 30 keys."""
    return {"id": 10 + (number * 7) % 30, "name": f"row {number}"}


def merged(count: int = 95) -> list[dict[str, Any]]:
    """What an undisturbed merge of the rows into those of before gives."""
    found = {row["id"]: row for row in [*BEFORE, *map(row_of, range(count))]}
    return sorted(found.values(), key=lambda row: row["id"])


def merge(lake: Lake, stage: Any = row_of, items: Any = range(95), key: str = "merged", **options: Any) -> Any:
    return lake.load(stage, items, key, **{**MERGE, **options})


@pytest.mark.parametrize("existing", [True, False], ids=["a table", "no table"])
def test_the_later_row_stays(lake: Lake, existing: bool) -> None:
    if existing:
        lake.load(None, BEFORE, key="before")

    report = merge(lake)

    assert report.rows_committed == 95
    assert lake.rows() == [row for row in merged() if existing or row["name"] != "before"]
    assert lake.version() == existing
    left = {name for name in lake.names("part-") if not name.startswith("part-00")}
    assert left <= lake.published_files(), "parts that nobody names are left"
    assert merge(lake, failing_at(0, [])).items_skipped == 95
    assert lake.version() == existing


def test_a_load_that_is_in_does_not_ask_for_its_key_any_more(lake: Lake) -> None:
    """The table may have been given other columns since."""
    merge(lake)
    lake.load(None, [{"id": 500, "name": "x", "more": 1}], key="other", on_schema_change="add_columns")

    assert merge(lake, failing_at(0, [])).items_skipped == 95
    if lake.kind == "iceberg":
        from tests.support.lakes import iceberg_table

        with iceberg_table(lake.path).update_schema() as update:
            update.rename_column("id", "number")
        assert merge(lake, failing_at(0, [])).items_skipped == 95


def test_a_second_merge_finds_the_rows_of_the_first(lake: Lake) -> None:
    lake.load(None, BEFORE, key="before")
    merge(lake)
    merge(lake, None, [{"id": 0, "name": "x"}, {"id": 39, "name": "y"}, {"id": 99, "name": "z"}], key="second")

    changed = {0: "x", 39: "y", 99: "z"}
    expected = [{**row, "name": changed.get(row["id"], row["name"])} for row in merged()]
    assert lake.rows() == [*expected, {"id": 99, "name": "z"}]
    assert lake.version() == 2


def test_a_merge_without_a_row(lake: Lake) -> None:
    lake.load(None, BEFORE, key="before")
    merge(lake, None, [])

    assert (lake.rows(), lake.version()) == (BEFORE, 1)
    assert merge(lake, None, []).items_read == 0


def test_an_attempt_goes_on_where_another_one_has_ended(lake: Lake) -> None:
    lake.load(None, BEFORE, key="before")

    def failing(number: int) -> Any:
        if number == 70:
            raise ValueError("not today")
        return row_of(number)

    with pytest.raises(RunFailed, match="not today"):
        merge(lake, failing)
    assert merge(lake).items_skipped == 70
    assert (lake.rows(), lake.version()) == (merged(), 1)


@pytest.mark.parametrize("point", ["before_publication", "after_publication"])
def test_killed_merge_is_gone_on_with(lake: Lake, point: str) -> None:
    lake.load(None, BEFORE, key="before")
    rows = [row_of(number) for number in range(95)]
    assert ended(lake.started(point, key="merged", rows=rows, **MERGE)) == -signal.SIGKILL
    assert lake.version() == (point == "after_publication")

    assert merge(lake, None, rows).items_skipped == 95

    assert (lake.rows(), lake.version()) == (merged(), 1)
    parts = {name for name in lake.names("part-") if not name.startswith("part-00")}
    assert parts <= lake.published_files(), "parts of the killed attempt are left"


@pytest.mark.parametrize("met", [True, False], ids=["keys of the table", "new keys"])
@pytest.mark.parametrize("same", [True, False], ids=["the same load", "another load"])
def test_another_merge_commits_between_the_look_and_the_commit(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, same: bool, met: bool
) -> None:
    """New keys: else each of the two would add a row for them."""
    from airflow_parallel_provider.sinks.lakes.merge import Merge

    lake.load(None, BEFORE if met else BEFORE[:10], key="before")
    once, calls = Merge.require_once, []

    def late(self: Any, *args: Any) -> None:
        once(self, *args)
        calls.append(1)
        if len(calls) == 1:  # the table has been looked at, and read
            merge(lake, key="merged" if same else "other")

    monkeypatch.setattr(Merge, "require_once", late)
    assert merge(lake).rows_committed == 95

    assert len(calls) == (2 if same else 3)
    assert (lake.rows(), lake.version()) == (merged(), 1 if same else 2)
    parts = {name for name in lake.names("part-") if not name.startswith("part-00")}
    assert parts <= lake.published_files(), "files of the try that lost are left"


def test_shards_are_ordered_by_the_source_not_by_their_ends(lake: Lake) -> None:
    lake.load(None, BEFORE, key="before")

    def pipeline() -> Pipeline:
        return Pipeline(
            range(95), [Stage(row_of)], lake.sink(**MERGE), chunk_size=10, max_in_flight=10, load_key="merged"
        )

    pipeline().begin()
    for shard in (1, 0):
        pipeline().run(shard=(shard, 2))
    pipeline().finish()

    assert (lake.rows(), lake.version()) == (merged(), 1)


@pytest.mark.parametrize(
    "values",
    [
        [True, False],
        ["a", "b"],
        [date(2026, 1, 1), date(2026, 1, 2)],
        [datetime(2026, 1, 1), datetime(2026, 1, 2)],  # noqa: DTZ001  # a type of its own
        [datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)],
        [Decimal("1.5"), Decimal("2.5")],
        [b"a", b"a\0"],
        [UUID(int=1), UUID(int=2)],
    ],
    ids=lambda values: type(values[0]).__name__,
)
def test_types_of_a_key(lake: Lake, values: list[Any]) -> None:
    first, second = values
    merge(lake, None, [{"id": first, "n": 1}, {"id": second, "n": 2}, {"id": first, "n": 3}], key="one")
    merge(lake, None, [{"id": second, "n": 4}, {"id": second, "n": 5}], key="two")

    assert sorted(row["n"] for row in lake.rows()) == [3, 5]


def test_uuids_of_arrow_are_keys(lake: Lake) -> None:
    def table(*rows: tuple[int, int]) -> Any:
        keys = pa.array([UUID(int=key).bytes for key, _ in rows], pa.uuid())
        return pa.table({"id": keys, "n": [n for _, n in rows]})

    merge(lake, None, [table((1, 1), (2, 2), (1, 3))], key="one")
    merge(lake, None, [table((2, 4)), table((3, 5))], key="two")

    assert sorted(row["n"] for row in lake.rows()) == [3, 4, 5]


def test_a_key_of_several_columns_with_names_of_their_own(lake: Lake) -> None:
    names = ['sh"op', "the row"]

    def rows(*values: tuple[int, str, int]) -> list[Any]:
        return [dict(zip([*names, "back`tick"], each, strict=True)) for each in values]

    options: Any = {"primary_key": names}
    merge(lake, None, rows((1, "a", 1), (1, "b", 2), (2, "a", 3), (1, "a", 4)), key="one", **options)
    merge(lake, None, rows((1, "b", 5), (2, "b", 6)), key="two", **options)

    found = sorted(tuple(row.values()) for row in lake.table().to_pylist())
    assert found == [(1, "a", 4), (1, "b", 5), (2, "a", 3), (2, "b", 6)]


@pytest.mark.parametrize(
    ("rows", "options", "error"),
    [
        ([{"id": None, "name": "x"}], {}, r"column 'id' of primary_key is NULL in a row: NULL equals no key"),
        ([{"name": "x"}], {}, r"the rows have no column 'id': a merge puts whole rows"),
        ([{"id": 1}], {}, r"the rows have no column 'name': a merge puts whole rows .*and would empty it"),
        ([{"id": 1, "name": "x"}], {"primary_key": ["id", "no"]}, r"column 'no' of primary_key is not in the table"),
        ([{"id": 1, "name": "x", "more": 1}], {}, r"column 'more' is not in the table"),
    ],
)
def test_rows_that_cannot_be_merged_are_refused(lake: Lake, rows: Any, options: Any, error: str) -> None:
    lake.load(None, BEFORE, key="before")

    with pytest.raises(RunFailed, match=error):
        merge(lake, None, rows, **options)
    assert (lake.rows(), lake.version()) == (BEFORE, 0)


@pytest.mark.parametrize("key", [1.5, [1], {"a": 1}], ids=["a float", "a list", "a struct"])
def test_keys_that_have_no_safe_comparison_are_refused(lake: Lake, key: Any) -> None:
    with pytest.raises(RunFailed, match=r"column 'id' of primary_key is .*have no safe comparison"):
        merge(lake, None, [{"id": key, "n": 1}])
    assert not lake.exists


def test_a_row_without_a_key_is_rejected_alone(lake: Lake) -> None:
    rows = [{"id": 1, "name": "a"}, {"id": None, "name": "b"}, {"id": 2, "name": "c"}]

    report = merge(lake, None, rows, max_rejected=1, pipeline={"tolerance": 1})

    assert (report.rows_rejected, [row["id"] for row in lake.rows()]) == (1, [1, 2])


def test_a_key_that_two_rows_of_the_table_have(lake: Lake) -> None:
    """Rows of the table that no row of the load meets are no matter."""
    lake.load(None, BEFORE, key="before")
    lake.load(None, BEFORE[:3], key="again")
    merge(lake, None, [{"id": 5, "name": "x"}], key="five")
    assert lake.version() == 2

    with pytest.raises(RunFailed, match=r"2 rows of it have the same id as another one"):
        merge(lake, None, [{"id": 1, "name": "x"}, {"id": 2, "name": "x"}])
    assert lake.version() == 2


def test_another_key_is_another_load(lake: Lake) -> None:
    with pytest.raises(RunFailed, match="not today"):
        lake.load(failing_at(70, []))
    with pytest.raises(RunFailed, match=r"LoadMismatch: .* primary_key was None and is \['id'\]"):
        lake.load(**MERGE)


def test_columns_are_added_by_a_merge(lake: Lake) -> None:
    lake.load(None, BEFORE[:3], key="before")
    rows = [
        [{"id": 0, "name": "w"}],
        [{"id": 1, "name": "x"}, {"id": 2, "name": "old"}],
        [{"id": 2, "name": "y", "more": 5}],
        [{"id": 7, "name": "z", "more": None}],
    ]
    tables = [pa.Table.from_pylist(each) for each in rows]

    merge(lake, None, tables, on_schema_change="add_columns", pipeline={"chunk_size": 1, "max_in_flight": 1})

    stay = [*rows[0], rows[1][0], *rows[2], *rows[3]]
    assert lake.rows() == [{"more": None, **row} for row in stay]


def test_a_column_that_is_added_meanwhile_is_not_emptied(lake: Lake) -> None:
    lake.load(None, BEFORE[:3], key="before")

    class Held(lake.sink_class):  # type: ignore[misc,name-defined]
        def reached(self, point: str) -> None:
            if point == "before_publication":
                lake.load(None, [{"id": 9, "more": 1}], key="other", on_schema_change="add_columns")

    with pytest.raises(RunFailed, match=r"column 'more' was added when the parts were written already"):
        merge(lake, None, [{"id": 1, "name": "x"}], cls=Held)
    assert [row.get("more") for row in lake.rows()] == [None, None, None, 1]


def test_files_of_a_try_that_was_killed_while_it_merged_are_deleted(lake: Lake) -> None:
    lake.load(None, BEFORE, key="before")

    class Held(lake.sink_class):  # type: ignore[misc,name-defined]
        def reached(self, point: str) -> None:
            if point == "before_publication":
                load = lake.names("_progress-")[0].removeprefix("_progress-").removesuffix(".json")
                for name in (f"part-{load}-merged0-0123abcd.parquet", f"part-{load}-00000000-m0-0123abcd.parquet"):
                    (lake.folder / name).write_bytes(b"half a fi")

    merge(lake, cls=Held)

    assert (lake.rows(), lake.version()) == (merged(), 1)
    assert [name for name in lake.names("part-") if "0123abcd" in name] == []


def test_purge_leaves_the_files_of_a_merge(lake: Lake) -> None:
    from datetime import timedelta

    lake.load(None, BEFORE, key="before")
    merge(lake)

    lake.sink().purge(timedelta(0))

    assert (lake.rows(), lake.version()) == (merged(), 1)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"write_disposition": "merge"}, "primary_key"),
        ({"primary_key": "id"}, "primary_key"),
        ({"write_disposition": "merge", "primary_key": ["id", "id"]}, "primary_key"),
        ({"write_disposition": "merge", "primary_key": "id", "columns": ["name"]}, "primary_key"),
        ({"write_disposition": "upsert"}, "write_disposition"),
    ],
)
def test_bad_declarations_are_named(lake: Lake, options: dict[str, Any], field: str) -> None:
    with pytest.raises(PlanError, match=rf"{lake.sink_class.__name__}\.{field}"):
        lake.sink(**options)
