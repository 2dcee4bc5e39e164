# SPDX-License-Identifier: Apache-2.0
"""Files of loads that were never published."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_parallel_provider.sinks.files.store import FileStore
    from airflow_parallel_provider.sinks.lakes.publisher import Publisher

_OURS = re.compile(
    r"\.?(?:part-(?P<part>[0-9a-f]{16})-.+-[0-9a-f]{8}\.parquet|_(?:progress|columns)-(?P<progress>[0-9a-f]{16})(?:-[0-9a-f]{8})?\.json"
    r"|_manifest-(?P<manifest>[0-9a-f]{16})-[0-9a-f]{8}\.json)(?:\.[0-9a-f]{8}\.tmp)?"
)


def delete_orphans(store: FileStore, publisher: Publisher, older_than: timedelta) -> int:
    """Delete the files of loads that are not in the table and were not touched for so long; return how many.

    Dead letters and rejected rows stay: they are for people.
    """
    before = datetime.now(UTC) - older_than
    by_load: dict[str, list[str]] = {}
    for name in sorted(store.names()):
        found = _OURS.fullmatch(name)
        if found is not None:
            load = found["part"] or found["progress"] or found["manifest"]
            by_load.setdefault(load, []).append(name)
    deleted = 0
    for load, names in by_load.items():
        if publisher.published(load) is not None:  # a version of the table may name them
            continue
        if all(store.modified(name) < before for name in names):
            store.remove(names)
            deleted += len(names)
    return deleted
