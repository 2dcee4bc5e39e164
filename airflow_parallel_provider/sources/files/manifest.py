# SPDX-License-Identifier: Apache-2.0
"""Manifests: files that list the files of a load."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_parallel_provider.errors import SourceError
from airflow_parallel_provider.sources.files.lookup import Found, files_at
from airflow_parallel_provider.values.items import SourceFile
from airflow_parallel_provider.values.unpack import compression_of

_LARGEST = 256 << 20
"""Bytes of a manifest. A larger one lists millions of files, or is one of the files itself."""
_NAMED = 5
"""Most files that an error names."""

_SHAPES = (
    "a manifest has one path per line, or is JSON: a list of paths, or {'entries': [{'url': ..., 'mandatory': true}]}"
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One file that a manifest lists."""

    path: str
    """With its protocol, or absolute."""
    place: str
    """``line 3`` or ``entry 3``, for error texts."""
    mandatory: bool = True
    """Whether the load fails if the file does not exist."""
    size: int | None = None
    """Bytes that the file must have; None: the manifest does not say."""


def files_of_manifest(manifest: SourceFile, conn_id: str | None, missing: list[str], *, strict: bool) -> list[Found]:
    """The files that a manifest lists, in its order, each with the time when it was written. Main thread only.

    :param conn_id: of the files whose paths do not name a connection.
    :param missing: gets the paths of files that do not exist and need not.
    :param strict: whether files must be there, and as large as the manifest says.
    :raises SourceError: if the manifest cannot be read, a mandatory file does not exist, or one has another size than
        the manifest says. Names the files.
    """
    try:
        entries = list(entries_of(_text_of(manifest), manifest.path))
    except SourceError as error:
        raise SourceError(f"manifest {manifest.path}: {error}") from None
    found = files_at([(entry.path, conn_id or _conn_of(manifest, entry)) for entry in entries])
    absent = [entry for entry, file in zip(entries, found, strict=True) if file is None]
    missing.extend(entry.path for entry in absent if not entry.mandatory)
    if strict:
        _check(manifest, entries, found)
    return [file for file in found if file is not None]


def _check(manifest: SourceFile, entries: Sequence[Entry], found: Sequence[Found | None]) -> None:
    absent = [entry for entry, file in zip(entries, found, strict=True) if file is None]
    needed = [f"{entry.path} ({entry.place})" for entry in absent if entry.mandatory]
    if needed:
        raise SourceError(
            f"manifest {manifest.path}: {_listed(needed)} not there: have them written, or write 'mandatory': false "
            "for what may be absent"
        )
    other = [
        f"{entry.path} ({entry.place}: {entry.size} bytes, but it has {file[0].size})"
        for entry, file in zip(entries, found, strict=True)
        if file is not None and entry.size not in (None, file[0].size)
    ]
    if other:
        raise SourceError(f"manifest {manifest.path}: {_listed(other)} not as large as the manifest says")


def _listed(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _NAMED} more" if len(texts) > _NAMED else ""
    return f"{', '.join(texts[:_NAMED])}{more} {'is' if len(texts) == 1 else 'are'}"


def _conn_of(manifest: SourceFile, entry: Entry) -> str | None:
    """The connection of a manifest is also that of the files in the same kind of storage."""
    return manifest.conn_id if _scheme(entry.path) == _scheme(manifest.path) else None


def _scheme(path: str) -> str:
    return path.partition("://")[0] if "://" in path else "file"


def _text_of(manifest: SourceFile) -> str:
    try:
        with manifest.open("rb", compression=compression_of(manifest.name, "infer")) as stream:
            content = stream.read(_LARGEST + 1)
    except SourceError:
        raise
    except Exception as error:
        raise SourceError(f"it cannot be read ({type(error).__name__}: {error})") from error
    if len(content) > _LARGEST:
        raise SourceError(f"it has more than {_LARGEST:,} bytes: {_SHAPES}")
    try:
        return str(content, "utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(f"byte 0x{content[error.start]:02x} at {error.start} is not utf-8: {_SHAPES}") from None


def entries_of(text: str, manifest: str) -> Iterator[Entry]:
    """The entries of a manifest.

    :param text: its content: one path per line, or JSON.
    :param manifest: its path, whose folder relative paths start from.
    :raises SourceError: if it is none.
    """
    if text.lstrip()[:1] in ("[", "{"):
        yield from _entries_of_json(text, manifest)
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield Entry(_resolved(line.strip(), manifest, f"line {number}"), f"line {number}")


def _entries_of_json(text: str, manifest: str) -> Iterator[Entry]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"it is no JSON ({error}): {_SHAPES}") from None
    if isinstance(found, Mapping):
        found = found.get("entries")
    if not isinstance(found, list):
        raise SourceError(f"it has no list of entries: {_SHAPES}")
    for number, each in enumerate(found, 1):
        place = f"entry {number}"
        if isinstance(each, str):
            yield Entry(_resolved(each, manifest, place), place)
        elif isinstance(each, Mapping):
            yield _entry(each, manifest, place)
        else:
            raise SourceError(f"{place} is neither a path nor an object with 'url': {_SHAPES}")


def _entry(given: Mapping[str, Any], manifest: str, place: str) -> Entry:
    """An entry as COPY of Redshift takes it: the file may be absent unless ``mandatory`` is true."""
    path, mandatory, meta = given.get("url", given.get("path")), given.get("mandatory", False), given.get("meta")
    if not isinstance(path, str) or not path:
        raise SourceError(f"{place} has no 'url': {_SHAPES}")
    if not isinstance(mandatory, bool):
        raise SourceError(f"{place}: 'mandatory' is {mandatory!r}: write true or false")
    size = meta.get("content_length") if isinstance(meta, Mapping) else None
    if size is not None and (type(size) is not int or size < 0):
        raise SourceError(f"{place}: 'content_length' is {size!r}: give the file's bytes, or leave it out")
    return Entry(_resolved(path, manifest, place), place, mandatory, size)


def _resolved(path: str, manifest: str, place: str) -> str:
    """A path as it stands in the manifest; one without protocol begins at the manifest's folder."""
    if "://" in path:
        return path
    scheme, separator, rest = manifest.partition("://")
    local = not separator or scheme == "file"
    if path.startswith("/"):
        if local:
            return path
        raise SourceError(f"{place}: {path!r} begins with a slash: give it with its protocol, as {scheme}://bucket/...")
    folder = (rest if separator else manifest).rpartition("/")[0]
    parts = path.split("/")
    joined = f"{folder}/{path}"
    if "." in parts or ".." in parts:
        root = "" if local else f"{folder.partition('/')[0]}/"
        joined = posixpath.normpath(joined)
        if not joined.startswith(root):
            raise SourceError(f"{place}: {path!r} leaves the bucket of the manifest")
    return f"{scheme}://{joined}" if separator else joined
