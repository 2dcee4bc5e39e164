# SPDX-License-Identifier: Apache-2.0
"""``DeadLetterFiles``: dead letters as JSON lines in a folder, instead of a table."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_parallel_provider.checks import check_text


@dataclass(frozen=True)
class DeadLetterFiles:
    """A folder for the dead letters of a ``SinkTable``: one file of JSON lines for each chunk that has some.

    ::

        SinkTable("orders", conn_id="warehouse", dead_letters=DeadLetterFiles("s3://aws@lake/dead/orders"))

    A file is named after its load and chunk. It appears as a whole, just before the chunk commits. A later attempt at
    the chunk writes the same file again, or deletes it when no item has failed this time. So each dead letter exists
    once.

    Known limitations: a file does not commit together with the rows. After a kill the file of a chunk that has not
    committed may exist; the retry replaces or deletes it. ``ReplayDeadLettersOperator`` needs a table.

    :param path: folder on any storage of ``ObjectStoragePath``; created if it does not exist.
    :param conn_id: Airflow connection of the storage; it may also be part of the path.
    :raises PlanError: for an invalid argument.
    """

    path: str
    conn_id: str | None = None

    def __post_init__(self) -> None:
        """Check."""
        object.__setattr__(self, "path", str(self.path))
        check_text("DeadLetterFiles.path", self.path)
        check_text("DeadLetterFiles.conn_id", self.conn_id, optional=True)
