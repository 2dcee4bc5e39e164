# SPDX-License-Identifier: Apache-2.0
"""One load into a lake table: a part for each chunk, which no reader sees, and one publication of all parts.

::

    chunk      one Parquet file in the table's folder, in no version of it   part-<load>-<chunk>-<try>.parquet
               (one for each partition that the chunk has rows of)           part-<load>-<chunk>-p<n>-<try>.parquet
               noted at most once a second                                   _progress-<load>.json
    the end    what is about to be published                                 _manifest-<load>-<try>.json
               one commit with all parts, the load, and which try it is      unless the load is in already
               what lost tries have left is deleted

A part has a name of its try's own, because the log of a table holds sizes and bounds of its files: a part that another
attempt overwrites would no longer be what they say.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from airflow_parallel_provider.engine.interfaces.records import ChunkResult, CommittedChunk, LoadSpec
from airflow_parallel_provider.errors import LoadMismatch, SinkError
from airflow_parallel_provider.rows.block import to_block
from airflow_parallel_provider.sinks.aggregates.partials import (
    from_text,
    merge_partials,
    partials_of,
    results_of,
    to_text,
)
from airflow_parallel_provider.sinks.files.chunk_entries import report_rejected, write_entries
from airflow_parallel_provider.sinks.files.file_load import FileLoad
from airflow_parallel_provider.sinks.files.row_isolation import encode_good_rows
from airflow_parallel_provider.sinks.lakes.encoder import LakeEncoder
from airflow_parallel_provider.sinks.lakes.lake_part import LakePart, PartFile
from airflow_parallel_provider.sinks.lakes.merge import Merge, keys_of, last_of_each, newest_rows, widened
from airflow_parallel_provider.sinks.lakes.part_folder import PartFolder
from airflow_parallel_provider.sinks.lakes.publisher import Publication

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_parallel_provider.rows.reject import RejectedRow
    from airflow_parallel_provider.rows.rejection_limit import RejectionLimit
    from airflow_parallel_provider.sinks.aggregates.declare import Aggregate
    from airflow_parallel_provider.sinks.files.store import FileStore
    from airflow_parallel_provider.sinks.lakes.publisher import Publisher


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What an author has declared of the rows."""

    columns: tuple[str, ...] | None
    replace: bool
    key: tuple[str, ...]
    """Of a merge; empty: it is none."""
    add_columns: bool
    validate: Any
    aggregates: Mapping[str, Aggregate]


class LakeLoad(FileLoad):
    """Writes the chunks of one load, and publishes them.

    :param store: the folder of the table.
    :param limit: of rejected rows.
    :param reached: called at ``after_part``, ``after_progress``, ``before_publication`` and ``after_publication``.
    """

    part_class = LakePart

    def __init__(
        self,
        store: FileStore,
        load_spec: LoadSpec,
        encoder: LakeEncoder,
        publisher: Publisher,
        options: LoadOptions,
        *,
        limit: RejectionLimit,
        reached: Callable[[str], None],
    ) -> None:
        super().__init__(store, load_spec, encoder, limit)
        self._lake_encoder = encoder
        self._publisher = publisher
        self._options = options
        self._reached = reached
        self._own_try = uuid4().hex[:8]
        self._folder = PartFolder(store, self._load, self._own_try)
        self._won: int | None = None
        """The number of the try that has published the load; None: none has."""
        self._manifest = self._manifest_of(self._own_try)

    def _manifest_of(self, try_name: str) -> str:
        return f"_manifest-{self._load}-{try_name}.json"

    def begin(self, file_format: str, columns: list[str] | None, *, replaces: bool) -> Mapping[str, CommittedChunk]:
        """Create the folder; return the chunks whose parts exist, and of a load that is published all of them.

        :raises LoadMismatch: if the load was begun on other terms.
        """
        self._won = self._publisher.published(self._load)
        if self._won is not None:
            self._manifest = self._manifest_of(f"{self._won:08x}")
        found = super().begin(file_format, columns, replaces=replaces)
        if self._won is None and (self._lake_encoder.schema is None or self._options.key):
            self._lake_encoder.meet(self._publisher.schema())
        return found

    def _own_terms(self) -> dict[str, Any]:
        return {"primary_key": list(self._options.key) or None}

    def _is_there(self, part: Mapping[str, Any], names: set[str]) -> bool:
        # A published part belongs to the table, which may rewrite it.
        return self._won is not None or all(each["file"] in names for each in part["files"])

    def write(self, chunk: ChunkResult) -> int | None:
        """Write the part of a chunk, its dead letters and its rejected rows; return how many rows the part has.

        :return: None if the load is published: then the chunk was in it, as far as can be told.
        :raises LoadMismatch: if it was not.
        :raises SchemaMismatch: if rows cannot be written, and none of them may be rejected.
        :raises RowsRejected: if more rows are refused than the load may have.
        """
        where = f"chunk {chunk.chunk_id}"
        if self._won is not None:
            self._require_published(where)
            return None
        if not self._may_write():
            return None
        rows, numbers, rejected = self._valid(chunk)
        self._limit.enforce(rejected, where)
        refused = rejected
        table, rejected = self._encoded(
            lambda: encode_good_rows(
                self._lake_encoder, LakeEncoder.table, rows, where, self._limit, numbers=numbers, rejected=refused
            )
        )
        encoded = [] if table is None else self._publisher.encode(self._last_rows(table))
        write_entries(self._store, self._load, chunk, rejected, self._old_entries)
        files = self._folder.write(chunk.chunk_id, encoded)
        self._reached("after_part")
        part = LakePart(
            chunk.chunk_id,
            chunk.items,
            0 if table is None else table.num_rows,
            dead_letters=len(chunk.dead_letters),
            rows_rejected=len(rejected),
            failed_items=chunk.failed_items,
            items_filtered=chunk.items_filtered,
            file=files[0].file if files else None,
            bytes=sum(each.bytes for each in files),
            files=[each.as_dict() for each in files],
            aggregates=None if table is None else self._aggregates_of(table, where),
        )
        self._add(part)
        self._reached("after_progress")
        report_rejected(self._limit, chunk, rejected)
        return part.rows

    def _last_rows(self, table: Any) -> Any:
        """Of a merge, the last row of the chunk with each key; it is in one file then, whatever the partitions."""
        last = last_of_each(keys_of(table, self._options.key)) if self._options.key else None
        return table if last is None else table.filter(last)

    def _require_published(self, where: str) -> None:
        """Refuse a chunk that is not among those of the published load, as far as these are known."""
        if self._store.read(self._manifest) is not None:
            raise LoadMismatch(
                f"load {self._load_key!r} is in {self._publisher.name} already, and {where} was not in it: the source "
                "has changed. Use another load_key"
            )

    def _valid(self, chunk: ChunkResult) -> tuple[Sequence[Any], list[int] | None, list[RejectedRow]]:
        """The valid rows of a chunk, their numbers (None: they are all of its rows), and the rejected rows."""
        if self._options.validate is None:
            return chunk.rows, None, []
        from airflow_parallel_provider.rows.validate import validate_rows

        return validate_rows(self._options.validate, chunk.rows, self._options.columns)

    def _aggregates_of(self, table: Any, where: str) -> str | None:
        if not self._options.aggregates:
            return None
        return to_text(partials_of(to_block([table], None), self._options.aggregates, where))

    def aggregates(self) -> dict[str, Any]:
        """The aggregates over the rows of the load."""
        declared = self._options.aggregates
        texts = [part.aggregates for part in self._lake_parts()]
        return results_of(merge_partials([from_text(text) for text in texts if text], declared), declared)

    def complete(self) -> None:
        """Publish the parts, unless the load is published; delete what lost tries have left.

        :raises SinkError: if a part is gone, or the table cannot take the parts.
        """
        self._enforce_whole()
        if self._won is None:
            self.record_progress()
            own, options = int(self._own_try, 16), self._options
            merge = self._keep_newest_rows() if options.key else None
            self._store.write(self._manifest, self._record("complete", self._parts))
            self._reached("before_publication")
            self._won = self._publisher.publish(
                Publication(
                    self._load,
                    own,
                    self._files_to_publish(),
                    self._lake_encoder.schema,
                    replace=options.replace,
                    add_columns=options.add_columns,
                    merge=merge,
                )
            )
            self._reached("after_publication")
            if self._won != own:
                self._adopt()
        if self._publisher.published(self._load) is not None:  # else there is no table, nor a row to make one of
            self._sweep()

    def _lake_parts(self) -> list[LakePart]:
        parts = [part for part in self._parts.values() if isinstance(part, LakePart)]
        return sorted(parts, key=lambda part: part.chunk_id)

    def _files_to_publish(self) -> list[PartFile]:
        names = self._store.names()
        files = [each for part in self._lake_parts() for each in part.part_files()]
        gone = [each.file for each in files if each.file not in names]
        if gone:
            if self._publisher.published(self._load) is not None:
                return []  # another attempt has published the load, and swept: publish() will find that
            raise SinkError(
                f"{self._store.display_name}: {len(gone)} parts of the load, as {gone[0]}, were deleted before they "
                "were published. Run the task again: it writes them again"
            )
        return files

    def _keep_newest_rows(self) -> Merge | None:
        """Take the rows out of the parts that a later chunk has a row for; None: there are no rows, or it is too late.

        Too late: another attempt has published the load, and deletes its parts.
        """
        if not self._files_to_publish():
            return None
        schema = self._lake_encoder.schema
        try:
            parts, merge = newest_rows(
                self._lake_parts(),
                self._options.key,
                self._folder,
                lambda rows: self._publisher.encode(widened(rows, schema)),
            )
        except FileNotFoundError:
            self._files_to_publish()
            return None
        self._parts.update((part.chunk_id, part) for part in parts)
        return merge

    def _adopt(self) -> None:
        """Take the word of the try that was faster, for the figures."""
        self._store.remove([self._manifest])
        self._manifest = self._manifest_of(f"{self._won:08x}")
        text = self._store.read(self._manifest)
        if text is not None:
            self._parts = {part["chunk_id"]: LakePart(**part) for part in json.loads(text)["parts"]}

    def _sweep(self) -> None:
        """Delete what tries have left that did not publish the load. An attempt that still runs will find that out."""
        names = self._store.names()
        if self._manifest in names:
            kept = {each.file for part in self._lake_parts() for each in part.part_files()}
            if not self._publisher.names_parts(self._load):
                kept = set()
            left = self._folder.left(names, kept, self._won or 0)
            left |= {name for name in names if name.startswith(f"_manifest-{self._load}-") and name != self._manifest}
            self._store.remove(sorted(left))
        self._remove_notes()

    def _is_complete(self) -> bool:
        return self._publisher.published(self._load) is not None

    def record_progress(self) -> None:
        """Write down which parts exist, if there are new ones and the load is not published."""
        if self._won is None:
            super().record_progress()
