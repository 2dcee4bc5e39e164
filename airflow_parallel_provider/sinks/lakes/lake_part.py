# SPDX-License-Identifier: Apache-2.0
"""A chunk of a load into a lake table whose files are written, and each of these files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_parallel_provider.sinks.files.written_part import WrittenPart


@dataclass(frozen=True, slots=True)
class EncodedFile:
    """A Parquet file in memory."""

    data: bytes
    rows: int
    notes: Mapping[str, Any]
    """What the publisher wants to know of it at the publication, as JSON."""


@dataclass(frozen=True, slots=True)
class PartFile:
    """A Parquet file that is written and belongs to no version of the table yet."""

    file: str
    """Its name in the folder of the table's data."""
    rows: int
    bytes: int
    notes: Mapping[str, Any]
    """See :class:`EncodedFile`."""

    def as_dict(self) -> dict[str, Any]:
        """Its fields, not copied."""
        return {"file": self.file, "rows": self.rows, "bytes": self.bytes, "notes": self.notes}


@dataclass(frozen=True)
class LakePart(WrittenPart):
    """A chunk whose files are written: one, or one for each partition that it has rows of."""

    files: Sequence[Mapping[str, Any]] = field(default=())
    """As :class:`PartFile`."""
    aggregates: str | None = None

    def part_files(self) -> list[PartFile]:
        """The files."""
        return [PartFile(**each) for each in self.files]
