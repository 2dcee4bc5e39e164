"""Two lanes for ``make test``: while a test of one lane waits for Airflow, the other lane uses the processor.

A lane is a worker of pytest-xdist. Tests that share servers are one group, which runs in one lane, one test after the
other, so that no test sees the tables, locks, queues or processes of another one that runs at the same time:

* ``airflow``: everything that starts an Airflow or imports its SDK;
* ``databases``: everything that talks to a database server, a broker or an object store.

All other tests start threads and processes of their own and share nothing. Each of their folders is a group, which goes
to the lane that is free first.
"""

from __future__ import annotations

from typing import Any

from xdist.scheduler import LoadScopeScheduling

GROUPS = {
    "airflow": ("system", "examples", "operators", "decorators", "bridge", "plugins", "monitoring"),
    "databases": ("chaos", "sources", "sinks", "sql", "rows", "values"),
}
"""The folders of each group, in the order in which their tests run: those that take longest come first."""

_ORDER = [folder for folders in GROUPS.values() for folder in folders]
_GROUP_OF = {folder: group for group, folders in GROUPS.items() for folder in folders}


def place_of(node_id: str) -> int:
    """The place of a test in the order of all tests: both groups first."""
    folder = _folder(node_id)
    return _ORDER.index(folder) if folder in _ORDER else len(_ORDER)


class Lanes(LoadScopeScheduling):  # type: ignore[misc]
    """Gives each lane a whole group at a time."""

    def __init__(self, config: Any, log: Any) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # the order is that of :func:`place_of`

    def _split_scope(self, nodeid: str) -> str:
        folder = _folder(nodeid)
        return _GROUP_OF.get(folder, folder)


def _folder(node_id: str) -> str:
    """The folder below ``tests``; a file that lies there stands for itself."""
    return node_id.split("::", maxsplit=1)[0].split("/")[1]
