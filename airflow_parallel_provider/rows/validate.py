# SPDX-License-Identifier: Apache-2.0
"""``SinkTable(validate=...)``: which rows are valid, before any row is sent to the database."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import PlanError, SchemaMismatch
from airflow_parallel_provider.foreign.calls import type_name
from airflow_parallel_provider.foreign.errors import error_text, trace_of
from airflow_parallel_provider.foreign.fork_guard import guarded
from airflow_parallel_provider.foreign.frames import location_of
from airflow_parallel_provider.foreign.text import clean

if TYPE_CHECKING:
    from airflow_parallel_provider.rows.reject import RejectedRow


_BOOLS = frozenset({"bool", "bool_"})
"""Also NumPy's, the result of a comparison of its numbers: ``row["price"] > 0``."""


class RowRefused(Exception):
    """A row is not valid.

    :param reason: for the table of rejected rows; may contain values.
    :param cause: for reports and logs, without values.
    """

    def __init__(self, reason: str, cause: str) -> None:
        super().__init__(cause)
        self.reason = reason
        self.cause = cause


def check_validate(validate: object) -> None:
    """Refuse a value of ``validate`` that is neither a function nor a pydantic model.

    :raises PlanError: naming the cure.
    """
    cure = "give a function of a row (raise, or return a reason, to reject it) or a pydantic model"
    if validate is None or _is_model(validate):
        return
    if isinstance(validate, type) or not callable(validate):
        raise PlanError("SinkTable.validate", validate, cure)


def validate_rows(
    validate: Any, rows: Sequence[Any], names: tuple[str, ...] | None
) -> tuple[list[Any], list[int], list[RejectedRow]]:
    """The valid rows, their numbers in the chunk, and the rejected rows.

    :param names: columns of rows that have no names of their own.
    """
    from airflow_parallel_provider.rows.block import enumerate_rows
    from airflow_parallel_provider.rows.reject import RejectedRow

    check = _model_check(validate, names) if _is_model(validate) else _function_check(validate)
    valid: list[Any] = []
    numbers: list[int] = []  # not pairs: so many objects would start the garbage collector
    rejected: list[RejectedRow] = []
    for row, at in enumerate_rows(rows):
        try:
            valid.append(check(row))
        except RowRefused as error:
            rejected.append(RejectedRow(row, at, "validate", error.reason, error.cause))
        else:
            numbers.append(at)
    return valid, numbers, rejected


def _is_model(validate: object) -> bool:
    return isinstance(validate, type) and callable(getattr(validate, "model_validate", None))


def _function_check(validate: Callable[[Any], Any]) -> Callable[[Any], Any]:
    name = getattr(validate, "__name__", type(validate).__name__)
    validate = guarded(validate)

    def check(row: Any) -> Any:
        try:
            result = validate(row)
        except (Exception, SystemExit, GeneratorExit) as error:  # noqa: BLE001  # any error of it rejects the row
            raise _refused_by_error(error) from None
        if result is None or result is True:
            return row
        if type(result).__name__ in _BOOLS:
            if result:
                return row
            raise RowRefused(f"{name} returned False", f"refused by {name}")
        if isinstance(result, str):
            raise RowRefused(result, f"refused by {name}")
        return result

    return check


def _model_check(model: Any, names: tuple[str, ...] | None) -> Callable[[Any], Any]:
    from pydantic import ValidationError

    make = guarded(lambda row: model.model_validate(row, from_attributes=not isinstance(row, Mapping)).model_dump())

    def check(row: Any) -> Any:
        if isinstance(row, (tuple, list)):
            row = _as_dict(row, getattr(row, "_fields", names))
        try:
            return make(row)
        except ValidationError as error:
            found = error.errors(include_input=False, include_url=False, include_context=False)
        except Exception as error:  # noqa: BLE001  # a validator of the model may raise anything
            raise _refused_by_error(error) from None
        reason = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in found)
        fields = {f"{_field(each, model)}: {each['type']}" for each in found}
        raise RowRefused(reason, "ValidationError " + ", ".join(sorted(fields)[:5]))

    return check


def _refused_by_error(error: BaseException) -> RowRefused:
    name = clean(type_name(error), 200)
    return RowRefused(error_text(error), f"{name} ({location_of(trace_of(error))})")


def _as_dict(row: Sequence[Any], names: Sequence[str] | None) -> dict[str, Any]:
    if names is None:
        raise SchemaMismatch(
            f"a row is a {type(row).__qualname__} of {len(row)} values without names: name them with "
            "SinkTable(columns=[...]), or return dicts"
        )
    if len(row) != len(names):
        reason = f"{len(row)} values, but there are {len(names)} columns ({', '.join(names)})"
        raise RowRefused(reason, reason)
    return dict(zip(names, row, strict=True))


def _field(error: Mapping[str, Any], model: Any) -> Any:
    """The field of an error: the rest of its location, and an unexpected field, may be keys of the row."""
    location = error["loc"]
    return location[0] if location and error["type"] != "extra_forbidden" else model.__name__
