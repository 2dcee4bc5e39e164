# SPDX-License-Identifier: Apache-2.0
"""Files of an Iceberg table: what is noted of them when they are written, and what the table is told at the end."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_parallel_provider.sinks.lakes.iceberg.partitions import Partitions
    from airflow_parallel_provider.sinks.lakes.lake_part import PartFile

_BOUNDS = ("lower_bounds", "upper_bounds")
_COUNTS = ("column_sizes", "value_counts", "null_value_counts", "nan_value_counts")


def notes_of(statistics: dict[str, Any], spec: int, partition: Sequence[str | None]) -> dict[str, Any]:
    """What is noted of a file, as JSON.

    :param statistics: as ``pyiceberg`` serializes them.
    :param spec: number of the partition spec.
    :param partition: of ``Partitions.noted``.
    """
    bounds = {
        name: {column: base64.b64encode(value).decode() for column, value in statistics[name].items()}
        for name in _BOUNDS
    }
    return {"spec": spec, "partition": partition, "statistics": {**statistics, **bounds}}


def data_file(file: PartFile, folder: str, partitions: Partitions) -> Any:
    """A file as the table is told of it.

    :param folder: its address.
    """
    from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
    from pyiceberg.typedef import Record

    return DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=f"{folder}/{file.file}",
        file_format=FileFormat.PARQUET,
        partition=Record(*partitions.values(file.notes["partition"])),
        file_size_in_bytes=file.bytes,
        sort_order_id=None,
        spec_id=file.notes["spec"],
        equality_ids=None,
        key_metadata=None,
        **_statistics(file.notes["statistics"]),
    )


def _statistics(noted: dict[str, Any]) -> dict[str, Any]:
    counts = {name: {int(column): count for column, count in noted[name].items()} for name in _COUNTS}
    bounds = {name: {int(column): base64.b64decode(text) for column, text in noted[name].items()} for name in _BOUNDS}
    return {**noted, **counts, **bounds}
