# SPDX-License-Identifier: Apache-2.0
"""Sessions of MySQL and MariaDB."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.sql.backends.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable


_VERSION_AND_COLLATION = """
SELECT VERSION(), (SELECT MAX(collation_name) FROM information_schema.collations
                   WHERE collation_name IN ('utf8mb4_nopad_bin', 'utf8mb4_0900_bin'))
"""
"""MariaDB has the first one, MySQL the second one from 8.0.17 on. Where both exist they are the same."""


class MysqlSession(Session):
    """Connections of mysqlclient, mysql-connector-python or PyMySQL."""

    collation = "utf8mb4_bin"
    """For new tables: compares by characters, spaces at the end included where the server has such a collation."""

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
        cursor.execute(_VERSION_AND_COLLATION)
        version, collation = cursor.fetchone()
        self.collation = str(collation or self.collation)
        if "mariadb" in str(version).lower():
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
