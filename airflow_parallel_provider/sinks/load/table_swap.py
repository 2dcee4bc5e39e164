"""The end of a load with ``write_disposition="replace"``: its staging table takes the table's place.

How depends on the database and on what hangs on the old table::

    PostgreSQL, DuckDB   rename in one transaction with the ledger; where something hangs on the old table: copy
    MySQL, MariaDB       RENAME TABLE, atomic but in no transaction: announced in the ledger first, so that a try that
                         comes later can tell by the staging table whether it has happened; or copy
    SQLite, all others   copy: DELETE and INSERT ... SELECT in one transaction with the ledger

A crash at any point leaves the old rows or the new ones, and the next try finishes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_parallel_provider.errors import LoadMismatch, SinkError
from airflow_parallel_provider.sinks.ledger.load_lock import lock_load
from airflow_parallel_provider.sinks.ledger.loads import COMPLETE, OPEN, SWAPPING
from airflow_parallel_provider.sinks.load.rerun import drop_staging
from airflow_parallel_provider.sql.ddl import add_column, make_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.sinks.commit.target_table import TargetTable
    from airflow_parallel_provider.sinks.ledger.control_tables import ControlTables
    from airflow_parallel_provider.sinks.table import SinkTable
    from airflow_parallel_provider.sql.database import Database
    from airflow_parallel_provider.values.table_shape import TableShape


@dataclass(frozen=True, slots=True)
class TableSwap:
    """One load's swap."""

    database: Database
    control_tables: ControlTables
    target: TargetTable
    """The staging table."""
    declared: SinkTable
    load: str
    reached: Callable[[str], None]

    def finish(self, rows: int) -> None:
        """Swap, unless that was done; mark the load as complete and clean up.

        :param rows: how many the ledger says.
        :raises LoadMismatch: when the load or its staging table is gone.
        :raises SinkError: when the staging table holds another number of rows.
        """
        staging, old, found, by_name = None, None, 0, False
        with lock_load(self.database, self.control_tables.loads, self.load, alone=False) as held:
            state = held.state
            if state == OPEN:  # nobody swaps it as long as this looks at it
                staging = self._look(held.tables, self.target.name)
                old = self._look(held.tables, self.declared.table)
                found = self._count(held.tables, staging)
                by_name = staging is not None and self.database.backend.renames(held.tables, staging, old)
        if state == OPEN and found != rows:
            raise SinkError(self._changed(found, rows))
        if state is None:
            raise LoadMismatch(
                f"table {self.declared.display_name!r}: the load is gone from the ledger; somebody discarded it"
            )
        if state == SWAPPING:
            self._rename_alone(rows)
        elif state == OPEN and staging is None:
            self._empty(old)
        elif state == OPEN and staging is not None:
            self._take_place(staging, old, rows, by_name=by_name)
        self.reached("after_swap")
        drop_staging(self.database, self.declared, [self.load])

    def _look(self, connection: Connection, name: str) -> TableShape | None:
        found = self.database.backend.reflect(connection, name, self.declared.schema)
        self._let_go(connection)
        return found

    def _let_go(self, connection: Connection) -> None:
        """MySQL keeps what was looked at locked, and then refuses a look at a table that somebody changes just now."""
        if not self.database.backend.transactional_ddl:
            connection.rollback()

    def _count(self, connection: Connection, staging: TableShape | None) -> int:
        if staging is None:
            return 0
        place = self.database.backend.place(connection, staging.name, staging.schema)
        found = int(connection.exec_driver_sql(f"SELECT COUNT(*) FROM {place}").scalar() or 0)  # noqa: S608  # quoted
        self._let_go(connection)
        return found

    def _changed(self, found: int, rows: int) -> str:
        return (
            f"table {self.target.name!r} holds {found} rows, but the ledger says {rows}: somebody has changed it. "
            f"Table {self.declared.display_name!r} is as it was; discard the load to start over"
        )

    def _take_place(self, staging: TableShape, old: TableShape | None, rows: int, *, by_name: bool) -> None:
        backend = self.database.backend
        if by_name and not backend.transactional_ddl:
            with self.database.transaction() as connection:
                if self._is_mine(connection):
                    self.control_tables.loads.mark(connection, self.load, SWAPPING)
            self.reached("before_swap")
            self._rename_alone(rows)
            return
        if not by_name:
            old = self._prepared(staging, old)
        with self.database.transaction() as connection:
            if not self._is_mine(connection):
                return
            self.reached("before_swap")
            if by_name:
                if old is not None:
                    backend.drop(connection, old.name, old.schema)
                self.reached("in_swap")
                backend.rename_into(connection, staging.name, self.declared.table, staging.schema, there=False)
            elif old is not None:
                backend.empty(connection, old)
                self.reached("in_swap")
                backend.copy_into(connection, staging, old)
            self.control_tables.loads.mark(connection, self.load, COMPLETE)
            self.reached("before_commit_of_swap")

    def _is_mine(self, connection: Connection) -> bool:
        """Whether the swap is still to be done; from here on no other attempt can do it."""
        return self.control_tables.loads.lock(connection, self.load, alone=True) == OPEN

    def _rename_alone(self, rows: int) -> None:
        """The rename that no transaction covers: if the staging table is gone, it has happened.

        An attempt that comes late may make that table anew before it is told that it is late. It is empty then, and
        nobody can write to it any more.
        """
        with lock_load(self.database, self.control_tables.loads, self.load) as held:
            if held.state != SWAPPING:
                return  # another attempt was faster
            staging = self._look(held.tables, self.target.name)
            found = self._count(held.tables, staging)
            if staging is not None and found == rows:
                self._rename(held.tables, staging)
            elif found:
                raise SinkError(self._changed(found, rows))
            self.reached("after_rename")
            self.control_tables.loads.mark(held.control_tables, self.load, COMPLETE)

    def _rename(self, connection: Connection, staging: TableShape) -> None:
        old = self._look(connection, self.declared.table)
        self.database.backend.rename_into(
            connection, staging.name, self.declared.table, staging.schema, there=old is not None
        )

    def _empty(self, old: TableShape | None) -> None:
        """A load without a row replaces all rows by none."""
        with self.database.transaction() as connection:
            if not self._is_mine(connection):
                return
            self.reached("before_swap")
            if old is not None:
                self.database.backend.empty(connection, old)
            self.control_tables.loads.mark(connection, self.load, COMPLETE)
            self.reached("before_commit_of_swap")

    def _prepared(self, staging: TableShape, old: TableShape | None) -> TableShape:
        """The table that rows are copied into: made when absent, with all the columns they have."""
        backend, name = self.database.backend, self.declared.table
        with self.database.session() as connection:
            if old is None:
                make_table(
                    connection, name, staging.schema, backend, lambda: backend.create_like(connection, name, staging)
                )
            else:
                for column in staging.columns:
                    if column.name not in old.by_name:
                        add_column(connection, old, column.name, column.sql_type, backend)
            found = self._look(connection, name)
        if found is None:
            raise SinkError(
                f"table {self.declared.display_name!r} is gone: somebody has dropped it. Run the task again"
            )
        return found
