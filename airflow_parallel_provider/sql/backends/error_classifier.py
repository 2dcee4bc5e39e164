# SPDX-License-Identifier: Apache-2.0
"""Which errors of a database may pass, and what may be said of an error."""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_MYSQL = frozenset({1205, 1213, 1684})  # with a driver that has no backend; 1684: the definition is being changed
_TRANSIENT: Mapping[str, frozenset[int]] = {
    "mssql": frozenset(
        {
            1205, 1222, 3960, 3961, 41301, 41302, 41305, 41325, 41839,  # deadlock, locks, conflict of two transactions
            701, 8645, 10928, 10929, 40501, 49918, 49919, 49920,  # no memory, no quota left, too busy
            921, 922, 976, 978, 983, 3906, 4221, 40197, 40613,  # failing over, recovering, not the primary
            596, 6005, 10053, 10054, 10060,  # killed, shutting down, the connection broke
        }
    ),
    "oracle": frozenset(
        {
            51, 54, 60, 4020, 4021, 8177, 30006,  # locks, deadlock, conflict of two transactions
            1033, 1034, 1089, 1090, 1092, 16000, 16456,  # starting, shutting down, read-only, switching over
            28, 1012, 2396, 3113, 3114, 3135, 12153, 12170, 12537, 12547, 12570, 12571, 12583,  # the connection broke
            12514, 12518, 12528, 12541, 12757,  # the listener, or the service behind it, is not there yet
            *range(25401, 25410),  # a fail-over that the driver could not hide
        }
    ),
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
}  # fmt: skip
"""Dialect -> error numbers that may pass, by the vendors' lists; not every driver calls them operational."""
_VALUE: Mapping[str, frozenset[int]] = {
    "mssql": frozenset(
        {
            220, 232, 241, 242, 244, 245, 248, 8114, 8115, 8152, 2628,  # out of range, no such value, too long
            515, 547, 2601, 2627,  # NOT NULL, CHECK and foreign key, keys
        }
    ),
    "oracle": frozenset(
        {
            1, 1400, 1407, 2290, 2291, 14400,  # key, NOT NULL, CHECK, foreign key, no partition for it
            1401, 1438, 1461, 1722, 12899,  # too long, too large, no number
            *range(1830, 1866),  # no date or time
        }
    ),
}  # fmt: skip
"""Dialect -> error numbers about a value that not every driver calls an integrity or a data error."""
_RAISED: Mapping[str, range] = {"mssql": range(50_000, 2**31), "oracle": range(20_000, 21_000)}
"""Dialect -> numbers of the errors that triggers raise."""
_VALUE_CLASSES = frozenset({"IntegrityError", "DataError"})
"""Classes of the DB-API for errors about a value."""
_ODBC = re.compile(r"\((\d+)\) \(SQL\w+\)")
"""Where pyodbc puts the number: after a text that may hold other numbers, for example of a row's key."""


class Refusal(Enum):
    """A cause that a database names; its value is the cure when rows are written."""

    RIGHT = (
        "the login lacks a right. GRANT it SELECT and INSERT on the table (for 'merge' also UPDATE, and on PostgreSQL "
        "TEMPORARY on the database), and SELECT, INSERT, UPDATE and DELETE on the tables of the ledger beside it"
    )
    VIEW = "if it is a view, name the table behind it; if it has rules, write to a table without them"
    READ_ONLY = (
        "the database or the transaction is read-only: connect to the primary, not to a standby, and give the login "
        "the right to change the file and its folder"
    )
    GENERATED = "the database fills a column itself that the rows have as well: drop it in a stage"
    NUMBERING = (
        "the database numbers a column of the key itself, and its next number is taken: set its sequence behind the "
        "largest number of the table, for example with setval()"
    )
    ROLLED_BACK = (
        "a trigger has ended the transaction, and with it the chunk's claim: let it raise ABORT or FAIL, not ROLLBACK"
    )
    TOO_MANY_COLUMNS = "it would have more columns than this database allows: drop some in a stage, or join them"
    ROW_TOO_WIDE = (
        "its columns together are wider than this database allows: declare shorter texts, or large ones without a "
        "length: SinkTable(columns={...})"
    )
    KEY_TOO_LONG = "its key is longer than this database allows: declare shorter texts: SinkTable(columns={...})"
    NO_SCHEMA = "there is no such schema: create it, or name another one as schema"
    NAME_TAKEN = "something else has this name: name another table"
    BAD_COLUMN = "the database does not take a column of this type or name: declare another one with columns"


_CURES_OF_DDL = {
    Refusal.RIGHT: "the login lacks a right: GRANT it CREATE and USAGE on the schema, or create the table yourself",
    Refusal.READ_ONLY: Refusal.READ_ONLY.value,
}


def cure_of_ddl(refusal: Refusal | None) -> str:
    """What helps when a table cannot be created or changed.

    :param refusal: None: the database gives another reason, which must speak for itself.
    """
    if refusal is None:
        return "see the database's log for the statement, or create the table or the column yourself"
    return _CURES_OF_DDL.get(refusal, refusal.value)


class ErrorClassifier:
    """The errors of one database, by their classes and by error numbers.

    :param dialect: name of the SQLAlchemy dialect.
    """

    def __init__(self, dialect: str) -> None:
        self._dialect = dialect

    def is_transient(self, error: BaseException) -> bool:
        """Whether the same chunk may succeed on another try."""
        import sqlalchemy as sa

        if isinstance(error, (sa.exc.OperationalError, sa.exc.InterfaceError)):
            return True
        return has_transient_code(driver_error(error), self._dialect)

    def is_about_value(self, error: BaseException) -> bool:
        """Whether the database refuses a value of a row. Nothing else may make a row a rejected row.

        A missing right, a view, a column that is gone and the like hold for every row. An error that is on no list is
        not about a value.
        """
        if is_unsendable(error):
            return True
        cause = driver_error(error)
        if any(base.__name__ in _VALUE_CLASSES for base in type(cause).__mro__):
            return True
        number = _number_of(cause)
        return number in _VALUE.get(self._dialect, ()) or number in _RAISED.get(self._dialect, ())

    def refusal(self, error: BaseException) -> Refusal | None:  # noqa: ARG002  # no two databases name it alike
        """Why the database refuses a statement, where that is no value's fault; None where it is not known."""
        return None

    def violated_key(self, error: BaseException) -> tuple[str, ...]:  # noqa: ARG002  # most do not say
        """Columns of the key that a row has in common with another; empty where the database does not name them."""
        return ()

    def explain(self, error: BaseException) -> str:
        """The error as text, without any value of a row."""
        return type(driver_error(error)).__name__


def driver_error(error: BaseException) -> Any:
    """The driver's own error, also where SQLAlchemy has wrapped it."""
    return getattr(error, "orig", None) or error


def is_unsendable(error: BaseException) -> bool:
    """Whether a driver cannot send a value: Python's own errors, for a large integer or half a character.

    mysql-connector-python raises an error of its own, without a number, from that one.
    """
    cause = driver_error(error)
    return any(isinstance(each, (OverflowError, UnicodeError)) for each in (cause, getattr(cause, "__cause__", None)))


def has_transient_code(error: Any, dialect: str) -> bool:
    """Whether the number of an error means a lock that was not given, a deadlock, a fail-over or a lost connection.

    :param error: the driver's own error.
    :param dialect: name of the SQLAlchemy dialect.
    """
    codes = _TRANSIENT.get(dialect)
    if codes is None:
        return False
    first = next(iter(getattr(error, "args", ())), None)
    if getattr(first, "isrecoverable", False):
        return True  # Oracle's drivers say so of their own errors, which have no number
    return _number_of(error) in codes


def _number_of(error: Any) -> int | None:
    first = next(iter(getattr(error, "args", ())), None)
    number = getattr(first, "code", first)
    if isinstance(number, int):
        return number
    found = _ODBC.search(str(error))
    return int(found[1]) if found else None
