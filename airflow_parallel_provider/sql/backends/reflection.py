"""What SQLAlchemy's inspector says of a table, on any database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def column_names(inspector: Any, name: str, place: str | None) -> frozenset[str] | None:
    """What the columns of a table are called; None when it is not there."""
    import sqlalchemy as sa

    if not inspector.has_table(name, schema=place):
        return None
    try:
        return frozenset(found["name"] for found in inspector.get_columns(name, schema=place))
    except sa.exc.NoSuchTableError:
        return None  # dropped in between


def unique_keys(inspector: Any, name: str, place: str | None) -> tuple[Sequence[str], list[Any]]:
    """Columns of a table's primary key, and of each other unique index; None stands for an expression."""
    primary = inspector.get_pk_constraint(name, schema=place).get("constrained_columns") or []
    uniques = [found["column_names"] for found in inspector.get_unique_constraints(name, schema=place)]
    uniques += [
        found["column_names"]
        for found in inspector.get_indexes(name, schema=place)
        if found.get("unique") and not _is_partial(found)
    ]
    return primary, uniques


def _is_partial(index: Mapping[str, Any]) -> bool:
    """Whether a unique index covers only some rows (``WHERE``) or only the beginning of a text: it guards no key."""
    options = index.get("dialect_options") or {}
    return any(name.endswith(("_where", "_length")) and bool(value) for name, value in options.items())
