"""Sessions of MySQL and MariaDB."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.sql.backends.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable


class MysqlSession(Session):
    """Connections of mysqlclient, mysql-connector-python or PyMySQL."""

    def configure(self, raw: Any) -> None:
        """Strict mode, UTC, all of Unicode, and time limits: for this session only."""
        super().configure(raw)
        for name in ("set_character_set", "set_charset_collation", "set_charset"):  # the drivers must know it too
            if hasattr(raw, name):
                getattr(raw, name)("utf8mb4")
                break
        cursor = raw.cursor()
        # Without NO_BACKSLASH_ESCAPES: not every driver notices that its way of quoting values no longer works.
        cursor.execute(
            "SET SESSION sql_mode = "
            "CONCAT(REPLACE(@@SESSION.sql_mode, 'NO_BACKSLASH_ESCAPES', ''), ',STRICT_ALL_TABLES')"
        )
        cursor.execute("SET SESSION time_zone = '+00:00'")
        cursor.execute(f"SET SESSION innodb_lock_wait_timeout = {max(1, round(self.lock_timeout))}")
        cursor.execute(f"SET SESSION lock_wait_timeout = {max(1, round(self.lock_timeout))}")
        cursor.execute("SELECT VERSION()")
        if "mariadb" in str(cursor.fetchone()[0]).lower():
            cursor.execute(f"SET SESSION max_statement_time = {self.statement_timeout:.3f}")
        cursor.close()
        raw.commit()

    def interrupt(self, raw: Any, connect: Callable[[], Any]) -> None:
        """Kill the running statement from a second connection: the protocol has no other way."""
        self.stopped.set()
        number = raw.thread_id() if callable(getattr(raw, "thread_id", None)) else raw.connection_id
        second = connect()
        try:
            cursor = second.cursor()
            cursor.execute(f"KILL QUERY {int(number)}")
            cursor.close()
        finally:
            second.close()
