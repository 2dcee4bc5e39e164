"""Loads into lake tables, in this process and in others that are killed at a named point."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_parallel_provider import Pipeline, SinkDelta, SinkIceberg, Stage
from tests.support.parts import numbered

ROWS = 95
POINTS = ("after_part", "after_progress", "before_publication", "after_publication")
KINDS = ("delta", "iceberg")
TABLE = "shop.orders"


@dataclass(frozen=True)
class Lake:
    """A table of one format on a local disk."""

    kind: str
    path: Path

    @property
    def sink_class(self) -> Any:
        return SinkDelta if self.kind == "delta" else SinkIceberg

    @property
    def arguments(self) -> dict[str, Any]:
        """What names the table."""
        if self.kind == "delta":
            return {"path": str(self.path)}
        return {"table": TABLE, "catalog": catalog_of(self.path), "location": f"file://{self.path}"}

    @property
    def folder(self) -> Path:
        """Where the parts are."""
        return self.path if self.kind == "delta" else self.path / "data"

    def sink(self, cls: Any = None, **options: Any) -> Any:
        return (cls or self.sink_class)(**self.arguments, **options)

    def load(
        self, stage: Any = numbered, items: Any = range(ROWS), key: str = "nightly", cls: Any = None, **options: Any
    ) -> Any:
        """One attempt at a load of ten chunks; ``pipeline`` among the options is the pipeline's."""
        pipeline = {"chunk_size": 10, "max_in_flight": 10, "load_key": key, **options.pop("pipeline", {})}
        return Pipeline(items, [Stage(stage)] if stage else [], self.sink(cls, **options), **pipeline).run()

    def started(
        self, point: str = "", visit: int = 1, *, key: str = "nightly", rows: list[Any] | None = None, **options: Any
    ) -> Any:
        """The same without a stage in a process of its own, which ends with SIGKILL when it is at a point for the nth
        time.

        :param rows: None: those of :func:`all_rows`.

        A process of its own program: the libraries' threads do not survive a fork.
        """
        script = textwrap.dedent(f"""
            import os, signal
            from airflow_parallel_provider import Pipeline, {self.sink_class.__name__}
            from airflow_parallel_provider.sinks.files import file_load

            class Deadly({self.sink_class.__name__}):
                visits = 0

                def reached(self, point):
                    Deadly.visits += point == {point!r}
                    if point == {point!r} and Deadly.visits == {visit}:
                        os.kill(os.getpid(), signal.SIGKILL)

            file_load.PROGRESS_EVERY = 0.0
            rows = {all_rows() if rows is None else rows!r}
            sink = Deadly(**{self.arguments | options!r})
            Pipeline(rows, [], sink, chunk_size=10, ordered=True, load_key={key!r}).run()
        """)
        return subprocess.Popen([sys.executable, "-c", script], env={**os.environ}, stderr=subprocess.PIPE)

    @property
    def exists(self) -> bool:
        if self.kind == "delta":
            return (self.path / "_delta_log").exists()
        return bool(catalog_file(self.path).exists() and iceberg_catalog(self.path).table_exists(TABLE))

    def table(self) -> Any:
        """The table as an Arrow table."""
        if self.kind == "iceberg":
            return iceberg_table(self.path).scan().to_arrow()
        from deltalake import DeltaTable

        return DeltaTable(str(self.path)).to_pyarrow_table()

    def rows(self) -> list[dict[str, Any]]:
        """Its rows, by ``id``."""
        return sorted(self.table().to_pylist(), key=lambda row: row["id"])

    def version(self) -> int:
        """How many commits there were after the first."""
        if self.kind == "delta":
            return version_of(self.path)
        return int(Path(iceberg_table(self.path).metadata_location).name.split("-")[0])

    def published_files(self) -> set[str]:
        """Names of all files that any version names, as long as none was deleted."""
        if self.kind == "iceberg":
            table = iceberg_table(self.path)
            files = [each for s in table.snapshots() for each in table.inspect.files(s.snapshot_id).to_pylist()]
            return {Path(each["file_path"]).name for each in files}
        from deltalake import DeltaTable

        tables = [DeltaTable(str(self.path), version=version) for version in range(self.version() + 1)]
        return {Path(uri).name for table in tables for uri in table.file_uris()}

    def names(self, *beginnings: str) -> list[str]:
        """Names of the files in the folder."""
        return sorted(path.name for path in self.folder.iterdir() if path.name.startswith(beginnings))


def catalog_file(path: Path) -> Path:
    return path.with_name(f"{path.name}-catalog.db")


def catalog_of(path: Path) -> dict[str, str]:
    """The properties of the SQL catalogue of an Iceberg table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return {
        "name": "lake",
        "type": "sql",
        "uri": f"sqlite:///{catalog_file(path)}",
        "warehouse": f"file://{path.parent}",
    }


def iceberg_catalog(path: Path) -> Any:
    from pyiceberg.catalog import load_catalog

    properties: dict[str, Any] = catalog_of(path)
    return load_catalog(properties.pop("name"), **properties)


def iceberg_table(path: Path) -> Any:
    return iceberg_catalog(path).load_table(TABLE)


def load(path: str | Path, *args: Any, **options: Any) -> Any:
    """One attempt at a load into a Delta table; see :meth:`Lake.load`."""
    return _of_delta(path).load(*args, **options)


def ended(process: Any) -> int:
    """The exit code of a process; what it has written is shown if it failed otherwise than by a kill."""
    _, text = process.communicate(timeout=170)
    if process.returncode not in (0, -signal.SIGKILL):
        sys.stderr.write(text.decode())
    return int(process.returncode)


def rows_of(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a Delta table, by ``id``."""
    return _of_delta(path).rows()


def version_of(path: str | Path) -> int:
    """The newest version of a Delta table."""
    from deltalake import DeltaTable

    return int(DeltaTable(str(path)).version())


def all_rows() -> list[dict[str, Any]]:
    """What an undisturbed load writes."""
    return [numbered(number) for number in range(ROWS)]


def _of_delta(path: str | Path) -> Lake:
    return Lake("delta", path)  # type: ignore[arg-type]  # an address of a storage, too
