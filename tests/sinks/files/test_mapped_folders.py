"""Mapped task instances that write into one folder, or share a load key: refused by name, and no part is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_parallel_provider import Pipeline, RunFailed, SinkFiles
from airflow_parallel_provider.engine.interfaces.records import ChunkResult, LoadSpec

pytestmark = pytest.mark.airflow


def run(folder: Path, map_index: int, *, start: str = "08:00", key: str | None = None, **options: Any) -> None:
    labels = {"dag_id": "dag", "run_id": "run", "task_id": "task", "map_index": str(map_index)}
    Pipeline(
        [{"id": map_index * 10 + n} for n in range(10)],
        [],
        SinkFiles(str(folder), **options),
        chunk_size=5,
        load_key=key or f"dag/task[{map_index}]/run#{start}",
        labels={**labels, "generation": f"{start}/2"},
    ).run()


def parts(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("part-*"))


def test_second_task_instance_does_not_replace_the_parts_of_the_first(tmp_path: Path) -> None:
    run(tmp_path, 0, write_disposition="replace")
    before = parts(tmp_path)

    with pytest.raises(RunFailed, match=r"folder .*task instance 0 of the mapped task 'task' also replaces it"):
        run(tmp_path, 1, write_disposition="replace")

    assert parts(tmp_path) == before
    assert len(before) == 2


def test_nothing_is_replaced_if_another_task_instance_begins_meanwhile(tmp_path: Path) -> None:
    run(tmp_path, -1, write_disposition="replace")
    before = parts(tmp_path)
    labels = {"dag_id": "dag", "run_id": "run", "task_id": "task", "map_index": "0", "generation": "08:00/2"}
    first = SinkFiles(str(tmp_path), write_disposition="replace")
    first.prepare(LoadSpec("first", 5, "list", labels=labels))
    first.open()
    first.commit(ChunkResult("00000000", 0, 0, 1, 0, [{"id": 0}]))
    with pytest.raises(RunFailed, match="also replaces it"):
        run(tmp_path, 1, write_disposition="replace")
    with pytest.raises(Exception, match=r"task instance 1 .* also replaces it"):
        first.finish()
    first.close()

    assert set(before) < set(parts(tmp_path))
    assert len(list(tmp_path.glob("_manifest-*"))) == 1


def test_a_clear_replaces_the_parts_of_the_one_before(tmp_path: Path) -> None:
    run(tmp_path, 0, write_disposition="replace")
    run(tmp_path, 0, start="09:00", write_disposition="replace")

    (manifest,) = tmp_path.glob("_manifest-*")
    assert [part["file"] for part in json.loads(manifest.read_text())["parts"]] == parts(tmp_path)


def test_task_instances_may_append_to_one_folder(tmp_path: Path) -> None:
    for index in range(4):
        run(tmp_path, index)

    assert len(parts(tmp_path)) == 8
    assert len(list(tmp_path.glob("_manifest-*"))) == 4
    assert not list(tmp_path.glob("_progress-*"))


@pytest.mark.parametrize("complete", [True, False])
def test_task_instance_does_not_skip_the_parts_of_another(tmp_path: Path, complete: bool) -> None:
    run(tmp_path, 0, key="2026-11-29")
    if not complete:
        (manifest,) = tmp_path.glob("_manifest-*")
        manifest.rename(tmp_path / manifest.name.replace("manifest", "progress"))

    with pytest.raises(RunFailed, match=r"load '2026-11-29' was begun by task instance 0 .*ti\.map_index"):
        run(tmp_path, 1, key="2026-11-29")

    assert len(parts(tmp_path)) == 2


def test_task_instances_that_begin_together_with_one_key_do_not_both_complete(tmp_path: Path) -> None:
    sinks = []
    for index in (0, 1):
        labels = {"dag_id": "dag", "run_id": "run", "task_id": "task", "map_index": str(index), "generation": "08:00/2"}
        sink = SinkFiles(str(tmp_path))
        sink.prepare(LoadSpec("2026-11-29", 5, "list", labels=labels))
        sinks.append(sink)
    sinks[0].open()

    with pytest.raises(Exception, match="was begun by task instance 0"):
        sinks[1].open()
