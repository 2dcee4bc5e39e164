# SPDX-License-Identifier: Apache-2.0
"""Values for people: like ``repr``, but short, linear in its own length, and safe against the value's own code.

``repr`` of built-in containers follows shared parts again and again: an item of thirty lists, each of which holds the
next one twice, has a billion parts.
"""

from __future__ import annotations

import itertools
import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Final, NamedTuple

from airflow_parallel_provider.foreign.calls import Conversion, convert, type_name
from airflow_parallel_provider.foreign.text import clean

UNSHOWN: Final = "(its text cannot be shown)"
"""The message of an error whose own code gives none."""

_DEEPEST: Final = 20
_FULL: Final = 1_000_000
_BITS: Final = 2000
"""Bits of a whole number that is shown with its digits: Python refuses to write those of very long ones."""
_CONTAINERS: Final = (list, dict, tuple, set, frozenset, deque, OrderedDict, defaultdict)
_BRACKETS: Final = {list: ("[", "]"), tuple: ("(", ")"), set: ("{", "}"), dict: ("{", "}")}


def shown(value: object, limit: int) -> str:
    """A value as text of at most ``limit`` characters, clean (see :func:`~.text.clean`).

    What its class says about itself is asked for a limited time, without any lock of this package; a class that hangs,
    raises or gives no text is shown by its name.
    """
    fallback = f"<{type_name(value)} that cannot be shown>"
    return clean(convert(lambda conversion: _Writer(conversion, limit).text(value), fallback), limit)


def text_of(value: object, limit: int) -> str:
    """Like :func:`shown`, but as ``str`` gives it: a text without quotes."""
    if type(value) is str:
        return clean(value, limit)
    fallback = f"<{type_name(value)} that cannot be shown>"
    return clean(convert(lambda conversion: str_of(value, conversion, limit), fallback), limit)


def full_text(value: object) -> str:
    """``repr(value)``, for comparing and not for showing; the name of its class where that cannot be had in time."""

    def make(conversion: Conversion) -> str:
        kind = type(value)
        if issubclass(kind, (OrderedDict, defaultdict)) and conversion.may_call(kind):
            return repr(value)  # shown() writes them in another way than every Python does
        return _Writer(conversion, _FULL).text(value)

    return str(convert(make, f"<{type_name(value)}>"))


def str_of(value: object, conversion: Conversion, limit: int) -> str:
    """``str(value)``, or the beginning of it.

    :param conversion: which the call is part of.
    """
    kind = type(value)
    if kind is str:
        return value[: limit + 1]  # type: ignore[index,no-any-return]  # it is a text
    if kind not in _PLAIN and _is_simple(value, kind):
        return str(value)[: limit + 1]
    if kind.__str__ is object.__str__ or _is_simple(value, kind) or _repr_of(kind) is not None:
        return _Writer(conversion, limit).text(value)
    if issubclass(kind, BaseException):
        return message_of(value, conversion, limit)  # type: ignore[arg-type]
    if not conversion.may_call(kind):
        return f"<{type_name(value)}>"
    return str.__str__(str(value))[: limit + 1]


def message_of(error: BaseException, conversion: Conversion, limit: int) -> str:
    """``str(error)``, or the beginning of it. Its arguments may be items: ``raise ValueError(item)``.

    :param conversion: which the call is part of.
    """
    kind = type(error)
    arguments: tuple[Any, ...] = _ARGS.__get__(error)
    own: Any = kind.__str__
    if own is BaseException.__str__ and kind.__repr__ is BaseException.__repr__:
        if not arguments:
            return ""
        return (
            str_of(arguments[0], conversion, limit)
            if len(arguments) == 1
            else _Writer(conversion, limit).text(arguments)
        )
    if own is KeyError.__str__ and len(arguments) == 1:
        return _Writer(conversion, limit).text(arguments[0])
    if not conversion.may_call(kind):
        return UNSHOWN
    return str.__str__(str(error))[: limit + 1]


class _Writer:
    """Writes one value, until its text is long enough."""

    def __init__(self, conversion: Conversion, limit: int) -> None:
        self._conversion = conversion
        self._left = limit + 1  # one more, so that a longer text is seen to be longer
        self._parts: list[str] = []
        self._path: set[int] = set()

    def text(self, value: object) -> str:
        self._write(value, 0)
        return "".join(self._parts)

    def _add(self, text: str) -> None:
        self._parts.append(text)
        self._left -= len(text)

    def _write(self, value: Any, depth: int) -> None:
        kind = type(value)
        if kind in (str, bytes):
            self._add(repr(value[: self._left]))
        elif kind is int:
            bits = value.bit_length()
            self._add(repr(value) if bits <= _BITS else f"<int of {bits} bits>")
        elif _is_simple(value, kind):
            self._add(repr(value)[: max(self._left, 0)])
        elif (of := _repr_of(kind)) is not None:
            self._write_container(value, kind, of, depth)
        else:
            self._write_other(value, kind, depth)

    def _write_container(self, value: Any, kind: type, of: Any, depth: int) -> None:
        if id(value) in self._path or depth > _DEEPEST:
            self._add("...")
            return
        self._path.add(id(value))
        pairs = issubclass(of, dict)
        opening, closing = _BRACKETS.get(of) or (("{", "}") if pairs or of is frozenset else ("[", "]"))
        if of not in _BRACKETS or (of is set and kind is not set):  # as the built-in writes itself
            opening, closing = f"{type_name(value)}({opening}", f"{closing})"
        parts = dict.items(value) if pairs else of.__iter__(value)
        if of is tuple and tuple.__len__(value) == 1:
            closing = ",)"
        if of in (set, frozenset) and not of.__len__(value):
            opening, closing = f"{type_name(value)}(", ")"
        self._write_parts(opening, closing, parts, depth, pairs=pairs)
        self._path.discard(id(value))

    def _write_parts(self, opening: str, closing: str, parts: Iterable[Any], depth: int, *, pairs: bool) -> None:
        self._add(opening)
        for number, part in enumerate(itertools.islice(parts, max(self._left, 0))):
            if number:
                self._add(", ")
            if self._left <= 0:
                return
            if pairs:
                key, part = part  # noqa: PLW2901
                self._write(key, depth + 1)
                self._add(": ")
            self._write(part, depth + 1)
        self._add(closing)

    def _write_other(self, value: Any, kind: type, depth: int) -> None:
        if not self._conversion.may_call(kind):
            self._add(f"<{type_name(value)}>")
            return
        try:
            names = _fields_of(value, kind)
            if names is None:
                self._add(str.__str__(repr(value))[: max(self._left, 0)])
            elif id(value) in self._path or depth > _DEEPEST:
                self._add("...")
            else:
                self._write_fields(value, names, depth)
        except BaseException:  # noqa: BLE001 - on a thread of its own: SystemExit must not end it
            self._add(f"<{type_name(value)} whose repr raises>")

    def _write_fields(self, value: Any, names: Iterable[str], depth: int) -> None:
        self._path.add(id(value))
        self._add(f"{type_name(value)}(")
        for number, name in enumerate(names):
            self._add(f"{', ' if number else ''}{name}=")
            self._write(getattr(value, name), depth + 1)
            if self._left <= 0:
                break
        self._add(")")
        self._path.discard(id(value))


def _repr_of(kind: type) -> type | None:
    """The built-in container whose ``repr`` a class has."""
    own: Any = kind.__repr__
    return next((base for base in _CONTAINERS if own is base.__repr__ and issubclass(kind, base)), None)


def _fields_of(value: Any, kind: type) -> Iterable[str] | None:
    """The fields of a dataclass or a named tuple whose ``repr`` is the usual one."""
    code = getattr(kind.__repr__, "__code__", None)
    if code is _DATACLASS_REPR:
        return [each.name for each in fields(value) if each.repr]
    return kind._fields if code is _NAMED_TUPLE_REPR else None  # type: ignore[attr-defined]


def _is_simple(value: object, kind: type) -> bool:
    """Whether ``repr`` runs no code but the standard library's, and is short."""
    if kind in _PLAIN:
        return True
    name = kind.__module__
    if name not in _SIMPLE_MODULES or getattr(sys.modules.get(name), kind.__name__, None) is not kind:
        return False
    return type(getattr(value, "tzinfo", None)).__module__ in ("builtins", "datetime", "zoneinfo")


@dataclass
class _Sample:
    """A dataclass; the code of its ``repr`` is that of all dataclasses."""

    field: int = 0


class _SampleTuple(NamedTuple):
    """A named tuple, for the same reason."""

    field: int = 0


_ARGS: Final = BaseException.__dict__["args"]
_PLAIN: Final = frozenset({str, bytes, int, bool, float, complex, type(None), bytearray})
_SIMPLE_MODULES: Final = frozenset({"datetime", "decimal", "uuid"})
_DATACLASS_REPR: Final = _Sample.__repr__.__code__
_NAMED_TUPLE_REPR: Final[Any] = _SampleTuple.__repr__.__code__
