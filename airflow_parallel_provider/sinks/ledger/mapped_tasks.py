# SPDX-License-Identifier: Apache-2.0
"""Mapped tasks: loads that the other task instances of one mapped task have begun."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

TYPES_HINT = (
    "The mapped task instances of a task write at the same time, and the first chunk that comes decides the types of a "
    "new table: declare them (SinkTable.columns) or create the table before"
)


@dataclass(frozen=True, slots=True)
class MappedTask:
    """One task instance of a mapped task, as the labels of its load name it."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    run_start: str
    """When the run began; a Clear of a finished run changes it."""

    @classmethod
    def of(cls, labels: Mapping[str, str]) -> Self | None:
        """The task instance with these labels; None if it is not mapped."""
        try:
            map_index = int(labels.get("map_index", "-1"))
        except ValueError:  # labels of a pipeline that runs without Airflow may say anything
            return None
        if map_index < 0:
            return None
        run_start = labels.get("generation", "").rpartition("/")[0]
        dag_id, run_id, task_id = (labels.get(name, "") for name in ("dag_id", "run_id", "task_id"))
        return cls(dag_id, run_id, task_id, map_index, run_start)

    def other(self, labels: Mapping[str, str]) -> MappedTask | None:
        """Another task instance of this task and run, if these are its labels."""
        found = MappedTask.of(labels)
        if found is None or found.map_index == self.map_index or found.ids != self.ids:
            return None
        return found

    @property
    def ids(self) -> tuple[str, str, str]:
        """What all task instances of the task have in common."""
        return self.dag_id, self.run_id, self.task_id

    @property
    def like(self) -> str:
        """A LIKE pattern without escapes that matches, among others, the labels of this run."""
        return f"%{re.sub('[^0-9A-Za-z]', '_', self.run_id)}%" if self.run_id.isascii() else "%"

    def shared_load(self, load_key: str, other: MappedTask) -> str:
        """Why this task instance may not continue the load of another one."""
        return (
            f"load {load_key!r} was begun by task instance {other.map_index} of the mapped task {self.task_id!r}, and "
            f"this is task instance {self.map_index}: it would skip the chunks of that one, which are not its own. Put "
            "{{ ti.map_index }} into load_key, or leave load_key out. If this is the same work under a new index, "
            "discard the load"
        )

    def shared_target(self, target: str, other: MappedTask, load_key: str) -> str:
        """Why this task instance may not replace what another one writes."""
        return (
            f"{target}: task instance {other.map_index} of the mapped task {self.task_id!r} also replaces it (load "
            f"{load_key!r}), and this is task instance {self.map_index}: only the rows of the one that ends last would "
            "be left. This task instance has replaced nothing. Use .sharded(), one load of "
            "all, or give each its own target (for example with "
            "{{ ti.map_index }} in the name), or use write_disposition='append' with on_rerun='replace'. If that load "
            "is of an earlier mapping, discard it"
        )
