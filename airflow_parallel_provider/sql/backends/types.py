# SPDX-License-Identifier: Apache-2.0
"""SQLAlchemy's column types as kinds, and kinds as column types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.values.kinds import Column, Kind
from airflow_parallel_provider.values.table_shape import TableColumn

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY_LENGTH = 255
"""Characters of a text column in a key, where the database requires a bound."""

_BY_NAME: Mapping[str, Kind] = {
    "UUID": Kind.UUID,
    "INTERVAL": Kind.TIMEDELTA,
    "TIMESTAMP_TZ": Kind.DATETIMETZ,
    "TIMESTAMP_LTZ": Kind.DATETIMETZ,
    "DATETIMEOFFSET": Kind.DATETIMETZ,
    "TIMESTAMP_NTZ": Kind.DATETIME,
}
"""Types known by name only: SQLAlchemy 1.4 and the dialects of other packages do not derive them from a common base."""

_BITS: Mapping[str, int] = {"TINYINT": 8, "SMALLINT": 16, "MEDIUMINT": 24, "INTEGER": 32, "INT": 32, "BIGINT": 64}


_MYSQL_TYPES = "sqlalchemy.dialects.mysql"
"""Where the JSON of MySQL is defined, which keeps values and not texts; that of MariaDB is a LONGTEXT."""


FOUR_BYTE_FLOATS: Mapping[str, str] = {
    "postgresql": "REAL",
    "cockroachdb": "REAL",
    "redshift": "REAL",
    "mssql": "REAL",
    "mysql": "FLOAT",
    "mariadb": "FLOAT",
}
"""SQLAlchemy's name of the type of four-byte floats, by dialect."""


def is_four_byte_float(sql_type: Any, dialect: str) -> bool:
    """Whether a column of a reflected type holds floats of four bytes."""
    return _visit_name(sql_type) == FOUR_BYTE_FLOATS.get(dialect)


def column_of_sql(found: Mapping[str, Any], dialect: str) -> TableColumn:
    """A column of an existing table, from one entry of ``Inspector.get_columns``.

    :param dialect: name of the SQLAlchemy dialect.
    """
    sql_type = found["type"]
    kind = kind_of_sql(sql_type)
    name = _visit_name(sql_type)
    # MySQL's FLOAT(7,2) rounds, too; other databases say how many bits a float has.
    numeric = kind is Kind.DECIMAL or (kind is Kind.FLOAT and type(sql_type).__module__.startswith(_MYSQL_TYPES))
    narrow = is_four_byte_float(sql_type, dialect)
    return TableColumn(
        name=found["name"],
        kind=kind,
        sql_type=sql_type,
        nullable=bool(found.get("nullable", True)),
        has_default=_has_default(found),
        bits=_BITS.get(name, 64) if kind is Kind.INT else 32 if narrow else 64,
        unsigned=kind is Kind.INT and bool(getattr(sql_type, "unsigned", False)),
        takes_spans=kind is Kind.TIME and type(sql_type).__module__.startswith(_MYSQL_TYPES),
        unique_keys=name == "JSONB" or (name == "JSON" and type(sql_type).__module__.startswith(_MYSQL_TYPES)),
        length=getattr(sql_type, "length", None) if kind in (Kind.TEXT, Kind.BYTES) else None,
        precision=sql_type.precision if numeric and sql_type.scale is not None else None,
        scale=sql_type.scale if numeric else None,
        computed=bool(found.get("computed")),
        identity=bool(found.get("identity")) or (found.get("autoincrement") is True and not found.get("default")),
        default=_default(found),
    )


def _default(found: Mapping[str, Any]) -> str | None:
    default = found.get("default")
    return str(default) if default else None  # some dialects say "" for none


def _has_default(found: Mapping[str, Any]) -> bool:
    if found.get("default") is not None or found.get("identity") or found.get("computed"):
        return True
    return found.get("autoincrement") is True


def _visit_name(sql_type: Any) -> str:
    return str(getattr(sql_type, "__visit_name__", "")).upper()


def kind_of_sql(sql_type: Any) -> Kind:
    """The kind of a reflected type; OTHER where none fits (arrays, enums of other packages, geometry ...)."""
    import sqlalchemy.types as st

    kind = _BY_NAME.get(_visit_name(sql_type))
    if kind is not None:
        return kind
    if isinstance(sql_type, st.DateTime):
        return Kind.DATETIMETZ if sql_type.timezone else Kind.DATETIME
    if isinstance(sql_type, st.Time) and getattr(sql_type, "timezone", False):
        return Kind.OTHER  # each value has a zone of its own
    by_base: tuple[tuple[type, Kind], ...] = (
        (st.Boolean, Kind.BOOL),
        (st.JSON, Kind.JSON),
        (st.Integer, Kind.INT),
        (st.Float, Kind.FLOAT),  # before Numeric, its base
        (st.Numeric, Kind.DECIMAL),
        (st.Date, Kind.DATE),
        (st.Time, Kind.TIME),
        (st.LargeBinary, Kind.BYTES),
        (st._Binary, Kind.BYTES),  # base of BINARY and VARBINARY, which LargeBinary is not
        (st.String, Kind.TEXT),
    )
    return next((kind for base, kind in by_base if isinstance(sql_type, base)), Kind.OTHER)


def exact_datetime(*, timezone: bool = False) -> Any:
    """A date and time to the microsecond, on every database.

    What SQLAlchemy takes by default keeps seconds on MySQL and Oracle, and steps of three milliseconds on SQL Server.
    """
    import sqlalchemy as sa
    from sqlalchemy.dialects import mssql, mysql, oracle

    # SQLAlchemy 1.4 knows MariaDB only under the name of MySQL.
    found = sa.DateTime(timezone=timezone)
    for dialect in ("mysql", "mariadb"):
        found = found.with_variant(mysql.DATETIME(fsp=6), dialect)
    of_sql_server: Any = mssql.DATETIMEOFFSET if timezone else mssql.DATETIME2
    found = found.with_variant(of_sql_server(6), "mssql")
    return found.with_variant(oracle.TIMESTAMP(timezone=timezone), "oracle")


def generic_type(column: Column, *, in_key: bool) -> Any:
    """A type that most databases have.

    Kinds that most databases lack: a timedelta becomes a number of seconds, a UUID and JSON a text.
    """
    import sqlalchemy as sa

    if column.kind is Kind.TEXT:
        length = column.length or (KEY_LENGTH if in_key else None)
        return sa.String(length) if length else sa.Text()
    if column.kind is Kind.BYTES:
        return sa.LargeBinary(column.length)
    if column.kind is Kind.DECIMAL:
        return sa.Numeric(column.precision or 38, column.scale if column.precision else 10)
    fixed: Mapping[Kind, Any] = {
        Kind.BOOL: sa.Boolean(),
        Kind.INT: sa.BigInteger(),
        Kind.HUGEINT: sa.Numeric(38, 0),
        Kind.FLOAT: sa.Float(53),
        Kind.DATE: sa.Date(),
        Kind.DATETIME: exact_datetime(),
        Kind.DATETIMETZ: exact_datetime(timezone=True),
        Kind.TIME: sa.Time(),
        Kind.TIMEDELTA: sa.Numeric(20, 6),
        Kind.UUID: sa.String(36),
        Kind.JSON: sa.Text(),
    }
    return fixed[column.kind or Kind.TEXT]


def declared_type(words: str) -> Any:
    """A type whose SQL is given word for word."""
    from sqlalchemy.types import UserDefinedType

    # Made by type(): the base is generic in SQLAlchemy 2 and is not in 1.4.
    body = {"cache_ok": True, "get_col_spec": lambda _self, **_options: words}
    return type("DeclaredType", (UserDefinedType,), body)()
