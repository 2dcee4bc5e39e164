# SPDX-License-Identifier: Apache-2.0
"""The end of a load with ``write_disposition="replace"``: its staging table is swapped in.

How depends on the database and on what depends on the old table::

    PostgreSQL, DuckDB   rename in one transaction with the ledger; if something depends on the old table: copy
    MySQL, MariaDB       RENAME TABLE, atomic but in no transaction: announced in the ledger first, so that a later
                         attempt can tell from the staging table whether it has happened; or copy
    SQLite, all others   copy: DELETE and INSERT ... SELECT in one transaction with the ledger

A crash at any point leaves the old rows or the new ones, and the next attempt finishes the swap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_parallel_provider.errors import LoadMismatch, SinkError
from airflow_parallel_provider.sinks.commit.blame import rows_dropped
from airflow_parallel_provider.sinks.ledger.load_lock import lock_load
from airflow_parallel_provider.sinks.ledger.loads import COMPLETE, OPEN, SWAPPING
from airflow_parallel_provider.sinks.load.rerun import drop_staging
from airflow_parallel_provider.sinks.load.shared_loads import refuse_shared_target
from airflow_parallel_provider.sql.backends.error_classifier import Refusal
from airflow_parallel_provider.sql.backends.quoting import quote_for_dialect
from airflow_parallel_provider.sql.ddl import add_column, make_table
from airflow_parallel_provider.sql.errors import TransientSinkError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.sinks.commit.target_table import TargetTable
    from airflow_parallel_provider.sinks.ledger.control_tables import ControlTables
    from airflow_parallel_provider.sinks.ledger.mapped_tasks import MappedTask
    from airflow_parallel_provider.sinks.spec.table_spec import TableSpec
    from airflow_parallel_provider.sql.database import Database
    from airflow_parallel_provider.values.table_shape import TableShape


@dataclass(frozen=True, slots=True)
class TableSwap:
    """The swap of one load."""

    database: Database
    control_tables: ControlTables
    target: TargetTable
    """The staging table."""
    spec: TableSpec
    load: str
    reached: Callable[[str], None]
    task: MappedTask | None = None
    """Of a mapped task: which task instance this is."""

    def finish(self, rows: int) -> None:
        """Swap, unless that is done; mark the load as complete and clean up.

        :param rows: how many the ledger has.
        :raises LoadMismatch: if the load or its staging table no longer exists, or another task instance of the same
            mapped task would replace the table, too.
        :raises SinkError: if the staging table has another number of rows.
        """
        staging, old, found, by_name = None, None, 0, False
        with lock_load(self.database, self.control_tables.loads, self.load, exclusive=False) as locked:
            state = locked.state
            if state == OPEN:
                refuse_shared_target(
                    self.control_tables.loads, locked.control_tables, self.task, self.spec.display_name
                )
            if state == OPEN:  # the lock keeps other attempts from swapping it meanwhile
                staging = self._reflect(locked.tables, self.target.name)
                old = self._reflect(locked.tables, self.spec.table)
                found = self._count(locked.tables, staging)
                by_name = staging is not None and self.database.backend.ddl.can_rename(locked.tables, staging, old)
        if state == OPEN and found != rows:
            raise SinkError(self._changed(found, rows))
        if state is None:
            raise LoadMismatch(
                f"table {self.spec.display_name!r}: the load is no longer in the ledger: it was discarded"
            )
        if state == SWAPPING:
            self._rename_without_transaction(rows)
        elif state == OPEN and staging is None:
            self._empty(old)
        elif state == OPEN and staging is not None:
            self._swap_in(staging, old, rows, by_name=by_name)
        self.reached("after_swap")
        drop_staging(self.database, self.spec, [self.load])

    def _reflect(self, connection: Connection, name: str) -> TableShape | None:
        found = self.database.backend.catalog.reflect(connection, name, self.spec.schema)
        self._release(connection)
        return found

    def _release(self, connection: Connection) -> None:
        """End the transaction of a read on MySQL, which else keeps its metadata lock.

        A later read of a table that another attempt is changing would then be refused.
        """
        if not self.database.backend.transactional_ddl:
            connection.rollback()

    def _count(self, connection: Connection, staging: TableShape | None) -> int:
        if staging is None:
            return 0
        table = quote_for_dialect(connection, staging.name, staging.schema)
        found = int(connection.exec_driver_sql(f"SELECT COUNT(*) FROM {table}").scalar() or 0)  # noqa: S608  # quoted
        self._release(connection)
        return found

    def _changed(self, found: int, rows: int) -> str:
        return (
            f"table {self.target.name!r} has {found} rows, but the ledger has {rows}: something else has changed it. "
            f"Table {self.spec.display_name!r} is unchanged; discard the load to start over"
        )

    def _swap_in(self, staging: TableShape, old: TableShape | None, rows: int, *, by_name: bool) -> None:
        backend = self.database.backend
        if by_name and not backend.transactional_ddl:
            with self.database.transaction() as connection:
                if self._is_mine(connection):
                    self.control_tables.loads.mark(connection, self.load, SWAPPING)
            self.reached("before_swap")
            self._rename_without_transaction(rows)
            return
        if not by_name:
            old = self._prepared(staging, old)
        with self.database.transaction() as connection:
            if not self._is_mine(connection):
                return
            self.reached("before_swap")
            if by_name:
                if old is not None:
                    backend.ddl.drop(connection, old.name, old.schema)
                self.reached("in_swap")
                self._rename_into(connection, staging, exists=False)
            elif old is not None:
                backend.ddl.empty(connection, old)
                self.reached("in_swap")
                written = backend.ddl.copy_into(connection, staging, old)
                if 0 <= written < rows:
                    triggers = backend.catalog.triggers(connection, old)
                    raise rows_dropped(self.spec.display_name, "at the swap", rows - written, rows, triggers)
            self.control_tables.loads.mark(connection, self.load, COMPLETE)
            self.reached("before_commit_of_swap")

    def _is_mine(self, connection: Connection) -> bool:
        """Whether the swap is still to be done; from now on no other attempt can do it."""
        return self.control_tables.loads.lock(connection, self.load, exclusive=True) == OPEN

    def _rename_without_transaction(self, rows: int) -> None:
        """The rename that no transaction covers: if the staging table no longer exists, it has happened.

        A late attempt may create that table anew before it finds out that it is late. The table is empty then, and
        nothing can write to it any more.
        """
        with lock_load(self.database, self.control_tables.loads, self.load) as locked:
            if locked.state != SWAPPING:
                return  # another attempt was faster
            staging = self._reflect(locked.tables, self.target.name)
            found = self._count(locked.tables, staging)
            if staging is not None and found == rows:
                self._rename(locked.tables, staging)
            elif found:
                raise SinkError(self._changed(found, rows))
            self.reached("after_rename")
            self.control_tables.loads.mark(locked.control_tables, self.load, COMPLETE)

    def _rename(self, connection: Connection, staging: TableShape) -> None:
        old = self._reflect(connection, self.spec.table)
        self._rename_into(connection, staging, exists=old is not None)

    def _rename_into(self, connection: Connection, staging: TableShape, *, exists: bool) -> None:
        """Rename the staging table.

        :raises TransientSinkError: if the name has been taken since: by another load, which is the first one, too. The
            next try finds a table there, and replaces it.
        """
        try:
            self.database.backend.ddl.rename_into(
                connection, staging.name, self.spec.table, staging.schema, exists=exists
            )
        except Exception as error:
            backend = self.database.backend
            if self.database.is_driver_error(error) and backend.errors.refusal(error) is Refusal.NAME_TAKEN:
                raise TransientSinkError(
                    f"table {self.spec.display_name!r} cannot be made ({backend.errors.explain(error)}): another load "
                    "has made it meanwhile, or an index, a sequence or a type has this name: run the task again, or "
                    "name another table"
                ) from None
            raise

    def _empty(self, old: TableShape | None) -> None:
        """Empty the table: the load has no rows."""
        with self.database.transaction() as connection:
            if not self._is_mine(connection):
                return
            self.reached("before_swap")
            if old is not None:
                self.database.backend.ddl.empty(connection, old)
            self.control_tables.loads.mark(connection, self.load, COMPLETE)
            self.reached("before_commit_of_swap")

    def _prepared(self, staging: TableShape, old: TableShape | None) -> TableShape:
        """The table that rows are copied into: created if it does not exist, with all columns that they have."""
        backend, name = self.database.backend, self.spec.table
        with self.database.session() as connection:
            if old is None:
                make_table(
                    connection, name, staging.schema, backend,
                    lambda: backend.ddl.create_like(connection, name, staging),
                )  # fmt: skip
            else:
                for column in staging.columns:
                    if column.name not in old.by_name:
                        add_column(connection, old, column.name, column.sql_type, backend)
            found = self._reflect(connection, name)
        if found is None:
            raise SinkError(
                f"table {self.spec.display_name!r} no longer exists: it was dropped meanwhile. Run the task again"
            )
        return found
