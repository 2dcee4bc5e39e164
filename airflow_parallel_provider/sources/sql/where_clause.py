# SPDX-License-Identifier: Apache-2.0
"""The author's condition and query of a ``SqlSource``, with their parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import PlanError
from airflow_parallel_provider.sources.sql.queries.query_text import select_of

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
        self._query = None if query.query is None else select_of(query.query)
        self._parameters = dict(query.parameters)
        self._texts_have_types = False

    def check(self) -> None:
        """Check that each name in the condition and the query has a parameter and each parameter a name.

        :raises PlanError: naming those that do not match.
        """
        import sqlalchemy as sa

        given = set(self._parameters)
        named = set[str]()
        for field, text in (("where", self._where), ("query", self._query)):
            found = set(sa.text(text or "").compile().params)
            if found - given:
                names = ", ".join(sorted(found - given))
                cure = f"give parameters= a value for {names}; write a literal colon as \\:"
                raise PlanError(f"SqlSource.{field}", text, cure)
            named |= found
        if given - named:
            where = "where=" if self._query is None else "query= and where="
            has = "has" if self._query is None else "have"
            cure = f"{where} {has} no such names: write :name, and CAST(:name AS date) instead of :name::date"
            raise PlanError("SqlSource.parameters", sorted(given - named), cure)

    def resolve_types(self, connection: Connection, statement: Any) -> None:
        """Declare texts as texts where PostgreSQL cannot infer their type, as in ``:name IS NULL``.

        :param statement: any SELECT that the condition can be added to.
        """
        if self._where is not None:
            self._try(connection, self.added_to(statement).limit(0))

    def select_of_query(self, connection: Connection) -> Any:
        """The author's query with its parameters, whose types are resolved as those of the condition."""
        import sqlalchemy as sa

        def made() -> Any:
            text = sa.text(f"{self._query}\n")  # it may end in a comment
            return text.bindparams(*map(self._bound, text.compile().params))

        found = made()
        self._try(connection, sa.select(sa.text("1")).select_from(found.columns().subquery("q")).limit(0))
        return made() if self._texts_have_types else found

    def _try(self, connection: Connection, statement: Any) -> None:
        import sqlalchemy as sa

        if connection.dialect.name != "postgresql":
            return
        try:
            with connection.begin_nested():
                connection.execute(statement)
        except sa.exc.DBAPIError as error:
            # Any other error will be raised by the statements that read the rows.
            if getattr(error.orig, "sqlstate", None) in _TYPE_UNKNOWN:
                self._texts_have_types = True

    def added_to(self, statement: Any) -> Any:
        """The statement with the condition."""
        import sqlalchemy as sa

        if self._where is None:
            return statement
        # The closing bracket is on a new line: the condition may end in a comment.
        text = sa.text(f"({self._where}\n)")
        return statement.where(text.bindparams(*map(self._bound, text.compile().params)))

    def _bound(self, name: str) -> Any:
        import sqlalchemy as sa

        value = self._parameters[name]
        untyped = isinstance(value, str) and not self._texts_have_types
        return sa.bindparam(name, value, type_=sa.types.NULLTYPE if untyped else None)
