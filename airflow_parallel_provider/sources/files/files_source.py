"""``FilesSource``: files of any storage that Airflow supports, whole, by lines, or by row groups of Parquet."""

from __future__ import annotations

import codecs
import io
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import IO, Any, ClassVar, Literal

from airflow_parallel_provider.checks import check_choice, check_text, check_whole
from airflow_parallel_provider.errors import LoadMismatch, PlanError, SourceError
from airflow_parallel_provider.sources.declared_source import DeclaredSource
from airflow_parallel_provider.sources.files.listing import list_files
from airflow_parallel_provider.sources.files.text_lines import MARK, is_wide
from airflow_parallel_provider.sources.read_ahead import StopReading, read_ahead
from airflow_parallel_provider.values.items import SourceFile
from airflow_parallel_provider.values.unpack import LONGEST_LINE

ITEMS = ("file", "line", "row_group")
_NAMED = 5
"""Most changed files that an error names."""


class FilesSource(DeclaredSource):
    """The files that match a pattern, in the order of their paths.

    ::

        FilesSource("s3://raw/orders/{{ ds }}/*.jsonl.gz", conn_id="aws", items="line")

    The first try stores the listing, with each file's size and ETag. A retry reads the files of that listing and
    ignores files that were added later. It fails with :class:`LoadMismatch`, naming the files, when some of them have
    changed or no longer exist.

    :param path: path with ``*``, ``?``, ``[...]`` and ``**``, on any storage of ``ObjectStoragePath``:
        ``file:///data/*.csv``, ``s3://bucket/raw/*.json``, ``gs://...``; a plain path is local. (templated)
    :param conn_id: Airflow connection of the storage; the path may also contain it (``s3://conn@bucket/...``).
        (templated)
    :param items: ``"file"``: each file is a :class:`SourceFile`, which a stage opens; ``"line"``: each line is a text
        without its line end; ``"row_group"``: each row group of a Parquet file is a ``pyarrow.Table``.
    :param encoding: of lines; a byte-order mark at the beginning of a file is skipped.
    :param compression: of lines: ``"infer"`` from the name (``.gz``, ``.bz2``, ``.xz``, ``.zst``, ``.zip``), a name of
        fsspec, or None. A file that is cut off fails the run.
    :param members: pattern for the members of zip archives to read (``"*.csv"``). None: all files of an archive, by
        name, which must have the same suffix. Folders, ``__MACOSX`` and hidden files are always skipped.
    :param readers: threads that read row groups, 1 to 64. One thread reads lines; to read many files at the same time,
        use whole files as items and read them in a stage.
    :param at_least: fewest files that must exist; 0: there may be none.
    :raises PlanError: when the DAG is parsed, for a wrong argument; when the run begins, for too few files.

    What it does not do: notice a file that changes while it is read. Write files under another name and rename them, or
    upload them whole.
    """

    template_fields: ClassVar[tuple[str, ...]] = ("path", "conn_id")

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        conn_id: str | None = None,
        items: Literal["file", "line", "row_group"] = "file",
        encoding: str = "utf-8",
        compression: str | None = "infer",
        members: str | None = None,
        readers: int = 4,
        at_least: int = 1,
    ) -> None:
        path = str(path)
        check_text("FilesSource.path", path)
        check_text("FilesSource.conn_id", conn_id, optional=True)
        check_choice("FilesSource.items", items, ITEMS)
        check_text("FilesSource.encoding", encoding)
        _check_encoding(encoding)
        check_text("FilesSource.compression", compression, optional=True)
        check_text("FilesSource.members", members, optional=True)
        check_whole("FilesSource.readers", readers, 1, 64)
        check_whole("FilesSource.at_least", at_least, 0, 1_000_000_000)
        self.path = path
        self.conn_id = conn_id
        self.items = items
        self.encoding = encoding
        self.compression = compression
        self.members = members
        self.readers = readers
        self.at_least = at_least
        self._files: tuple[SourceFile, ...] | None = None
        self._halt = StopReading()

    def prepare(self) -> None:
        """List the files.

        :raises PlanError: when there are fewer files than ``at_least``.
        :raises SourceError: when the storage cannot be listed.
        """
        self._halt = StopReading()
        self._files = list_files(self.path, self.conn_id)
        if len(self._files) < self.at_least:
            cure = f"it matches {len(self._files)} files, at_least={self.at_least}; a pattern for files ends in e.g. /*"
            raise PlanError("FilesSource.path", self.path, cure)

    @property
    def files(self) -> tuple[SourceFile, ...]:
        """The files of this load, after :meth:`prepare`."""
        if self._files is None:
            self.prepare()
        assert self._files is not None
        return self._files

    def identity(self) -> str:
        """The pattern and the kind of items; the files are not part of it."""
        return f"{self.items}s of files {self.path}{f' ({self.members})' if self.members else ''}"

    def get_state(self) -> Mapping[str, Any]:
        """Path, size and ETag of each file."""
        return {"files": [[file.path, file.size, file.etag] for file in self.files]}

    def restore_state(self, state: Mapping[str, Any]) -> None:
        """Read the files of the first try.

        :raises LoadMismatch: naming the files that have changed or no longer exist.
        """
        present = {file.path: file for file in self.files}
        changed: list[str] = []
        for path, size, etag in state["files"]:
            now = present.get(path)
            if now is None:
                changed.append(f"{path} no longer exists")
            elif (now.size, now.etag) != (size, etag):
                changed.append(f"{path} has changed ({size} bytes, etag {etag}; now {now.size} bytes, etag {now.etag})")
        if changed:
            more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
            raise LoadMismatch(
                f"{self.identity()}: since the first try of this load {'; '.join(changed[:_NAMED])}{more}. The "
                "committed chunks would not be the same: restore the files, or start a new load (another load_key, or "
                "clear the task)"
            )
        self._files = tuple(present[path] for path, _, _ in state["files"])

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

    def __iter__(self) -> Iterator[Any]:
        """Yield the items.

        :raises SourceError: for a file that cannot be read, naming it.
        """
        if self.items == "file":
            return iter(self.files)
        return self._lines() if self.items == "line" else self._row_groups()

    def _lines(self) -> Iterator[str]:
        for file in self.files:
            place = _Place(file.path)
            parts = file.parts(compression=self.compression, members=self.members, longest_line=LONGEST_LINE)
            with _errors_name(place.shown), closing(parts):
                for path, stream in parts:
                    place.enter(path)
                    for line in self._texts(stream):
                        yield (line if place.lines else line.removeprefix(MARK)).rstrip("\r\n")
                        place.lines += 1

    def _texts(self, stream: IO[bytes]) -> Iterator[str]:
        if is_wide(self.encoding):
            yield from io.TextIOWrapper(stream, self.encoding, newline="\n")
            return
        for line in stream:  # decoded one by one, so that an error can name the line
            yield line.decode(self.encoding)

    def _row_groups(self) -> Iterator[Any]:
        def groups() -> Iterator[tuple[SourceFile, int]]:
            import pyarrow.parquet

            for file in self.files:
                with _errors_name(_Place(file.path).shown), file.open("rb") as raw:
                    count = pyarrow.parquet.ParquetFile(raw).metadata.num_row_groups
                yield from ((file, number) for number in range(count))

        return read_ahead(_group_reader, groups(), readers=self.readers, name="files-source", halt=self._halt)


def _check_encoding(encoding: str) -> None:
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise PlanError("FilesSource.encoding", encoding, "Python has no such encoding") from None


class _Place:
    """How far a file has been read."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.lines = 0
        self._reading = False

    def enter(self, path: str) -> None:
        """A file, or a member of an archive, begins."""
        self.path, self.lines, self._reading = path, 0, True

    def shown(self) -> str:
        return f"{self.path} after line {self.lines}" if self._reading else self.path


@contextmanager
def _group_reader() -> Iterator[Callable[[tuple[SourceFile, int]], Any]]:
    import pyarrow.parquet

    def read(group: tuple[SourceFile, int]) -> Any:
        file, number = group
        with _errors_name(lambda: f"{file.path}, row group {number}"), file.open("rb") as raw:
            return pyarrow.parquet.ParquetFile(raw).read_row_group(number, use_threads=False)

    yield read


@contextmanager
def _errors_name(place: Callable[[], str]) -> Iterator[None]:
    """Turn every error inside the block into a ``SourceError`` that names the file and the place in it."""
    try:
        yield
    except SourceError as error:
        raise SourceError(f"{place()}: {error}") from error
    except Exception as error:
        raise SourceError(f"{place()}: {type(error).__name__}: {error}") from error


def as_files(source: object) -> FilesSource:
    """The given ``FilesSource``, or one for the given pattern.

    :raises PlanError: for any other value.
    """
    if isinstance(source, FilesSource):
        return source
    if isinstance(source, (str, os.PathLike)):
        return FilesSource(source)
    raise PlanError("source", source, "give a path with a pattern, or a FilesSource(...)")
