# SPDX-License-Identifier: Apache-2.0
"""The text of ``SqlSource(query=)``: one SELECT, which can stand in brackets."""

from __future__ import annotations

import functools
from typing import Any

from airflow_parallel_provider.errors import PlanError

_TEMPLATE = ("{{", "{%", "{#")
_CURE = "it stands in brackets in other statements, so it must be one SELECT (WITH ... SELECT is one)"


def check_query(query: str) -> None:
    """Refuse what is not one SELECT, as far as that can be seen before templates are rendered.

    :raises PlanError: naming what it is.
    """
    if not any(mark in query for mark in _TEMPLATE):
        select_of(query)


@functools.lru_cache(maxsize=16)  # each range asks for it, and parsing a long text takes milliseconds
def select_of(query: str) -> str:
    """The SELECT without the semicolon behind it.

    :raises PlanError: if the text is anything else, or more than one statement.
    """
    import sqlparse
    from sqlparse import tokens

    statements: list[Any] = [each for each in sqlparse.parse(query) if _first_word(each) is not None]
    if len(statements) != 1:
        raise PlanError("SqlSource.query", query, f"it has {len(statements)} statements: {_CURE}")
    word = _first_word(statements[0])
    found = statements[0].get_type() if word in ("WITH", "SELECT") else word
    if found != "SELECT":
        raise PlanError("SqlSource.query", query, f"this is {'a WITH ... ' if word == 'WITH' else ''}{found}: {_CURE}")
    kept = [each for each in statements[0].flatten() if not (each.ttype is tokens.Punctuation and each.value == ";")]
    return "".join(str(token) for token in kept).strip()


def _first_word(statement: Any) -> str | None:
    """The first word that is no comment, behind any brackets; None if there is none."""
    for token in statement.flatten():
        if not token.is_whitespace and token.value not in ("(", ";") and "Comment" not in repr(token.ttype):
            return str(token.value).upper().split()[0]
    return None
