"""Three lanes for ``make test``: while a test of one lane waits for Airflow or a server, the others use the processor.

A lane is a worker of pytest-xdist. Tests that share servers which they watch, stop or fill are one group, which runs in
one lane, one test after the other, so that no test sees the locks, queues or processes of another one that runs at the
same time:

* ``airflow``: everything that starts an Airflow with scheduler and server;
* ``databases``: everything that talks to a database server and watches its locks, stops it or kills its sessions;
* ``stores``: everything that talks to a broker or an object store.

All other tests have a schema, a database or a file of their own, or start threads and processes of their own, and share
nothing. Each of their folders is a group, which goes to the lane that is free first, so many small ones in the end have
all lanes end together.
"""

from __future__ import annotations

from typing import Any

from xdist.scheduler import LoadScopeScheduling

GROUPS = {
    "airflow": ("system",),
    "databases": ("chaos", "sinks/commit", "sinks/ledger"),
    "backends": ("sql",),
    "load": ("sinks/load",),
    "examples": ("examples",),
    "operators": ("operators", "decorators"),
    "stores": ("sources/queue", "sinks/lakes", "sinks/files", "sources/files"),
    "faults": ("faults",),
    "engine": ("engine",),
    "sink": ("sinks",),
    "tables": ("sources/sql",),
    "bridge": ("bridge", "plugins", "monitoring"),
}
"""The folders of each group, in the order in which their tests run: those that take longest come first."""

_ORDER = [folder for folders in GROUPS.values() for folder in folders]
_GROUP_OF = {folder: group for group, folders in GROUPS.items() for folder in folders}


def place_of(node_id: str) -> int:
    """The place of a test in the order of all tests: these groups first."""
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
    """The folder below ``tests``, or one below that if it has a group of its own; a file stands for itself."""
    parts = node_id.split("::", maxsplit=1)[0].split("/")
    inner = "/".join(parts[1:3])
    return inner if inner in _GROUP_OF else parts[1]
