# SPDX-License-Identifier: Apache-2.0
"""Moves a file into a folder of the same storage, or deletes it: once, and never one that has changed."""

from __future__ import annotations

import errno
import hashlib
import os
import posixpath
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Literal
from uuid import uuid4

from fsspec.utils import glob_translate

from airflow_parallel_provider.checks import check_choice, check_text
from airflow_parallel_provider.engine.plan.templates import is_template
from airflow_parallel_provider.errors import PlanError, SourceError
from airflow_parallel_provider.values.items import SourceFile, exact_path, file_version, storage_path

HOW = ("off", "move", "delete")

Outcome = Literal["done", "gone", "changed"]
DONE: Outcome = "done"
GONE: Outcome = "gone"
CHANGED: Outcome = "changed"

_READ_ONLY = ("http", "https", "data", "github", "zip", "tar", "memory+http")
"""Protocols whose files nobody can move or delete."""
_MAGIC = re.compile(r"[*?\[]")
_PIECE = 1 << 20


def check_clean_source(how: Any, destination: Any, paths: Any, items: str) -> None:
    """Check ``clean_source`` and ``move_destination``.

    :param paths: a pattern or a list of them, as far as it is known.
    :raises PlanError: for a wrong one.
    """
    check_choice("FilesSource.clean_source", how, HOW)
    check_text("FilesSource.move_destination", destination, optional=True)
    if how != "move" and destination is not None:
        cure = "it goes with clean_source='move'; leave it out, or write that"
        raise PlanError("FilesSource.move_destination", destination, cure)
    if how == "off":
        return
    if how == "move" and destination is None:
        cure = "name the folder that loaded files are moved to, on the storage they are on: 's3://raw/done/{{ ds }}'"
        raise PlanError("FilesSource.move_destination", None, cure)
    if items != "file":
        cure = f"which files are in is known only where files are the items, but these are {items}s: leave out items="
        raise PlanError("FilesSource.clean_source", how, cure)
    known = [paths] if isinstance(paths, str) else paths if isinstance(paths, list) else []
    for path in [*known, *([destination] if destination else [])]:
        if scheme_of(path) in _READ_ONLY:
            cure = f"files of {scheme_of(path)}:// can be read only: leave it out"
            raise PlanError("FilesSource.clean_source", how, f"{path}: {cure}")
    _check_same_storage(known, destination)


def _check_same_storage(paths: Sequence[str], destination: str | None) -> None:
    if destination is None or is_template(destination):
        return
    for path in paths:
        if not is_template(path) and scheme_of(path) != scheme_of(destination):
            cure = f"{path} is on another storage: name a folder of the same one"
            raise PlanError("FilesSource.move_destination", destination, cure)


def scheme_of(path: str) -> str:
    """The protocol of a path; that of a plain one is ``file``."""
    found, separator, _ = path.partition("://")
    return found if separator else "file"


class Mover:
    """Moves or deletes files.

    :param destination: the folder, without its templates; None: files are deleted.
    :param conn_id: its connection, if its path names none; None: that of the files.
    :param patterns: the paths that the files came from; folders below their last one without a ``*`` are kept.
    """

    def __init__(self, destination: str | None, conn_id: str | None, patterns: Sequence[str]) -> None:
        self._destination = destination
        self._conn_id = conn_id
        self._patterns = patterns
        self._target: Any = None
        self._folder = ""
        self._names: list[str] = []
        self._targets: dict[str, str] = {}
        self.cleaned = 0
        self.left = 0

    @property
    def verb(self) -> str:
        """What it does, as in "could not be moved"."""
        return "deleted" if self._destination is None else "moved"

    @property
    def done_text(self) -> str:
        """The same for the log."""
        return "Deleted" if self._destination is None else f"Moved to {self._destination}"

    def count(self, outcomes: Sequence[Any]) -> None:
        """Count what became of files, for the report."""
        self.cleaned += outcomes.count(DONE)
        self.left += outcomes.count(CHANGED)

    def prepare(self) -> None:
        """Ask Airflow for the connections. Main thread only."""
        places = [storage_path(each, self._conn_id) for each in self._patterns]
        self._names = [name_of(place, each) for place, each in zip(places, self._patterns, strict=True)]
        if self._destination is not None:
            named = "@" in self._destination.partition("://")[2].partition("/")[0]
            others = (place.conn_id for place in places if place.conn_id is not None)
            conn_id = None if named else self._conn_id or next(others, None)
            self._target = storage_path(self._destination, conn_id)
            self._folder = name_of(self._target, self._destination).rstrip("/")
            _ = self._target.fs

    def check_not_found_again(self, files: Sequence[SourceFile]) -> None:
        """Refuse a folder that the patterns themselves look into: its files would be loaded again.

        :raises PlanError: naming a file.
        """
        if self._destination is None:
            return
        self.prepare()
        patterns = [re.compile(glob_translate(name)) for name in self._names if _MAGIC.search(name)]
        others = {name for name in self._names if not _MAGIC.search(name)}
        for file in files:
            target = self._target_of(name_of(storage_path(file.path, file.conn_id), file.path))
            if target in others or any(pattern.match(target) for pattern in patterns):
                cure = f"{file.path} would be found again there by path=: name a folder that path= does not look into"
                raise PlanError("FilesSource.move_destination", self._destination, cure)

    def _target_of(self, name: str) -> str:
        """Where a file goes: the folders below its pattern's last one without a ``*`` are kept."""
        roots = (_fixed(each) for each in self._names)
        root = max((each for each in roots if name.startswith(each)), key=len, default=posixpath.dirname(name) + "/")
        return f"{self._folder}/{name.removeprefix(root)}"

    def assign(self, files: Sequence[SourceFile]) -> None:
        """Give each file a name in the folder; the same ones at every try, and none twice."""
        taken: set[str] = set()
        for file in files if self._destination is not None else ():
            target = self._target_of(name_of(storage_path(file.path, file.conn_id), file.path))
            self._targets[file.path] = target if target not in taken else _other_name(target, file)
            taken.add(target)

    def clean(self, file: SourceFile) -> Outcome:
        """Move or delete one file. From any thread.

        :param file: as it was when it was read.
        :raises SourceError: for one on another storage than the folder.
        :raises OSError: as its storage does.
        """
        place = storage_path(file.path, file.conn_id)
        system, name = place.fs, name_of(place, file.path)
        found = _version(system, name)
        if found is None:
            return GONE
        if found != (file.size, file.etag):
            return CHANGED
        if self._destination is None:
            system.rm_file(name)
            return DONE
        if scheme_of(file.path) != scheme_of(self._destination):
            raise SourceError(f"move_destination={self._destination!r} is on another storage: name one of the same")
        first = self._targets[file.path]
        for target in (first, _other_name(first, file)):
            outcome = _move(system, self._target.fs, name, target, file)
            if outcome is not None:
                return outcome
        raise FileExistsError(f"{target} exists and is another file")


def name_of(place: Any, path: str) -> str:
    """The name of a path, as its file system knows it."""
    name: str = place.fs._strip_protocol(exact_path(place, path) or place.path)  # file systems are written against it
    return name


def _fixed(name: str) -> str:
    """The folder of a pattern's name up to its first ``*``, with a slash at its end."""
    return _MAGIC.split(name, maxsplit=1)[0].rpartition("/")[0] + "/"


def _other_name(target: str, file: SourceFile) -> str:
    """A name for a file whose own is taken, the same at every try: one delivery of ``orders.csv`` after the other."""
    folder, slash, name = target.rpartition("/")
    stem, dot, suffix = name.partition(".")
    version = hashlib.blake2b(f"{file.path}\n{file.size}\n{file.etag}".encode("utf-8", "surrogatepass"), digest_size=6)
    return f"{folder}{slash}{stem}.{version.hexdigest()}{dot}{suffix}"


def _version(system: Any, name: str) -> tuple[int, str] | None:
    system.invalidate_cache()
    try:
        info = system.info(name)
    except FileNotFoundError:
        return None
    return int(info.get("size") or 0), file_version(info)


def _move(system: Any, target_system: Any, name: str, target: str, file: SourceFile) -> Outcome | None:
    """Move a file; None: there is another one of that name."""
    taken = _version(target_system, target)
    if taken is not None:
        if taken[0] != file.size or not _same_content(system, name, target_system, target):
            return None
        system.rm_file(name)  # an earlier try was ended between the copy and this
        return DONE
    if "file" in _protocols(system):
        return _move_local(name, target)
    exact = {"CopySourceIfMatch": file.etag} if {"s3", "s3a"} & _protocols(system) else {}
    system.cp_file(name, target, **exact)
    if _version(system, name) != (file.size, file.etag):
        target_system.rm_file(target)
        return CHANGED
    system.rm_file(name)
    return DONE


def _protocols(system: Any) -> set[str]:
    found = system.protocol
    return {found} if isinstance(found, str) else set(found)


def _move_local(name: str, target: str) -> Outcome | None:
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    try:
        _link(name, target)
    except FileExistsError:
        return None  # since the look
    except FileNotFoundError:
        return GONE
    os.unlink(name)  # noqa: PTH108 - the name as it is
    return DONE


def _link(name: str, target: str) -> None:
    """Give a file a second name, which nobody may have; of a file elsewhere, a copy."""
    try:
        os.link(name, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS):
            raise
        written = f"{target}.{uuid4().hex[:8]}.part"
        try:
            shutil.copy2(name, written)
            os.replace(written, target)  # noqa: PTH105 - a copy appears as a whole
        finally:
            Path(written).unlink(missing_ok=True)


def _same_content(system: Any, name: str, other: Any, target: str) -> bool:
    with system.open(name, "rb") as first, other.open(target, "rb") as second:
        while True:
            piece, same = _read(first), _read(second)
            if piece != same:
                return False
            if not piece:
                return True


def _read(stream: IO[bytes]) -> bytes:
    """A whole piece, unless the file ends."""
    content = b""
    while len(content) < _PIECE and (more := stream.read(_PIECE - len(content))):
        content += more
    return content
