# SPDX-License-Identifier: Apache-2.0
"""``Aggregate``: what an author writes to have an aggregate over all rows of a load. Cheap to import."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_parallel_provider.checks import check_whole
from airflow_parallel_provider.errors import PlanError

OPERATIONS = ("count", "sum", "min", "max", "mean", "variance", "stddev", "quantiles", "distinct")
MOST_GROUPS = 1000
MOST_AGGREGATES = 50
QUANTILES = (0.5, 0.9, 0.99)
_SPELLED = re.compile(r"\s*(\w+)\s*(?:\(\s*([^(),]+?)\s*((?:,\s*[0-9.]+\s*)*)\))?\s*(?:\bby\s+(.+?))?\s*")
_FIELD = "SinkTable.aggregates"


@dataclass(frozen=True)
class Aggregate:
    """An aggregate over all rows of a load.

    ============== ================================================================== =======================
    operation      what it is                                                         values it takes
    ============== ================================================================== =======================
    ``count``      rows; with a column, those where it is not missing                 any
    ``sum``        exact, whatever the chunks: int, Decimal or the nearest float      numbers
    ``mean``       sum / count                                                        numbers
    ``variance``   sample variance (n-1), merged as Chan, Golub and LeVeque do        numbers
    ``stddev``     its square root                                                    numbers
    ``min, max``                                                                      numbers, texts, times
    ``quantiles``  DDSketch: within 1 % of a value of that rank                       numbers
    ``distinct``   HyperLogLog: how many distinct values, standard error 1.6 %        any but dict and list
    ============== ================================================================== =======================

    None and NaN count as missing; an aggregate over no values is None (a count is 0).

    :param operation: one of the above.
    :param column: the column; None only for ``count``.
    :param by: a column with few values: one result for each of them.
    :param groups: how many values of ``by`` have their own result, at most 1000. The rows of the others are aggregated
        under :data:`OTHER`; which ones these are depends only on the values, not on the order of rows or chunks.
    :param quantiles: for ``quantiles``, fractions from 0 to 1.
    :raises PlanError: for an invalid argument; names it.
    """

    operation: str
    column: str | None = None
    by: str | None = None
    groups: int = 100
    quantiles: tuple[float, ...] = QUANTILES

    def __post_init__(self) -> None:
        """Check."""
        if self.operation not in OPERATIONS:
            raise PlanError("Aggregate.operation", self.operation, f"write one of {', '.join(OPERATIONS)}")
        for name in ("column", "by"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value):
                raise PlanError(f"Aggregate.{name}", value, "give the name of a column, or leave it out")
        if self.column is None and self.operation != "count":
            raise PlanError(
                "Aggregate.column", None, f"{self.operation} needs a column, e.g. '{self.operation}(price)'"
            )
        check_whole("Aggregate.groups", self.groups, 1, MOST_GROUPS)
        object.__setattr__(self, "quantiles", _fractions(self.quantiles))

    @classmethod
    def parse(cls, text: str) -> Aggregate:
        """Read ``"count"``, ``"sum(price)"``, ``"quantiles(price, 0.5, 0.99)"``, ``"mean(price) by currency"``.

        :raises PlanError: if it is none of those.
        """
        found = _SPELLED.fullmatch(text)
        if found is None:
            cure = "write e.g. 'count', 'sum(price)', 'quantiles(price, 0.5, 0.99)' or 'mean(price) by currency'"
            raise PlanError(_FIELD, text, cure)
        operation, column, numbers, by = found.groups()
        if numbers and operation != "quantiles":
            raise PlanError(_FIELD, text, "only quantiles takes numbers; use Aggregate(...) for a column with a comma")
        fractions = [number.strip() for number in (numbers or "").split(",") if number.strip()]
        return cls(operation, column, by, quantiles=_fractions(fractions) if fractions else QUANTILES)

    def as_text(self) -> str:
        """Everything that a partial depends on, as text."""
        inner = f"({self.column})" if self.column is not None else ""
        by = f" by {self.by} (at most {self.groups})" if self.by is not None else ""
        return f"{self.operation}{inner}{by}"


def declared_aggregates(given: object) -> dict[str, Aggregate]:
    """Read ``aggregates=``: a mapping of a name to an :class:`Aggregate` or its text.

    :raises PlanError: if it is none.
    """
    if given is None:
        return {}
    if isinstance(given, tuple) and all(isinstance(pair, tuple) and len(pair) == 2 for pair in given):
        given = dict(given)  # as TableSpec keeps it
    if not isinstance(given, Mapping):
        raise PlanError(_FIELD, given, "give a dict of names, e.g. {'revenue': 'sum(price)'}")
    if len(given) > MOST_AGGREGATES:
        raise PlanError(_FIELD, f"{len(given)} of them", f"at most {MOST_AGGREGATES}; use SQL for more")
    return {_name(name): _declared(name, each) for name, each in given.items()}


def _name(name: object) -> str:
    if not isinstance(name, str) or not 0 < len(name) <= 100:
        raise PlanError(_FIELD, name, "the name of an aggregate is a text of 1 to 100 characters")
    return name


def _declared(name: object, each: Any) -> Aggregate:
    if isinstance(each, Aggregate):
        return each
    if isinstance(each, str):
        return Aggregate.parse(each)
    raise PlanError(f"{_FIELD}[{name!r}]", each, "give a text such as 'sum(price)', or Aggregate('sum', 'price')")


def _fractions(given: Any) -> tuple[float, ...]:
    cure = "give fractions from 0 to 1, e.g. (0.5, 0.99)"
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise PlanError("Aggregate.quantiles", given, cure)
    try:
        fractions = tuple(float(each) for each in given)
    except (TypeError, ValueError):
        raise PlanError("Aggregate.quantiles", given, cure) from None
    if not fractions or not all(0 <= each <= 1 for each in fractions):
        raise PlanError("Aggregate.quantiles", given, cure)
    return fractions
