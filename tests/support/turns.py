"""Databases that take turns: `make test` runs each case on some of them, and `make test-slow` all cases on all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest


def in_turn(*databases: str, every: int | None = None) -> pytest.MarkDecorator:
    """For a test with a parameter ``database`` and others, whose values make its cases.

    Every case runs on the databases that are not named here, and on one of those that are: the first case on the first
    one, the second case on the second one, and so on. What is left out is slow.

    :param every: the first case out of so many runs on a database, where that is not their number.
    """
    return pytest.mark.in_turn(*databases, every=every or len(databases))


def leave_out(items: Iterable[pytest.Item]) -> None:
    """Mark as slow what is not its database's turn."""
    cases: dict[str, list[tuple[int, ...]]] = {}
    for item in items:
        mark = item.get_closest_marker("in_turn")
        if mark is None or not isinstance(item, pytest.Function):
            continue
        # By their identity: the values of a parameter may have any equality, and its indices go on counting.
        case = tuple(id(value) for name, value in item.callspec.params.items() if name != "database")
        seen = cases.setdefault(item.nodeid.partition("[")[0], [])
        if case not in seen:
            seen.append(case)
        if not has_turn(str(item.callspec.params["database"]), seen.index(case), mark.args, mark.kwargs["every"]):
            item.add_marker("slow")


def has_turn(database: str, case: int, databases: Sequence[str], every: int) -> bool:
    """Whether a case, by its number, runs on a database in `make test`."""
    return database not in databases or (case - databases.index(database)) % every == 0
