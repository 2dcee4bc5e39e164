# SPDX-License-Identifier: Apache-2.0
"""The folder of a load's parts, as one try sees it: files have names of the try's own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.sinks.lakes.lake_part import EncodedFile, PartFile

if TYPE_CHECKING:
    from airflow_parallel_provider.sinks.files.store import FileStore

_MERGED = "merged"
"""Part of the names of files that have rows which were in the table before."""


class PartFolder:
    """Writes files of one try, and reads those of all tries.

    :param load: id of the load.
    :param own_try: eight hexadecimal digits.
    """

    def __init__(self, store: FileStore, load: str, own_try: str) -> None:
        self._store = store
        self._beginning = f"part-{load}-"
        self._own_try = own_try

    def names(self, what: str, count: int) -> list[str]:
        """Names of so many files.

        :param what: they hold.
        """
        which = [what] if count == 1 else [f"{what}-p{n}" for n in range(count)]
        return [f"{self._beginning}{each}-{self._own_try}.parquet" for each in which]

    def write(self, what: str, encoded: Sequence[EncodedFile]) -> list[PartFile]:
        """Write files that belong together."""
        written = []
        for name, each in zip(self.names(what, len(encoded)), encoded, strict=True):
            self._store.write(name, each.data)
            written.append(PartFile(name, each.rows, len(each.data), each.notes))
        return written

    def write_merged(self, number: int, encoded: Sequence[EncodedFile]) -> list[PartFile]:
        """Write files with rows that were in the table before."""
        return self.write(f"{_MERGED}{number}", encoded)

    def left(self, names: Iterable[str], kept: Iterable[str], winner: int) -> set[str]:
        """Which files were written by tries that did not publish the load.

        :param kept: parts that were published.
        :param winner: number of the try that has published them, with what it has written of the table's own rows.
        """
        own = {name for name in names if name.startswith(self._beginning)} - set(kept)
        end = f"-{winner:08x}.parquet"
        return {name for name in own if not (name.startswith(self._beginning + _MERGED) and name.endswith(end))}

    def read(self, name: str, columns: Sequence[str] | None = None) -> Any:
        """A part as an Arrow table.

        :param columns: None: all of them.
        :raises FileNotFoundError: if it is gone.
        """
        import pyarrow.parquet as pq

        with self._store.system.open(f"{self._store.folder}/{name}", "rb") as file:
            return pq.ParquetFile(file).read(columns=None if columns is None else list(columns))

    def remove(self, files: Iterable[PartFile]) -> None:
        """Delete files."""
        self._store.remove([each.file for each in files])
