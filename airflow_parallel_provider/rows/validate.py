"""``SinkTable(validate=...)``: which rows are good, before the table sees them."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import PlanError, SchemaMismatch

if TYPE_CHECKING:
    from airflow_parallel_provider.rows.reject import RejectedRow


_BOOLS = frozenset({"bool", "bool_"})
"""Also those of NumPy, which its numbers give when they are compared: ``row["price"] > 0``."""


class Refused(Exception):
    """A row is not good.

    :param reason: for the table of rejected rows.
    :param cause: for logs, without a value.
    """

    def __init__(self, reason: str, cause: str) -> None:
        super().__init__(cause)
        self.reason = reason
        self.cause = cause


def check_validate(validate: object) -> None:
    """Refuse what can validate nothing.

    :raises PlanError: saying what to give.
    """
    cure = "give a function of a row (raise, or return a reason, to reject it) or a pydantic model"
    if validate is None or _is_model(validate):
        return
    if isinstance(validate, type) or not callable(validate):
        raise PlanError("SinkTable.validate", validate, cure)


def validate_rows(
    validate: Any, rows: Sequence[Any], names: tuple[str, ...] | None
) -> tuple[list[Any], list[int | None], list[RejectedRow]]:
    """The good rows, their numbers in the chunk, and the others.

    :param names: of the columns of rows that have none.
    """
    from airflow_parallel_provider.rows.block import enumerate_rows
    from airflow_parallel_provider.rows.reject import RejectedRow

    check = _model_check(validate, names) if _is_model(validate) else _function_check(validate)
    good: list[Any] = []
    numbers: list[int | None] = []  # not pairs: so many of them would wake the garbage collector
    bad: list[RejectedRow] = []
    for row, at in enumerate_rows(rows):
        try:
            good.append(check(row))
        except Refused as refused:
            bad.append(RejectedRow(row, at, "validate", refused.reason, refused.cause))
        else:
            numbers.append(at)
    return good, numbers, bad


def _is_model(validate: object) -> bool:
    return isinstance(validate, type) and callable(getattr(validate, "model_validate", None))


def _function_check(validate: Callable[[Any], Any]) -> Callable[[Any], Any]:
    name = getattr(validate, "__name__", type(validate).__name__)

    def check(row: Any) -> Any:
        try:
            answer = validate(row)
        except Exception as error:  # noqa: BLE001  # whatever an author's function raises is why the row is refused
            raise Refused(f"{type(error).__name__}: {error}", f"{type(error).__name__} ({_place(error)})") from None
        if answer is None or answer is True:
            return row
        if type(answer).__name__ in _BOOLS:
            if answer:
                return row
            raise Refused(f"{name} returned False", f"refused by {name}")
        if isinstance(answer, str):
            raise Refused(answer, f"refused by {name}")
        return answer

    return check


def _place(error: Exception) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{PurePath(last.filename).name}:{last.lineno}"


def _named(row: Sequence[Any], names: Sequence[str] | None) -> dict[str, Any]:
    if names is None:
        raise SchemaMismatch(
            f"a row is a {type(row).__qualname__} of {len(row)} values without names: name them with "
            "SinkTable(columns=[...]), or return dicts"
        )
    if len(row) != len(names):
        reason = f"{len(row)} values, but there are {len(names)} columns ({', '.join(names)})"
        raise Refused(reason, reason)
    return dict(zip(names, row, strict=True))


def _field(error: Mapping[str, Any], model: Any) -> Any:
    """Where an error is, without a key that the row brought: those are further down, or in place of a field."""
    place = error["loc"]
    return place[0] if place and error["type"] != "extra_forbidden" else model.__name__


def _model_check(model: Any, names: tuple[str, ...] | None) -> Callable[[Any], Any]:
    from pydantic import ValidationError

    def check(row: Any) -> Any:
        if isinstance(row, (tuple, list)):
            row = _named(row, getattr(row, "_fields", names))
        try:
            return model.model_validate(row, from_attributes=not isinstance(row, Mapping)).model_dump()
        except ValidationError as error:
            found = error.errors(include_input=False, include_url=False, include_context=False)
        except Exception as error:  # noqa: BLE001  # a validator of the model's own may raise anything
            raise Refused(f"{type(error).__name__}: {error}", f"{type(error).__name__} ({_place(error)})") from None
        reason = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in found)
        fields = {f"{_field(each, model)}: {each['type']}" for each in found}
        raise Refused(reason, "ValidationError " + ", ".join(sorted(fields)[:5]))

    return check
