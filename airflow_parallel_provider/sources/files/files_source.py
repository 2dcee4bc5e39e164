# SPDX-License-Identifier: Apache-2.0
"""``FilesSource``: files of any storage that Airflow supports, whole, or what is in them."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Literal

from airflow_parallel_provider.checks import check_text, check_whole
from airflow_parallel_provider.engine.interfaces.records import EarlierLoads, Narrow
from airflow_parallel_provider.engine.interfaces.sink import Sink
from airflow_parallel_provider.engine.interfaces.source import ChunkReader, slices
from airflow_parallel_provider.errors import PlanError, SourceError
from airflow_parallel_provider.sources.declared_source import DeclaredSource
from airflow_parallel_provider.sources.files.clean_source import CleaningSink
from airflow_parallel_provider.sources.files.declared import (
    check_encoding,
    check_items,
    check_period,
    declared_paths,
    rendered_paths,
    shown_paths,
)
from airflow_parallel_provider.sources.files.file_items import FileLines, FileRecords, Reading, row_groups
from airflow_parallel_provider.sources.files.formats.text_lines import LARGEST_TEXT
from airflow_parallel_provider.sources.files.listing import FileList, group_lengths
from airflow_parallel_provider.sources.files.lookup import files_at
from airflow_parallel_provider.sources.files.moving import Mover, check_clean_source
from airflow_parallel_provider.sources.files.new_files import check_only_new, left_over, new_files
from airflow_parallel_provider.sources.files.remembered import as_lists, connections_of, files_in, restored
from airflow_parallel_provider.sources.places import Places
from airflow_parallel_provider.sources.read_ahead import StopReading
from airflow_parallel_provider.values.items import SourceFile

_TEMPLATED = ("path", "conn_id", "modified_since", "modified_before", "move_destination")


class FilesSource(DeclaredSource):
    """The files that match a pattern, in the order of their paths.

    ::

        FilesSource("s3://raw/orders/{{ ds }}/*.jsonl.gz", conn_id="aws", items="line")

    The first try stores the listing, with each file's size and ETag. A retry reads the files of that listing and
    ignores files that were added later. It fails with :class:`LoadMismatch`, naming the files, when some of them have
    changed or no longer exist.

    :param path: path with ``*``, ``?``, ``[...]`` and ``**``, on any storage of ``ObjectStoragePath``:
        ``file:///data/*.csv``, ``s3://bucket/raw/*.json``, ``gs://...``; a plain path is local.
        A list of such paths: the files of each in turn, each file once; each path must match one. The output of an
        upstream task (``list_files.output``), or a template that renders to a list, is such a list. (templated)
    :param conn_id: Airflow connection of the storage; the path may also contain it (``s3://conn@bucket/...``).
        (templated)
    :param items: ``"file"``: each file is a :class:`SourceFile`, which a stage opens; ``"line"``: each line is a text
        without its line end; ``"record"``: each record of a JSON document is a dict, or what else it is, and only one
        of them is in memory; ``"row_group"``: each row group of a Parquet file is a ``pyarrow.Table``.
    :param records: of records as items: where the list is in each document: names with dots (``"data.items"``). None: a
        document is a list of records, or one record.
    :param encoding: of lines and records; a byte-order mark at the beginning of a file is skipped.
    :param compression: of lines and records: ``"infer"`` from the name (``.gz``, ``.bz2``, ``.xz``, ``.zst``,
        ``.zip``), a name of fsspec, or None. A file that is cut off fails the run.
    :param members: pattern for the members of zip archives to read (``"*.csv"``). None: all files of an archive, by
        name, which must have the same suffix. Folders, ``__MACOSX`` and hidden files are always skipped.
    :param readers: threads that read row groups, 1 to 64. One thread reads lines and records; to read many files at
        the same time, use whole files as items and read them in a stage.
    :param chunk_bytes: of files as items: a chunk ends before the file that would make it larger, in bytes as they are
        stored, and after ``chunk_size`` files at the latest. The first try decides that from the sizes in its listing.
        None: a chunk is ``chunk_size`` files, whatever their size. :class:`FilesToTableOperator` sets it by default.
    :param at_least: fewest files that must exist; 0: there may be none.
    :param modified_since: only files that were written at that time or later, as the storage says: a datetime or a text
        in ISO format, in UTC unless it names a zone. With ``modified_before`` and ``at_least=0``, each run of a
        schedule loads the files of its own period: ``modified_since="{{ data_interval_start }}"``. (templated)
    :param modified_before: only files that were written before that time. (templated)
    :param only_new: leave out files that an earlier load has committed to the same table, as its ledger knows: by path.
        Needs a ``SinkTable`` that appends or merges, and files as items. Let one run at a time load into the table
        (``max_active_runs=1``): of two at the same time both would find a file new.
    :param changed_files: with ``only_new``, what a committed file means that has another size or ETag now: ``"error"``
        fails the run and names it; ``"load"`` loads it again, which a merge takes; ``"skip"`` leaves it out.
    :param manifest: whether ``path`` names files that list the files of the load: one path per line, or JSON: a list of
        paths, or ``{"entries": [{"url": ..., "mandatory": true}]}`` as for COPY of Redshift. A path without protocol
        begins at the manifest's folder; none is a pattern. One that does not exist fails the run, unless its entry is
        an object without ``"mandatory": true``.
    :param clean_source: what becomes of the files of a load that is complete: ``"move"`` moves them into
        ``move_destination``, ``"delete"`` deletes them. Those that have changed since they were read stay, and those in
        chunks with dead letters or rejected rows. A retry goes on with it. Needs files as items, and a table that
        merges, or ``only_new`` and a ``SinkTable`` that appends.
    :param move_destination: folder on the same storage. Folders below the last one of ``path`` without a ``*`` are
        kept. A file whose name is taken there gets another one, with a digest of its version. (templated)
    :param largest_text: bytes of a line, and of a record of JSON, unpacked. A larger one fails: each is in memory as a
        whole. A record in a file that is not packed may be as large as the file.
    :raises PlanError: when the DAG is parsed, for a wrong argument; when the run begins, for too few files.

    What it does not do: notice a file that changes while it is read. Write files under another name and rename them, or
    upload them whole.
    """

    # One method for each thing that a run asks of its source.

    template_fields: ClassVar[tuple[str, ...]] = _TEMPLATED

    def __init__(
        self,
        path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        conn_id: str | None = None,
        items: Literal["file", "line", "record", "row_group"] = "file",
        records: str | None = None,
        encoding: str = "utf-8",
        compression: str | None = "infer",
        members: str | None = None,
        readers: int = 4,
        chunk_bytes: int | None = None,
        at_least: int = 1,
        modified_since: datetime | str | None = None,
        modified_before: datetime | str | None = None,
        only_new: bool = False,
        changed_files: Literal["error", "load", "skip"] = "error",
        manifest: bool = False,
        clean_source: Literal["off", "move", "delete"] = "off",
        move_destination: str | None = None,
        largest_text: int = LARGEST_TEXT,
    ) -> None:
        check_text("FilesSource.conn_id", conn_id, optional=True)
        check_items(items, records, chunk_bytes)
        check_encoding(encoding)
        check_text("FilesSource.compression", compression, optional=True)
        check_text("FilesSource.members", members, optional=True)
        check_whole("FilesSource.readers", readers, 1, 64)
        check_whole("FilesSource.at_least", at_least, 0, 1_000_000_000)
        check_whole("FilesSource.largest_text", largest_text, 1_000, unit="bytes")
        check_only_new(only_new, changed_files, items)
        if not isinstance(manifest, bool):
            raise PlanError("FilesSource.manifest", manifest, "give True, and the manifest as path=; or False")
        self.path = declared_paths(path)
        check_clean_source(clean_source, move_destination, self.path, items)
        check_period(modified_since, modified_before)
        self.only_new = only_new
        self.changed_files = changed_files
        self.manifest = manifest
        self.clean_source = clean_source
        self.move_destination = move_destination
        self.modified_since = modified_since
        self.modified_before = modified_before
        self._listed: dict[str, SourceFile] = {}
        self.conn_id = conn_id
        self.items = items
        self.records = records
        self.encoding = encoding
        self.compression = compression
        self.members = members
        self.readers = readers
        self.chunk_bytes = chunk_bytes
        self.at_least = at_least
        self.largest_text = largest_text
        self._files: tuple[SourceFile, ...] | None = None
        self._missing: Sequence[str] = ()
        self._too_few: PlanError | SourceError | None = None
        self._committed: tuple[Collection[str], int] = ((), 1)
        self._mover: Mover | None = None
        self._places = Places()
        self._halt = StopReading()

    def prepare(self) -> None:
        """List the files.

        :raises PlanError: when there are fewer files than ``at_least``.
        :raises SourceError: when the storage cannot be listed.
        """
        self._halt = StopReading()
        since, before = self.modified_since, self.modified_before
        listing = FileList(rendered_paths(self.path), self.conn_id, since, before, manifest=self.manifest)
        try:
            self._files, self._too_few = listing.chosen(self.at_least), None
        except (PlanError, SourceError) as error:
            if self._mover is None:
                raise
            self._files, self._too_few = listing.chosen(0, strict=False), error  # a complete load has moved them
        self._listed, self._missing = listing.all, listing.missing
        if self._mover is not None:
            self._mover.check_not_found_again(self._files)

    @property
    def warnings(self) -> Sequence[str]:
        """Which files of a manifest do not exist and need not."""
        named = ", ".join(self._missing[:5])
        return [f"not there, and not mandatory: {len(self._missing)} files of the manifest ({named})"] if named else ()

    @property
    def figures(self) -> Mapping[str, Any]:
        """How many files were moved or deleted, and how many of them were not, because they have changed."""
        if self._mover is None:
            return {}
        return {f"files_{self._mover.verb}": self._mover.cleaned, "files_changed": self._mover.left}

    @property
    def files(self) -> tuple[SourceFile, ...]:
        """The files of this load, after :meth:`prepare`."""
        if self._files is None:
            self.prepare()
        assert self._files is not None
        return self._files

    @property
    def advice(self) -> str:
        """Whole files, or more readers."""
        if self.items in ("line", "record"):
            return 'one thread reads them: take items="file", and read them in a process stage'
        if self.items == "row_group":
            return f"more row groups at the same time (readers={self.readers})"
        return ""

    def identity(self) -> str:
        """The pattern and the kind of items; the files are not part of it."""
        within = f" at {self.records}" if self.records else ""
        members = f" ({self.members})" if self.members else ""
        return f"{self.items}s{within} of files {shown_paths(self.path)}{members}"

    def get_state(self) -> Mapping[str, Any]:
        """Path, size and ETag of each file, and ``chunk_bytes``."""
        state: dict[str, Any] = {"items": self.items, "files": as_lists(self.files), "chunk_bytes": self.chunk_bytes}
        if self.clean_source != "off":  # its end does not list the files again
            state["conn_ids"] = connections_of(self.files, self.conn_id)
        return state

    @property
    def narrow(self) -> Narrow | None:
        """With ``only_new``: leaves out what earlier loads have committed."""
        return self._without_loaded if self.only_new else None

    def check_sink(self, sink: Sink) -> None:
        """With ``only_new``: the sink must know what is in."""
        if self.only_new:
            sink.check_narrow("FilesSource.only_new", True)
        if self.clean_source != "off":
            sink.check_cleaned("FilesSource.clean_source", self.clean_source, knows=self.only_new)

    def wrap_sink(self, sink: Sink) -> Sink:
        """With ``clean_source``: a sink that moves or deletes the files once the load is complete."""
        if self.clean_source == "off" or type(sink) is Sink:  # which keeps nothing: of a load test
            return sink
        paths = rendered_paths(self.path)
        self._mover = Mover(self.move_destination, self.conn_id, [paths] if isinstance(paths, str) else paths)
        return CleaningSink(sink, self._mover, self.conn_id, self._may_be_gone)

    def _may_be_gone(self, committed: Collection[str], chunk_size: int) -> None:
        """The files of these chunks need not be there any more."""
        if self._too_few is not None and not committed:
            raise self._too_few
        self._committed = (committed, chunk_size)

    def _without_loaded(self, earlier: EarlierLoads) -> Mapping[str, Any]:
        loads = earlier.oldest_first()
        state = {**self.get_state(), "files": as_lists(new_files(self.files, loads, self.changed_files))}
        if self.clean_source != "off":
            state["left_over"] = as_lists(left_over(self.files, loads))
        return state

    def restore_state(self, state: Mapping[str, Any]) -> None:
        """Read the files of the first try, in the same chunks.

        :raises LoadMismatch: naming the files that have changed or no longer exist.
        """
        if self._files is None:
            self.prepare()
        committed, chunk_size = self._committed
        found, _ = files_in(state, chunk_size, self.conn_id)
        self._files = restored(found, self._present, committed, self.identity())
        self.chunk_bytes = state.get("chunk_bytes")

    def _present(self, file: SourceFile) -> SourceFile | None:
        """A file as it is now; of a manifest, which may list others now, also one that it does not list."""
        if file.path not in self._listed and self.manifest:
            found = files_at([(file.path, file.conn_id)])[0]
            return None if found is None else found[0]
        return self._listed.get(file.path)

    def place_of(self, position: int) -> str:
        """The file, and for a line or record its number there, from 1; empty for row groups."""
        if self.items == "file":
            files = self._files or ()
            return files[position].path if position < len(files) else ""
        found = self._places.of(position)
        return "" if found is None else f"{found[0]}, {self.items} {found[1] + 1}"

    def interrupt(self) -> None:
        """Stop waiting for row groups."""
        self._halt.set()

    def __len__(self) -> int:
        """Number of files, if files are the items.

        :raises TypeError: when the number of items is unknown.
        """
        if self._files is None or self.items != "file":
            raise TypeError("the number of items is unknown until all files are read")
        return len(self._files)

    @property
    def can_jump(self) -> bool:
        """True, if files are the items."""
        return self.items == "file"

    def chunk_lengths(self, chunk_size: int) -> Sequence[int] | None:
        """How many files each chunk has, with ``chunk_bytes``."""
        if self.chunk_bytes is None:
            return None
        return group_lengths([file.size for file in self.files], self.chunk_bytes, chunk_size)

    def chunks(self, chunk_size: int, wanted: Callable[[int], bool]) -> ChunkReader:
        """Slices of the listing, if files are the items; lines and row groups are all read."""
        if self.items == "file":
            return slices(self.files, chunk_size, wanted, self.chunk_lengths(chunk_size))
        return super().chunks(chunk_size, wanted)

    def __iter__(self) -> Iterator[Any]:
        """Yield the items.

        :raises SourceError: for a file that cannot be read, naming it.
        """
        if self.items == "file":
            return iter(self.files)
        if self.items == "row_group":
            return row_groups(self.files, readers=self.readers, halt=self._halt)
        reading = Reading(self.encoding, self.compression, self.members, self.largest_text, self.records)
        inside = (FileLines if self.items == "line" else FileRecords)(self.files, reading)
        self._places = inside.places
        return iter(inside)
