# SPDX-License-Identifier: Apache-2.0
"""What becomes of a row after it was read: records within documents, flat rows, columns from the path."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from airflow_parallel_provider.errors import SourceError

_PARTITION = re.compile(r"(?:^|/)([^/=]+)=([^/]*)(?=/)")
_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"


def records_in(document: Any, place: str | None) -> list[Any]:
    """The records of a document of JSON.

    :param place: names with dots (``"data.items"``); None: the document is the list, or the only record.
    :raises ValueError: if there is nothing at that place.
    """
    if place is None:
        return document if isinstance(document, list) else [document]
    found = document
    names = place.split(".")
    for at, name in enumerate(names):
        if not isinstance(found, Mapping) or name not in found:
            where = f" at {'.'.join(names[:at])!r}" if at else ""
            known = ", ".join(map(repr, list(found)[:5])) if isinstance(found, Mapping) else type(found).__name__
            raise ValueError(
                f"there is nothing at records={place!r}: no {name!r}{where}, which has {known or 'nothing'}"
            )
        found = found[name]
    if found is None:
        return []
    return found if isinstance(found, list) else [found]


def flat(row: Any, separator: str) -> Any:
    """A dict without dicts in it: ``{"a": {"b": 1}}`` is ``{"a__b": 1}``. Lists and empty dicts stay as they are.

    :raises ValueError: if two values get one name.
    """
    if not isinstance(row, dict):
        return row
    found: dict[Any, Any] = {}
    for name, value in _flat_pairs(row, "", separator):
        if name in found:
            raise ValueError(f"two values would be {name!r}: choose another separator with flatten=")
        found[name] = value
    return found


def _flat_pairs(row: Mapping[Any, Any], prefix: str, separator: str) -> Iterator[tuple[Any, Any]]:
    for name, value in row.items():
        whole = f"{prefix}{name}" if prefix else name
        if isinstance(value, dict) and value:
            yield from _flat_pairs(value, f"{whole}{separator}", separator)
        else:
            yield whole, value


def partitions_of(path: str) -> dict[str, str | None]:
    """The columns in the folders of a path, as Hive writes them: ``/day=2026-11-01/shop=7/x.parquet``.

    :raises SourceError: for one that occurs twice.
    """
    found: dict[str, str | None] = {}
    for name, value in _PARTITION.findall(path.partition("://")[2] or path):
        column = unquote(name)
        if column in found:
            raise SourceError(f"{path}: two folders name the column {column!r}")
        found[column] = None if value == _NULL_PARTITION else unquote(value)
    return found


def with_partitions(row: Any, partitions: Mapping[str, str | None]) -> Any:
    """A row, or an Arrow table, with the columns of the path.

    :raises SourceError: if it has one of them itself.
    """
    if isinstance(row, dict):
        _require_new(row, partitions)
        row.update(partitions)
        return row
    if not hasattr(row, "column_names"):
        return row
    import pyarrow as pa

    if not partitions:
        return row
    _require_new(row.column_names, partitions)
    for name, value in partitions.items():
        row = row.append_column(pa.field(name, pa.string()), pa.array([value] * len(row), pa.string()))
    return row


def _require_new(names: Any, partitions: Mapping[str, str | None]) -> None:
    taken = next((name for name in partitions if name in names), None)
    if taken is not None:
        cure = "rename it in the file, or leave out hive_partitioning="
        raise SourceError(f"the rows have the column {taken!r} of the path themselves: {cure}")
