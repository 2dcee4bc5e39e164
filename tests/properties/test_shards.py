"""Law 8: whatever sequence of shards, kills and second runs, a load ends as one undisturbed run does."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given
from hypothesis import strategies as st

from airflow_parallel_provider import (
    DROP,
    FilesSource,
    Pipeline,
    RunFailed,
    RunReport,
    Sink,
    SinkDelta,
    SinkFiles,
    SinkIceberg,
    SinkTable,
    Source,
    SqlSource,
    Stage,
)
from airflow_parallel_provider.engine.interfaces.records import ChunkResult
from tests.support.given import examples
from tests.support.lakes import Lake
from tests.support.parts import rows_of_parts
from tests.support.running import check_report

pytestmark = pytest.mark.airflow


@dataclass(frozen=True)
class Load:
    """A load: its items, and how they are cut."""

    items: int
    chunk_size: int
    kind: str
    disposition: str
    stage: str
    to: str


@dataclass(frozen=True)
class Visit:
    """One run of one shard."""

    index: int
    of: int
    killed_at: int | None
    """At which commit, counted from 0; None: not at all."""
    after: bool
    """Whether the commit takes effect, but nobody hears of it."""


class Killed(BaseException):
    """The run ends here, as if its process had died."""


class Mortal(Sink):
    """Ends the run at a commit, or just behind it."""

    _visit: Visit | None = None
    _commits = 0

    def commit(self, chunk: ChunkResult) -> int | None:
        visit, here = self._visit, self._commits
        self._commits += 1
        if visit is None or visit.killed_at != here:
            return super().commit(chunk)
        if visit.after:
            super().commit(chunk)
        raise Killed


class MortalTable(Mortal, SinkTable):
    """A table."""


class MortalFiles(Mortal, SinkFiles):
    """A folder."""


class MortalDelta(Mortal, SinkDelta):
    """A lake table."""


class MortalIceberg(Mortal, SinkIceberg):
    """Another one."""


class Generated(Source):
    """A source of its own kind, without a length."""

    def __init__(self, items: int) -> None:
        self.items = items

    def __iter__(self) -> Iterator[int]:
        yield from range(self.items)


def number_of(item: Any) -> int:
    """Of an item of any source: a number, a line, a row, a file."""
    if isinstance(item, (int, str)):
        return int(item)
    return int(item["id"]) if isinstance(item, dict) else int(item.name.removesuffix(".txt"))


def fate(item: Any) -> Any:
    number = number_of(item)
    if number % 13 == 5:
        raise ValueError(f"no {number % 3}")
    return DROP if number % 7 == 3 else {"id": number, "value": number % 10}


async def fate_later(item: Any) -> Any:
    return fate(item)


def fates(items: list[Any]) -> list[Any]:
    return [fate(item) for item in items]


STAGES: dict[str, Callable[[], Stage]] = {
    "thread": lambda: Stage(fate, workers=2),
    "inline": lambda: Stage(fate, kind="inline"),
    "async": lambda: Stage(fate_later, kind="async", workers=1, name="fate"),
    "batch": lambda: Stage(fates, batch_size=4, name="fate"),
}
FORMS: dict[str, tuple[str, ...]] = dict.fromkeys(("table", "delta", "iceberg"), ("append", "merge", "replace"))
FORMS |= dict.fromkeys(("jsonl", "parquet"), ("append", "replace"))
KINDS = ("range", "list", "function", "source", "files", "lines", "rows")


def make_source(load: Load, place: Path) -> None:
    """What the source reads, where that is something outside."""
    if load.kind == "files":
        (place / "in").mkdir()
        for number in range(load.items):
            (place / "in" / f"{number:04}.txt").touch()
    elif load.kind == "lines":
        (place / "in.txt").write_text("".join(f"{number}\n" for number in range(load.items)))
    elif load.kind == "rows":
        with closing(sqlite3.connect(place / "w.db")) as connection:
            connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
            connection.executemany("INSERT INTO orders VALUES (?)", [(number,) for number in range(load.items)])
            connection.commit()


def source_of(load: Load, place: Path) -> Any:
    return {
        "range": lambda: range(load.items),
        "list": lambda: list(range(load.items)),
        "function": lambda: lambda: iter(range(load.items)),
        "source": lambda: Generated(load.items),
        "files": lambda: FilesSource(str(place / "in" / "*.txt"), at_least=0),
        "lines": lambda: FilesSource(str(place / "in.txt"), items="line"),
        "rows": lambda: SqlSource("orders", conn_id="w", key="id", range_size=100, readers=1),
    }[load.kind]()


def sink_of(load: Load, place: Path, table: str) -> Any:
    how: Any = {"write_disposition": load.disposition}
    if load.to in ("jsonl", "parquet"):
        return MortalFiles(str(place / table), format=load.to, **how)
    how |= {"aggregates": {"n": "count", "sum": "sum(value)"}}
    if load.disposition == "merge":
        how |= {"primary_key": "id"}
    if load.to in ("delta", "iceberg"):
        return Lake(load.to, place / table).sink(MortalDelta if load.to == "delta" else MortalIceberg, **how)
    if load.disposition == "merge":
        how |= {"newest": "value"}
    return MortalTable(table, conn_id="w", columns={"id": int, "value": int}, **how)


def pipeline(load: Load, place: Path, table: str, visit: Visit | None = None) -> Pipeline:
    sink = sink_of(load, place, table)
    sink._visit = visit
    stages = [STAGES[load.stage]()]
    return Pipeline(source_of(load, place), stages, sink, chunk_size=load.chunk_size, tolerance=0.5, load_key=table)


@st.composite
def loads(draw: st.DrawFn) -> Load:
    to = draw(st.sampled_from(["table", "table", "table", "jsonl", "parquet", "delta", "iceberg"]))
    return Load(
        items=draw(st.integers(0, 90)),
        chunk_size=draw(st.integers(1, 20)),
        kind=draw(st.sampled_from(KINDS)),
        disposition=draw(st.sampled_from(FORMS[to])),
        stage=draw(st.sampled_from(sorted(STAGES))),
        to=to,
    )


@st.composite
def visits(draw: st.DrawFn) -> Visit:
    of = draw(st.integers(1, 6))
    killed_at = draw(st.none() | st.integers(0, 4))
    return Visit(draw(st.integers(0, of - 1)), of, killed_at, draw(st.booleans()))


def run(load: Load, place: Path, table: str, visit: Visit) -> RunReport | None:
    made = pipeline(load, place, table, visit)
    report: RunReport | None
    try:
        report = made.run(shard=(visit.index, visit.of))
    except RunFailed as failed:
        report = failed.report
    if report is not None:
        check_report(report)
    return report


def ended(load: Load, place: Path, table: str) -> tuple[Any, ...]:
    """Rows, and fates of the items that failed."""
    if load.to == "table":
        with closing(sqlite3.connect(place / "w.db")) as connection:
            rows = connection.execute(f"SELECT id, value FROM {table} ORDER BY id").fetchall()
            letters = connection.execute(f"SELECT position, stage, cause FROM {table}__dead_letters ORDER BY position")
            return rows, letters.fetchall()
    folder = place / table
    lake = Lake(load.to, folder) if load.to in ("delta", "iceberg") else None
    notes = sorted((folder if lake is None else lake.folder).glob("_dead_*"))
    failed = [json.loads(line) for file in notes for line in file.read_text().splitlines()]
    fates = [(each["position"], each["stage"], each["cause"]) for each in failed]
    if lake is not None:
        return lake.rows() if lake.exists else [], fates
    (manifest,) = folder.glob("_manifest-*")
    record = json.loads(manifest.read_text())
    record["parts"] = [part for part in record["parts"] if part["file"] is not None]
    return rows_of_parts(record, lambda name: (folder / name).read_bytes()), fates


FIGURES = (
    *("items_read", "items_committed", "items_filtered", "items_dead_lettered"),
    *("rows_committed", "chunks_committed", "aggregates"),
)


@examples(15, long=400, phases=[Phase.explicit, Phase.generate])  # shrinking an example that hangs takes minutes
@given(load=loads(), before=st.lists(visits(), max_size=6), last=st.integers(1, 5))
def test_any_sequence_of_shards_and_kills_ends_as_one_undisturbed_run(
    tmp_path_factory: pytest.TempPathFactory, load: Load, before: list[Visit], last: int
) -> None:
    place = tmp_path_factory.mktemp("shards")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_W", json.dumps({"conn_type": "sqlite", "host": str(place / "w.db")}))
        make_source(load, place)
        undisturbed = pipeline(load, place, "undisturbed").run()
        pipeline(load, place, "shards").begin()
        for visit in before:
            with suppress(Killed):
                run(load, place, "shards", visit)
            if visit.killed_at == 0:  # a second try of the plan changes nothing
                pipeline(load, place, "shards").begin()
        for index in reversed(range(last)):
            run(load, place, "shards", Visit(index, last, None, after=False))
        for _ in range(2):
            whole = pipeline(load, place, "shards").finish()

    fates = ("items_committed", "items_filtered", "items_dead_lettered")
    assert whole.items_read == sum(getattr(whole, each) for each in fates)
    assert ended(load, place, "shards") == ended(load, place, "undisturbed")
    assert [getattr(whole, each) for each in FIGURES] == [getattr(undisturbed, each) for each in FIGURES]


@pytest.mark.parametrize("to", [pytest.param(to, marks=() if to == "table" else pytest.mark.slow) for to in FORMS])
def test_stages_in_processes_too(tmp_path_factory: pytest.TempPathFactory, monkeypatch: Any, to: str) -> None:
    monkeypatch.setitem(STAGES, "process", lambda: Stage(fate, kind="process", workers=1))
    load = Load(items=60, chunk_size=7, kind="list", disposition="replace", stage="process", to=to)
    before = [Visit(0, 2, 1, after=True), Visit(1, 3, 0, after=False)]
    inner: Any = test_any_sequence_of_shards_and_kills_ends_as_one_undisturbed_run
    inner.hypothesis.inner_test(tmp_path_factory, load, before, 2)
