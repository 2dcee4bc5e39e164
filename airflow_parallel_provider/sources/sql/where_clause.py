"""The condition that an author gives ``SqlSource``, and the values in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import PlanError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from airflow_parallel_provider.sources.sql.table_query import TableQuery

_TYPE_UNKNOWN = ("42P08", "42P18")
"""SQLSTATEs of PostgreSQL: nothing tells what type a parameter has, or two places tell different ones."""


class WhereClause:
    """``where`` with its parameters, as SQLAlchemy takes it.

    A template renders to a text, whatever it is compared with. PostgreSQL takes a text that has no type as what stands
    on the other side, as it takes a literal; SQLAlchemy would declare it to be VARCHAR, which equals no date or number.
    """

    def __init__(self, query: TableQuery) -> None:
        self._where = query.where
        self._parameters = dict(query.parameters)
        self._texts_have_types = False

    def check(self) -> None:
        """Each name in the condition must have a value, and the other way round.

        :raises PlanError: naming those that have none.
        """
        import sqlalchemy as sa

        given = set(self._parameters)
        asked = set(sa.text(self._where or "").compile().params)
        if asked - given:
            names = ", ".join(sorted(asked - given))
            raise PlanError(
                "SqlSource.where",
                self._where,
                f"give parameters= a value for {names}; a colon of its own is written \\:",
            )
        if given - asked:
            cure = "where= has no such names: write :name, and CAST(:name AS date) instead of :name::date"
            raise PlanError("SqlSource.parameters", sorted(given - asked), cure)

    def resolve_types(self, connection: Connection, statement: Any) -> None:
        """Declare texts to be texts where PostgreSQL cannot tell what they are, as in ``:name IS NULL``.

        :param statement: any SELECT that the condition goes with.
        """
        import sqlalchemy as sa

        if connection.dialect.name != "postgresql" or self._where is None:
            return
        try:
            with connection.begin_nested():
                connection.execute(self.added_to(statement).limit(0))
        except sa.exc.DBAPIError as error:
            # Any other error is left to the statements that are meant.
            self._texts_have_types = getattr(error.orig, "sqlstate", None) in _TYPE_UNKNOWN

    def added_to(self, statement: Any) -> Any:
        """The statement with the condition."""
        import sqlalchemy as sa

        if self._where is None:
            return statement
        # A line of its own for the bracket: the condition may end in a comment.
        return statement.where(sa.text(f"({self._where}\n)").bindparams(*map(self._bound, self._parameters)))

    def _bound(self, name: str) -> Any:
        import sqlalchemy as sa

        value = self._parameters[name]
        untyped = isinstance(value, str) and not self._texts_have_types
        return sa.bindparam(name, value, type_=sa.types.NULLTYPE if untyped else None)
