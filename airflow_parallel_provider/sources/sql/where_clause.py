# SPDX-License-Identifier: Apache-2.0
"""The author's condition of a ``SqlSource``, with its parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import PlanError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.sources.sql.table_query import TableQuery

_TYPE_UNKNOWN = ("42P08", "42P18")
"""SQLSTATEs of PostgreSQL: the type of a parameter cannot be inferred, or two places imply different types."""


class WhereClause:
    """``where`` with its parameters, as a SQLAlchemy clause.

    A template renders to a text, whatever it is compared with. PostgreSQL gives an untyped text the type of the other
    side, as it does with a literal. SQLAlchemy would declare the text as VARCHAR, which equals no date or number.
    """

    def __init__(self, query: TableQuery) -> None:
        self._where = query.where
        self._parameters = dict(query.parameters)
        self._texts_have_types = False

    def check(self) -> None:
        """Check that each name in the condition has a parameter and each parameter a name.

        :raises PlanError: naming those that do not match.
        """
        import sqlalchemy as sa

        given = set(self._parameters)
        named = set(sa.text(self._where or "").compile().params)
        if named - given:
            names = ", ".join(sorted(named - given))
            raise PlanError(
                "SqlSource.where",
                self._where,
                f"give parameters= a value for {names}; write a literal colon as \\:",
            )
        if given - named:
            cure = "where= has no such names: write :name, and CAST(:name AS date) instead of :name::date"
            raise PlanError("SqlSource.parameters", sorted(given - named), cure)

    def resolve_types(self, connection: Connection, statement: Any) -> None:
        """Declare texts as texts where PostgreSQL cannot infer their type, as in ``:name IS NULL``.

        :param statement: any SELECT that the condition can be added to.
        """
        import sqlalchemy as sa

        if connection.dialect.name != "postgresql" or self._where is None:
            return
        try:
            with connection.begin_nested():
                connection.execute(self.added_to(statement).limit(0))
        except sa.exc.DBAPIError as error:
            # Any other error will be raised by the statements that read the rows.
            self._texts_have_types = getattr(error.orig, "sqlstate", None) in _TYPE_UNKNOWN

    def added_to(self, statement: Any) -> Any:
        """The statement with the condition."""
        import sqlalchemy as sa

        if self._where is None:
            return statement
        # The closing bracket is on a new line: the condition may end in a comment.
        return statement.where(sa.text(f"({self._where}\n)").bindparams(*map(self._bound, self._parameters)))

    def _bound(self, name: str) -> Any:
        import sqlalchemy as sa

        value = self._parameters[name]
        untyped = isinstance(value, str) and not self._texts_have_types
        return sa.bindparam(name, value, type_=sa.types.NULLTYPE if untyped else None)
