# SPDX-License-Identifier: Apache-2.0
"""Which columns of a table of PostgreSQL can be copied as lines of COPY, and on which connections."""

from __future__ import annotations

import re
from typing import Any, Final

_TYPES_QUERY = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod)
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped
AND t.typnamespace = 'pg_catalog'::regnamespace
"""

_COPIED: Final = frozenset({
    "smallint", "integer", "bigint", "numeric", "real", "double precision", "boolean", "text", "character varying",
    "character", "bytea", "date", "time without time zone", "time with time zone", "timestamp without time zone",
    "timestamp with time zone", "interval", "uuid", "json", "jsonb", "inet", "cidr", "macaddr", "macaddr8", "bit",
    "bit varying", "int4range", "int8range", "numrange", "daterange", "tsrange", "tstzrange", "int4multirange",
    "int8multirange", "nummultirange", "datemultirange", "tsmultirange", "tstzmultirange",
})  # fmt: skip
"""Types whose texts mean the same in every database. Not money, whose texts depend on a setting, nor those that stand
for something of one database (``regclass``). Types of a user are left out: two of one name may differ."""

_MODIFIER = re.compile(r"\([^)]*\)|\[\]")


def driver_copies(raw: Any) -> bool:
    """Whether a connection is one of psycopg 3 that writes texts in UTF-8."""
    return type(raw).__module__.partition(".")[0] == "psycopg" and str(raw.info.encoding).lower() in ("utf-8", "utf8")


def copied_types(raw: Any, table: str) -> dict[str, str]:
    """The types of the columns of a table or view whose values can be copied; none if it does not exist.

    :param raw: a connection of psycopg 3.
    :param table: quoted.
    """
    with raw.cursor() as cursor:
        cursor.execute(_TYPES_QUERY, (table,))
        return {name: kind for name, kind in cursor.fetchall() if _MODIFIER.sub("", kind).strip() in _COPIED}
