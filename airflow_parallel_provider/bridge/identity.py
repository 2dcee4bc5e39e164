# SPDX-License-Identifier: Apache-2.0
"""Which load a try of a task belongs to: a retry continues it, a Clear begins another one."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Context

_READABLE = 160
"""Most characters of the readable part of a load key; with the digest the key stays under 200."""


@dataclass(frozen=True, slots=True)
class LoadPart:
    """A part of a load that several tasks write together: which load it is, as the task that began it has named it.

    A shard that is cleared alone has another generation of its own; it must not be taken for another load.
    """

    load_key: str
    family: str
    generation: str
    shard: tuple[int, int] | None = None
    """None: the end of the load."""

    @property
    def name(self) -> str:
        """Which part it is: ``shard`` or ``finish``."""
        return "finish" if self.shard is None else "shard"

    @classmethod
    def of(cls, entry: Mapping[str, Any], *, finish: bool = False) -> Self:
        """Read it from an entry of what the beginning of the load has returned."""
        load_key, family, generation = (str(entry[name]) for name in ("load_key", "family", "generation"))
        return cls(load_key, family, generation, None if finish else (int(entry["shard"]), int(entry["of"])))

    def shards(self, count: int) -> list[dict[str, Any]]:
        """The entries for that many shards of this load; plain JSON."""
        load = {"load_key": self.load_key, "family": self.family, "generation": self.generation}
        return [{"shard": index, "of": count, **load} for index in range(count)]


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """Names one try of one task instance, and the load it works on.

    A *generation* is the tries between two Clears. It is identified by two values that Airflow keeps through every
    automatic retry and changes with every Clear:

    * ``max_tries`` of the task instance: set once from ``retries``, raised by a Clear to the tries made so far plus
      ``retries``. It is compared as it is and nothing is subtracted from it, so that an edit of ``retries`` between
      two tries does not start a second load by accident.
    * the start of the DAG run: it differs for a run that was deleted and created again under the same id, for a second
      ``airflow dags test``, and after a Clear of a finished run.

    ``ti.id`` does not help: it changes with every try.

    What it does not do: tell a Clear from a retry where ``retries`` was lowered by exactly the number of tries made, in
    a run that was still running.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    """-1 for a task that is not mapped."""
    attempt: int
    """Airflow's try number, from 1."""
    generation: str
    """The same text for all tries that belong together."""

    @classmethod
    def from_context(cls, context: Context | Mapping[str, Any]) -> Self:
        """Read it from the context that ``execute`` is given."""
        ti: Any = context["ti"]
        run: Any = context.get("dag_run")
        started = getattr(run, "start_date", None)
        map_index = ti.map_index
        return cls(
            dag_id=ti.dag_id,
            run_id=ti.run_id,
            task_id=ti.task_id,
            map_index=-1 if map_index is None else int(map_index),
            attempt=int(ti.try_number),
            generation=f"{started.isoformat() if started else '-'}/{getattr(ti, 'max_tries', 0)}",
        )

    @property
    def load_key(self) -> str:
        """Readable, then a digest of all parts; at most 200 characters (Airflow's ids may have 250 each)."""
        return self._named(self.generation)

    @property
    def family(self) -> str:
        """The same without the generation: what the loads of this task instance share across all Clears."""
        return self._named()

    def whole_load(self, load_key: str | None) -> LoadPart:
        """The load of this task instance.

        :param load_key: the author's own name of the load.
        """
        return LoadPart(load_key or self.load_key, load_key or self.family, self.generation)

    def _named(self, *more: str) -> str:
        parts = [self.dag_id, self.run_id, self.task_id, self.map_index, *more]
        digest = hashlib.blake2b(json.dumps(parts).encode(), digest_size=12).hexdigest()
        shard = f"[{self.map_index}]" if self.map_index >= 0 else ""
        return f"{f'{self.dag_id}/{self.task_id}{shard}/{self.run_id}'[:_READABLE]}#{digest}"

    @property
    def labels(self) -> dict[str, str]:
        """For people who read the ledger."""
        return {
            "dag_id": self.dag_id,
            "run_id": self.run_id,
            "task_id": self.task_id,
            "map_index": str(self.map_index),
            "generation": self.generation,
        }
