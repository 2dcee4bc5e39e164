# SPDX-License-Identifier: Apache-2.0
"""A chunk whose file is written, and what all files of a load have in common."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Protocol, Self

from airflow_parallel_provider.engine.interfaces.records import CommittedChunk


@dataclass(frozen=True)
class WrittenPart(CommittedChunk):
    """A chunk whose part has been written."""

    file: str | None = None
    """None: it has no rows."""
    bytes: int = 0

    @cached_property
    def as_json(self) -> str:
        """Its fields in one line; made once, as it is noted over and over."""
        return json.dumps({each.name: getattr(self, each.name) for each in fields(self)})


@dataclass(frozen=True)
class NotedPart(CommittedChunk):
    """A chunk that a shard says it has written, for those who watch the load."""

    labels: Mapping[str, str] = field(default_factory=dict)
    """Of the shard's run; empty if an earlier version has written the note."""
    committed_at: str = ""
    """When the shard wrote its last part."""

    @classmethod
    def of(cls, note: Mapping[str, Any]) -> dict[str, CommittedChunk]:
        """The chunks in a note, by their ids."""
        names = [each.name for each in fields(CommittedChunk)]
        labels, when = note.get("written_by") or {}, note.get("written_at") or ""
        parts = ({name: part[name] for name in names if name in part} for part in note["parts"])
        return {part["chunk_id"]: cls(**part, labels=labels, committed_at=when) for part in parts}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass
class LoadSpan:
    """When a load was begun, and when its last part was written: UTC, as ISO texts."""

    begun_at: str = field(default_factory=_now)
    written_at: str | None = None

    @classmethod
    def of(cls, notes: Sequence[Mapping[str, Any]]) -> Self:
        """That of the notes of a load: its beginning, then its shards'."""
        written = [note["written_at"] for note in notes if note.get("written_at")]
        return cls(notes[0].get("begun_at") or _now(), max(written, default=None))

    def written(self) -> None:
        """A part is written."""
        self.written_at = _now()

    @property
    def seconds(self) -> float | None:
        """From the one to the other; None as long as there is no part."""
        if self.written_at is None:
            return None
        began, ended = map(datetime.fromisoformat, (self.begun_at, self.written_at))
        return max(0.0, (ended - began).total_seconds())

    def as_dict(self) -> dict[str, str | None]:
        """For a note."""
        return asdict(self)


class ColumnState(Protocol):
    """What knows the columns of all parts."""

    def state(self) -> dict[str, Any]:
        """What later attempts must keep to, as JSON."""

    def restore(self, state: dict[str, Any], /) -> None:
        """Keep to what an earlier attempt has written."""
