# SPDX-License-Identifier: Apache-2.0
"""``SinkTableHook``: chunks into a table, each exactly once, on any SQL connection of Airflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

from airflow_parallel_provider.errors import SinkError
from airflow_parallel_provider.sinks.load import maintenance
from airflow_parallel_provider.sinks.load.table_loader import TableLoader
from airflow_parallel_provider.sinks.table import SinkTable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import timedelta
    from typing import Unpack

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.sinks.ledger.dead_letters import DeadLetterKey, StoredDeadLetter
    from airflow_parallel_provider.sinks.spec.options import SinkTableOptions


class SinkTableHook(TableLoader, BaseHook):
    """Writes chunks of rows into a table, each chunk exactly once, with its ledger row in the same transaction.

    Usable without the operators of this package::

        hook = SinkTableHook("warehouse", "prices", primary_key=["id"])
        with hook:
            done = hook.open(LoadSpec(load_key="prices-2026-11-21", chunk_size=1000, source="prices.csv"))
            for number, rows in enumerate(chunks_of(1000)):
                if f"{number:08d}" not in done:
                    hook.write_chunk(f"{number:08d}", rows, first_position=number * 1000)
            hook.consolidate()

    Run that again after a crash at any point, and the table is as if nothing had happened.

    :param conn_id: Airflow connection of any SQL database with transactions.
    :param table: name of the table, without its schema.
    :param connection: an Airflow ``Connection``; None looks up ``conn_id``.
    :param options: those of :class:`~airflow_parallel_provider.sinks.table.SinkTable`.
    :raises PlanError: for an invalid argument.
    """

    hook_name = "Sink table"

    def __init__(
        self, conn_id: str, table: str, *, connection: Any = None, **options: Unpack[SinkTableOptions]
    ) -> None:
        BaseHook.__init__(self)
        TableLoader.__init__(self, SinkTable(table, conn_id=conn_id, **options).spec, connection)

    @classmethod
    def of(cls, sink: SinkTable, connection: Any = None) -> SinkTableHook:
        """A hook for the table that an author has declared."""
        hook = cls.__new__(cls)
        BaseHook.__init__(hook)
        TableLoader.__init__(hook, sink.spec, connection)
        return hook

    def get_conn(self) -> Any:
        """A new connection of the database's driver, for statements of your own."""
        return self.resolve().get_conn()

    def aggregates(self, load_key: str | None = None) -> dict[str, Any]:
        """The ``aggregates`` of the declaration over all rows of a load that have committed, merged from the ledger.

        :param load_key: of this load; None: of the open one.
        :return: a value for each name; of an aggregate with ``by``, a dict of values by those of the column.
        :raises SinkError: if no load is open and none is named.
        """
        if load_key is None:
            return self.load.aggregates()
        return maintenance.load_aggregates(self.destination(), load_key)

    def dead_letters(
        self, load_key: str | None = None, *, stage: str | None = None, but_of: str | None = None
    ) -> Iterator[StoredDeadLetter]:
        """The unresolved dead letters of this table, read page by page during the iteration.

        :param load_key: only of this load (its replays included); None: of all loads.
        :param stage: only those of this stage.
        :param but_of: without those that the load of this key has written.
        :raises SinkError: if the sink has no table of dead letters.
        """
        return maintenance.unresolved_dead_letters(self.destination(), load_key, stage, but_of)

    def dead_letters_waiting(self, load_key: str | None = None) -> dict[str, tuple[int, int]]:
        """How many dead letters are unresolved, by stage: all of them, and those whose item can be restored.

        :param load_key: only of this load; None: of all loads.
        :raises SinkError: if the sink has no table of dead letters.
        """
        return maintenance.count_waiting(self.destination(), load_key)

    def resolve_dead_letters(self, connection: Connection, keys: Sequence[DeadLetterKey], chunk_id: str) -> int:
        """Mark dead letters as resolved by a chunk of the open load; see :meth:`OpenLoad.resolve_dead_letters`."""
        return self.load.resolve_dead_letters(connection, keys, chunk_id)

    def discard(self, load_key: str, *, rows: bool = False) -> int:
        """Delete a load from the control tables in all its generations, so that it can be loaded again.

        Its dead letters and its staging table go, too.

        :param load_key: the key the load was opened with, or that of its family.
        :param rows: delete its rows as well, in the same transaction; needs a ``load_column``. Without it the rows
            stay: delete them yourself, or merge.
        :return: how many chunks it had.
        :raises SinkError: if ``rows`` are to be deleted, but nothing in them says of which load they are.
        """
        if rows and self.spec.load_id_column is None:
            raise SinkError(
                "discard(rows=True): nothing in the rows says of which load they are; it takes "
                "SinkTable(load_column=...)"
            )
        return maintenance.discard_load(self.destination(), load_key, rows=rows)

    def purge_ledger(self, older_than: timedelta, *, abandoned: bool = False) -> int:
        """Delete loads that completed so long ago, of every table that shares the ledger; return how many.

        Dead letters stay. A purged load is loaded again when it runs again.

        :param abandoned: also delete the loads into this table that began so long ago and never completed, and drop
            their staging tables.
        :raises SinkError: if ``older_than`` is no timedelta.
        """
        return maintenance.purge(self.destination(), older_than, abandoned=abandoned)
