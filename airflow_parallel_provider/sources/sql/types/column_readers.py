# SPDX-License-Identifier: Apache-2.0
"""Column types whose values are read by a function of our own instead of by SQLAlchemy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def read_with(
    name: str,
    *,
    read: Callable[[Any], Any] | None = None,
    write: Callable[[Any], Any] | None = None,
    select: Callable[[Any], Any] | None = None,
    **attributes: Any,
) -> Any:
    """A SQLAlchemy type.

    :param name: the type in SQL.
    :param read: from the driver's value; None: unchanged.
    :param write: to the driver's value; None: unchanged.
    :param select: the expression that is selected instead of the column; None: the column.
    """
    import sqlalchemy as sa
    from sqlalchemy.types import UserDefinedType

    # Made by type(): the base is generic in SQLAlchemy 2 and is not in 1.4.
    body = {
        "cache_ok": True,
        "get_col_spec": lambda _self, **_options: name,
        "result_processor": lambda *_: read,
        "bind_processor": lambda *_: write,
        **attributes,
    }
    if select is not None:
        body["column_expression"] = lambda self, column: sa.type_coerce(select(column), self)
    return type(name.capitalize(), (UserDefinedType,), body)()
