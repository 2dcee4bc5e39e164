# SPDX-License-Identifier: Apache-2.0
"""What a ledger remembers of the files of a load."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from airflow_parallel_provider.engine.dataflow.chunk import chunk_id
from airflow_parallel_provider.errors import LoadMismatch
from airflow_parallel_provider.sources.files.listing import group_lengths
from airflow_parallel_provider.values.items import SourceFile

_NAMED = 5
"""Most changed files that an error names."""

Files = Sequence[tuple[SourceFile, int]]
"""Files of a load, and the number of the chunk that each is in."""


def as_lists(files: Sequence[SourceFile]) -> list[list[Any]]:
    """Path, size and ETag of each file, as JSON."""
    return [[file.path, file.size, file.etag] for file in files]


def connections_of(files: Sequence[SourceFile], conn_id: str | None) -> dict[str, str | None]:
    """The connections of the buckets that have another one than their source."""
    return {_bucket(file.path): file.conn_id for file in files if file.conn_id != conn_id}


def files_in(state: Mapping[str, Any], chunk_size: int, conn_id: str | None) -> tuple[Files, list[SourceFile]]:
    """The files of a load, and those that earlier loads have left.

    :param state: of its source.
    :param chunk_size: most files of a chunk.
    :param conn_id: of the source.
    """
    others = state.get("conn_ids", {})
    files, rest = (
        [replace(file, conn_id=others.get(_bucket(file.path), conn_id)) for file in _files(state.get(name, ()))]
        for name in ("files", "left_over")
    )
    most = state.get("chunk_bytes")
    lengths = None if most is None else group_lengths([file.size for file in files], most, chunk_size)
    return _numbered(files, lengths, chunk_size), rest


def restored(
    found: Files, present: Callable[[SourceFile], SourceFile | None], may_be_gone: Collection[str], source: str
) -> tuple[SourceFile, ...]:
    """The files of the first try, if they are as they were.

    :param present: gives a file as it is now, if it exists.
    :param may_be_gone: ids of chunks whose files nobody reads again.
    :param source: its identity, for errors.
    :raises LoadMismatch: naming the files that have changed or no longer exist.
    """
    kept: list[SourceFile] = []
    changed: list[str] = []
    for file, number in found:
        now = present(file)
        if chunk_id(number) in may_be_gone:
            kept.append(file)
        elif now is None:
            changed.append(f"{file.path} no longer exists")
        elif (now.size, now.etag) != (file.size, file.etag):
            before = f"{file.size} bytes, etag {file.etag}"
            changed.append(f"{file.path} has changed ({before}; now {now.size} bytes, etag {now.etag})")
        else:
            kept.append(now)
    if changed:
        more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
        raise LoadMismatch(
            f"{source}: since the first try of this load {'; '.join(changed[:_NAMED])}{more}. The committed chunks "
            "would not be the same: restore the files, or start a new load (another load_key, or clear the task)"
        )
    return tuple(kept)


def _files(found: Sequence[Sequence[Any]]) -> list[SourceFile]:
    return [SourceFile(path, size, etag) for path, size, etag in found]


def _numbered(files: Sequence[SourceFile], lengths: Sequence[int] | None, chunk_size: int) -> Files:
    """The files with the numbers of their chunks.

    :param lengths: files of each chunk; None: ``chunk_size`` each.
    """
    if lengths is None:
        return [(file, at // chunk_size) for at, file in enumerate(files)]
    numbers = (number for number, length in enumerate(lengths) for _ in range(length))
    return list(zip(files, numbers, strict=True))


def _bucket(path: str) -> str:
    """Protocol and host of a path."""
    scheme, separator, rest = path.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}" if separator else ""
