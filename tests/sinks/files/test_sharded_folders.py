"""Shards of one load into a folder or a lake table: parts by shards, one manifest or version by the end."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from airflow_parallel_provider import DROP, Pipeline, RunFailed, SinkFiles, Stage
from airflow_parallel_provider.sinks.files.store import FileStore
from tests.support.lakes import KINDS as LAKES
from tests.support.lakes import Lake
from tests.support.parts import numbered, rows_of_parts
from tests.support.sync import at_once

pytestmark = pytest.mark.airflow

KINDS = ("jsonl", "parquet", *LAKES)


class Folder:
    """A folder, loads into it, and the rows that its readers see."""

    def __init__(self, path: Path, kind: str) -> None:
        self.kind = kind
        self.lake = Lake(kind, path / "table") if kind in LAKES else None
        self.path = path if self.lake is None else self.lake.folder

    @property
    def sink_class(self) -> Any:
        return SinkFiles if self.lake is None else self.lake.sink_class

    def pipeline(self, source: Any = range(95), stage: Any = numbered, *, sink: Any = None, **options: Any) -> Pipeline:
        names = ("chunk_size", "load_key", "tolerance", "generation", "family", "labels")
        run = {name: options.pop(name) for name in names if name in options}
        cls = sink or self.sink_class
        lake = self.lake
        made = cls(str(self.path), format=self.kind, **options) if lake is None else lake.sink(cls, **options)
        return Pipeline(source, [Stage(stage)], made, **{"chunk_size": 10, "load_key": "nightly", **run})

    def rows(self) -> list[int]:
        if self.lake is not None:
            return [row["id"] for row in self.lake.rows()]
        (manifest,) = self.path.glob("_manifest-*.json")
        found = rows_of_parts(json.loads(manifest.read_text()), lambda name: (self.path / name).read_bytes())
        return [row["id"] for row in found]

    def notes(self) -> list[str]:
        return sorted(path.name for path in self.path.glob("_*") if path.name.startswith(("_progress", "_columns")))

    def is_complete(self) -> bool:
        return any(self.path.glob("_manifest-*")) if self.lake is None else self.lake.exists


@pytest.fixture(params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    if request.param in LAKES:
        pytest.importorskip({"delta": "deltalake", "iceberg": "pyiceberg"}[request.param])
    return Folder(tmp_path, request.param)


@pytest.mark.parametrize("how", ["append", "replace"])
def test_shards_at_once_are_published_once(folder: Folder, how: Any) -> None:
    if how == "replace":
        folder.pipeline(range(5000, 5010), load_key="before").run()
    folder.pipeline(write_disposition=how).begin()

    reports = at_once(
        *(lambda i=i: folder.pipeline(write_disposition=how).run(shard=(i, 3)) for i in range(3)),
    )

    assert sum(report.rows_committed for report in reports) == 95
    if how == "replace":
        assert folder.rows() == list(range(5000, 5010))
    else:
        assert not folder.is_complete()
    for _ in range(2):
        whole = folder.pipeline(write_disposition=how).finish()
        assert (whole.items_read, whole.rows_committed, whole.chunks_committed) == (95, 95, 10)
    assert folder.rows() == list(range(95))
    assert folder.notes() == []
    if folder.lake is not None:
        assert folder.lake.version() == (1 if how == "replace" else 0)
    else:
        assert len(list(folder.path.glob("part-*"))) == 10


def test_lost_shard_resumes_and_the_number_of_shards_may_change(folder: Folder) -> None:
    folder.pipeline().begin()
    with pytest.raises(RunFailed, match="not today"):
        folder.pipeline(sink=_dying(folder)).run(shard=(0, 2))
    with pytest.raises(RunFailed, match="no shard has read the source to its end"):
        folder.pipeline().finish()
    folder.pipeline().begin()  # another try of the plan changes nothing

    reports = [folder.pipeline().run(shard=(i, 5)) for i in range(5)]

    assert sum(report.items_skipped for report in reports) == 30
    assert sum(report.items_committed for report in reports) == 65
    assert folder.pipeline().finish().rows_committed == 95
    assert folder.rows() == list(range(95))


def _dying(folder: Folder) -> Any:
    """A sink that fails when chunk 4 is written and noted."""

    class Dying(folder.sink_class):  # type: ignore[misc,name-defined]
        def commit(self, chunk: Any) -> int | None:
            written: int | None = super().commit(chunk)
            if chunk.index == 4:
                raise ValueError("not today")
            return written

    return Dying


def test_load_is_not_finished_before_all_chunks_are_in(folder: Folder) -> None:
    folder.pipeline().begin()
    folder.pipeline().run(shard=(1, 2))

    with pytest.raises(RunFailed, match=r"of 10 chunks 5 are not in: 00000000, 00000002"):
        folder.pipeline().finish()
    assert not folder.is_complete()


def test_shard_needs_a_load_that_was_begun_like_it(folder: Folder) -> None:
    with pytest.raises(RunFailed, match=r"has not been begun for shards.*Pipeline\.begin"):
        folder.pipeline().run(shard=(0, 2))
    with pytest.raises(RunFailed, match=r"has not been begun for shards"):
        folder.pipeline().finish()
    folder.pipeline().begin()
    for other, name in (({"chunk_size": 5}, "chunk_size"), ({"source": range(94)}, "source")):
        with pytest.raises(RunFailed, match=rf"was begun differently: {name}"):
            folder.pipeline(**other).run(shard=(0, 2))
    with pytest.raises(RunFailed, match="has not been begun for shards"):
        folder.pipeline(generation="later").run(shard=(0, 2))
    folder.pipeline().run(shard=(0, 2))
    with pytest.raises(RunFailed, match=r"sharded was '.*' and is None"):
        folder.pipeline().run()


def test_load_that_was_begun_without_shards_is_refused(folder: Folder) -> None:
    folder.pipeline().run()

    with pytest.raises(RunFailed, match="sharded was None"):
        folder.pipeline().begin()


def test_shard_whose_load_was_begun_anew_notices(folder: Folder) -> None:
    """Nothing is in yet, so a Clear of the group starts over; the shard of before is still at work."""

    class Meanwhile(folder.sink_class):  # type: ignore[misc,name-defined]
        def commit(self, chunk: Any) -> int | None:
            folder.pipeline(generation="2", family="f", load_key="f").begin()
            found: int | None = super().commit(chunk)
            return found

    load = {"family": "f", "load_key": "f"}
    folder.pipeline(generation="1", **load).begin()
    with pytest.raises(RunFailed, match="was begun anew or discarded since"):
        folder.pipeline(generation="1", sink=Meanwhile, **load).run(shard=(0, 2))
    for i in range(2):
        folder.pipeline(generation="2", **load).run(shard=(i, 2))
    folder.pipeline(generation="2", **load).finish()
    assert folder.rows() == list(range(95))


def test_shard_that_comes_late_skips_everything(folder: Folder) -> None:
    class Late(folder.sink_class):  # type: ignore[misc,name-defined]
        """While it is at work, another one does everything, and the load is completed."""

        def commit(self, chunk: Any) -> int | None:
            if not folder.is_complete():
                folder.pipeline().run(shard=(0, 1))
                folder.pipeline().finish()
            found: int | None = super().commit(chunk)
            return found

    folder.pipeline().begin()
    late = folder.pipeline(sink=Late).run(shard=(0, 1))
    assert (late.rows_committed, late.items_skipped) == (0, 95)
    again = folder.pipeline().run(shard=(1, 3))
    assert (again.rows_committed, again.items_skipped) == (0, again.items_read)
    assert folder.rows() == list(range(95))
    assert folder.notes() == []


def test_clear_of_a_complete_load_skips_what_is_in(folder: Folder) -> None:
    """Of an author's own name of the load: a new generation resumes, as it does without shards."""
    for generation, shards in (("1", 2), ("2", 3)):
        more = {"generation": generation, **({"on_rerun": "resume"} if folder.lake is not None else {})}
        folder.pipeline(**more).begin()
        reports = [folder.pipeline(**more).run(shard=(i, shards)) for i in range(shards)]
        assert folder.pipeline(**more).finish().rows_committed == 95
    assert sum(report.items_skipped for report in reports) == 95
    assert folder.rows() == list(range(95))


def test_part_that_was_deleted_is_written_again(tmp_path: Path) -> None:
    folder = Folder(tmp_path, "jsonl")
    for round_ in range(2):
        folder.pipeline().begin()
        reports = [folder.pipeline().run(shard=(i, 2)) for i in range(2)]
        folder.pipeline().finish()
        if not round_:
            next(tmp_path.glob("part-*-00000003.jsonl")).unlink()
    assert [report.items_committed for report in reports] == [0, 10]
    assert folder.rows() == list(range(95))


def test_source_that_is_longer_for_another_shard_is_found(folder: Folder) -> None:
    lengths = iter((95, 115))

    def items() -> Any:
        return iter(range(next(lengths)))

    folder.pipeline(items).begin()
    folder.pipeline(items).run(shard=(0, 2))
    with pytest.raises(RunFailed, match="10 chunks for one shard, and 12 for another"):
        folder.pipeline(items).run(shard=(1, 2))


def test_empty_source(folder: Folder) -> None:
    folder.pipeline([]).begin()
    folder.pipeline([]).run(shard=(0, 2))
    assert folder.pipeline([]).finish().rows_committed == 0


def fate(number: int) -> Any:
    if number % 30 == 3:
        raise ValueError("odd one")
    return DROP if number % 10 == 5 else numbered(number)


def test_tolerance_holds_for_the_whole_and_figures_are_those_of_all(folder: Folder) -> None:
    def unsized() -> Any:
        return iter(range(95))

    load = {"source": unsized, "stage": fate, "tolerance": 0.04}
    folder.pipeline(**load).begin()
    for i in range(2):
        folder.pipeline(**load).run(shard=(i, 2))
    with pytest.raises(RunFailed, match="4 of 95 items failed"):
        folder.pipeline(**load).finish()
    assert not folder.is_complete()

    whole = folder.pipeline(unsized, fate, tolerance=0.05).finish()
    assert (whole.items_dead_lettered, whole.items_filtered, whole.items_committed) == (4, 9, 82)
    assert len(list(folder.path.glob("_dead_letters-*"))) == 4


def test_rejected_rows_of_all_shards_are_held_against_the_limit(folder: Folder) -> None:
    class Together(folder.sink_class):  # type: ignore[misc,name-defined]
        """Knows nothing of what the other shard rejects."""

        def open(self) -> Any:
            found = super().open()
            load = self._running()
            getattr(load, "load", load)._limit.count = 0
            return found

    def row(number: int) -> dict[str, Any]:
        return {"id": number, "odd": 1j if number in (7, 17) else 1.0}

    load = {"stage": row, "tolerance": 10, "max_rejected": 1, "sink": Together}
    folder.pipeline(**load).begin()
    assert [folder.pipeline(**load).run(shard=(i, 2)).rows_rejected for i in range(2)] == [1, 1]
    with pytest.raises(RunFailed, match="rejected 2 rows together, max_rejected=1"):
        folder.pipeline(**load).finish()
    assert not folder.is_complete()
    whole = folder.pipeline(**{**load, "max_rejected": 2}).finish()
    assert (whole.rows_rejected, whole.rows_committed) == (2, 93)


@pytest.mark.parametrize("kind", ["parquet", "csv", *LAKES])
def test_types_of_all_parts_are_those_of_the_first_chunk_of_any_shard(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both shards look before either has written; the faster one decides."""
    folder = Folder(tmp_path, kind)
    barrier = threading.Barrier(2)
    create = FileStore.create

    def together(self: FileStore, name: str, data: bytes) -> bytes:
        barrier.wait(30)
        return create(self, name, data)

    monkeypatch.setattr(FileStore, "create", together)

    def row(number: int) -> dict[str, Any]:
        return {"id": number, "name": "n"} if number // 10 % 2 else {"name": "n", "id": number}

    folder.pipeline(range(40), row).begin()
    at_once(*(lambda i=i: folder.pipeline(range(40), row).run(shard=(i, 2)) for i in (0, 1)))
    assert folder.pipeline(range(40), row).finish().rows_committed == 40

    files = list(folder.path.glob("part-*"))
    heads = [file.read_text().splitlines()[0] if kind == "csv" else str(pq.read_schema(file)) for file in files]
    assert (len(heads), len(set(heads))) == (4, 1)


def test_time_of_the_whole_is_that_of_the_notes(folder: Folder) -> None:
    folder.pipeline().begin()
    for index in range(2):
        folder.pipeline().run(shard=(index, 2))
    (begun,) = (path for path in folder.path.glob("_progress-*") if path.stem.count("-") == 1)
    for path in folder.path.glob("_progress-*"):
        note = json.loads(path.read_text())
        ends = {"written_at": "2026-11-30T12:00:19+00:00"} if path != begun else {}
        path.write_text(json.dumps({**note, "begun_at": "2026-11-30T12:00:00+00:00", **ends}))

    report = folder.pipeline().finish()

    assert (report.seconds, report.items_per_second) == (19.0, 5.0)
