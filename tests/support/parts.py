"""Loads into files, wherever these are, and their rows as a reader of the manifest sees them."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from airflow_parallel_provider import Pipeline, SinkFiles, Stage


def numbered(number: int) -> dict[str, Any]:
    return {"id": number, "name": f"name {number}"}


def failing_at(limit: int, calls: list[int]) -> Callable[[int], Any]:
    """The same as a stage, which fails at one number."""

    def stage(number: int) -> Any:
        calls.append(number)
        if number == limit:
            raise ValueError("not today")
        return numbered(number)

    return stage


def load(path: str | Path, stage: Any = numbered, items: Any = range(95), key: str = "nightly", **options: Any) -> Any:
    """One attempt at a load of ten chunks; ``pipeline`` among the options is the pipeline's, the rest the sink's."""
    pipeline = {"chunk_size": 10, "max_in_flight": 10, "load_key": key, **options.pop("pipeline", {})}
    return Pipeline(items, [Stage(stage)] if stage else [], SinkFiles(str(path), **options), **pipeline).run()


def load_and_die(path: str | Path, *, half: bool = False, **options: Any) -> None:
    """The same without a stage, with SIGKILL in the seventh chunk; progress was recorded in the fourth, and never else.

    :param half: the kill comes while the file is being written, on a local file system.
    """
    script = textwrap.dedent(f"""
        import os, signal
        from airflow_parallel_provider import Pipeline, SinkFiles
        from airflow_parallel_provider.sinks.files import file_load

        class Deadly(SinkFiles):
            def commit(self, chunk):
                if chunk.index == 6 and {half}:
                    os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
                rows = super().commit(chunk)
                if chunk.index == 6:
                    os.kill(os.getpid(), signal.SIGKILL)
                if chunk.index == 3:
                    self._running().record_progress()
                return rows

        file_load.PROGRESS_EVERY = 1e9
        rows = [{{"id": number, "name": f"name {{number}}"}} for number in range(95)]
        sink = Deadly({str(path)!r}, **{options!r})
        Pipeline(rows, [], sink, chunk_size=10, ordered=True, load_key="nightly").run()
    """)
    died = subprocess.run([sys.executable, "-c", script], check=False, env={**os.environ}, timeout=170)
    assert died.returncode == -signal.SIGKILL


def rows_of_parts(manifest: dict[str, Any], read: Callable[[str], bytes]) -> list[Any]:
    """All rows, in the order of the manifest.

    :param read: gives what is in a part.
    """
    rows: list[Any] = []
    for part in manifest["parts"]:
        content = read(part["file"])
        assert len(content) == part["bytes"]
        if part["file"].endswith(".jsonl"):
            rows += map(json.loads, content.decode().splitlines())
        elif part["file"].endswith(".csv"):
            rows += csv.DictReader(io.StringIO(content.decode(), newline=""))
        else:
            rows += pq.read_table(io.BytesIO(content)).to_pylist()
    return rows
