# SPDX-License-Identifier: Apache-2.0
"""Values as JSON that can be read back as the same values, without running code that the text names.

A type that JSON has is written as itself. Every other value becomes ``{"$type": name, "value": ...}``. A dict that has
a key ``$type``, or keys that are not texts, is written as a list of pairs. Objects of other classes can be written
(their fields or their text, for people to read) but not read back: :class:`Opaque` stands for them.

The tags are stored in tables. A tag or a form that was written once must stay readable.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from airflow_parallel_provider.foreign.calls import Conversion, convert, plain_fields, type_name
from airflow_parallel_provider.foreign.text import clean
from airflow_parallel_provider.values.intervals import DayTime, Interval, parts
from airflow_parallel_provider.values.items import Message, SourceFile, SourceLine
from airflow_parallel_provider.values.json_text import JsonNumber, JsonText
from airflow_parallel_provider.values.plain import plain

TAG = "$type"
_UNTAGGED = frozenset({type(None), bool, int, str})
_DEEPEST = 100
_MOST_BITS = 13_000
"""Bits of a whole number that is written with its decimal digits: Python refuses to write or read very long ones."""
_MOST_TEXT = 1000
"""Most characters of the text of an object that cannot be read back."""


@dataclass(frozen=True, slots=True)
class Opaque:
    """Stands for a value that was written for people to read."""

    kind: str
    """``module:Class`` of the value."""
    content: Any
    """Its fields, its enum value, or the beginning of its text."""


def dumps(value: Any, cap: int) -> tuple[str, bool]:
    """A value as ASCII text of at most ``cap`` characters, and whether :func:`loads` gives the same value back.

    A longer text is cut: only its beginning is kept, as text. The work grows with ``cap``, not with the value: an item
    that contains itself, or shares its parts again and again, takes no longer than another one. The code of a value's
    class (properties, ``__repr__``) runs for a limited time, see :mod:`airflow_parallel_provider.foreign.calls`.
    """
    return convert(lambda conversion: _dumps(value, cap, conversion), (_unreadable(value), False))


def _dumps(value: Any, cap: int, conversion: Conversion) -> tuple[str, bool]:
    encoder = _Encoder(conversion, cap)
    text = json.dumps(encoder.encode(value, 0), allow_nan=False)
    if len(text) <= cap and encoder.left >= 0:
        return text, encoder.exact
    length = len(text) if encoder.left >= 0 else None  # the whole length is unknown
    short = json.dumps({TAG: "cut", "length": length, "value": ""})
    head = text[: max(cap - len(short), 0)]
    while len(wrapped := json.dumps({TAG: "cut", "length": length, "value": head})) > cap and head:
        head = head[: len(head) - max(1, (len(wrapped) - cap) // 2)]  # quotes in the head cost two characters
    return wrapped, False


def _unreadable(value: Any) -> str:
    return json.dumps({TAG: "unreadable", "value": type_name(value)[:100]})


def loads(text: str) -> Any:
    """The value of a text; what was written for people to read becomes :class:`Opaque`."""
    return _decode(json.loads(text))


class _Encoder:
    """Makes of one value what JSON has.

    :param cap: characters after which it stops. What it has made by then is longer as JSON.
    """

    def __init__(self, conversion: Conversion, cap: int) -> None:
        self.exact = True
        self.left = cap
        self._conversion = conversion
        self._path: set[int] = set()

    def encode(self, value: Any, depth: int) -> Any:
        self.left -= 1
        kind = type(value)
        if kind is str:
            return self._short(value)
        if kind is int and value.bit_length() > _MOST_BITS:
            return {TAG: "int", "value": self._short(hex(value))}
        if kind in _UNTAGGED or (kind is float and math.isfinite(value)):
            return value
        if depth > _DEEPEST or id(value) in self._path:
            self.exact = False
            return {TAG: "deeper" if depth > _DEEPEST else "cycle", "value": type_name(value)}
        self._path.add(id(value))
        try:
            return self._encode_inside(value, kind, depth)
        finally:
            self._path.discard(id(value))

    def _short(self, text: str) -> str:
        self.left -= len(text)
        return text if self.left >= 0 else text[: self.left] if -self.left < len(text) else ""

    def _encode_inside(self, value: Any, kind: type, depth: int) -> Any:
        if kind is list:
            return self._encode_parts(value, depth)
        if kind is dict:
            return self._encode_dict(value.items(), depth)
        if kind in _OWN_WRITERS:
            return {TAG: kind.__name__, "value": _OWN_WRITERS[kind](self, value, depth)}
        to_json = _TO_JSON.get(kind)
        if to_json is not None and self._may_write(value, kind):
            return {TAG: kind.__name__, "value": self.encode(to_json(value), depth + 1)}
        return self._encode_other(value, kind, depth)

    def _encode_bytes(self, value: bytes | bytearray, _: int) -> str:
        return self._short(base64.b64encode(value[: max(self.left, 0)]).decode())

    def _encode_set(self, value: Iterable[Any], depth: int) -> list[Any]:
        return sorted(self._encode_parts(value, depth), key=json.dumps)

    def _may_write(self, value: Any, kind: type) -> bool:
        """Whether a value of the standard library can be asked for its text: a date asks its time zone."""
        zone = value.tzinfo if kind is datetime or kind is time else None
        known = zone is None or type(zone).__module__ in ("datetime", "zoneinfo")
        return known or self._conversion.may_call(type(zone))

    def _encode_parts(self, parts: Iterable[Any], depth: int) -> list[Any]:
        made = []
        for part in parts:
            if self.left < 0:
                break
            made.append(self.encode(part, depth + 1))
        return made

    def _encode_dict(self, pairs: Iterable[tuple[Any, Any]], depth: int) -> Any:
        made, plain_keys = [], True
        for key, item in pairs:
            if self.left < 0:
                break
            made.append([self.encode(key, depth + 1), self.encode(item, depth + 1)])
            plain_keys = plain_keys and type(key) is str and key != TAG
        return dict(made) if plain_keys else {TAG: "dict", "value": made}

    def _encode_fields(self, value: Any, depth: int) -> Any:
        return {each.name: self.encode(getattr(value, each.name, None), depth + 1) for each in fields(value)}

    def _encode_other(self, value: Any, kind: type, depth: int) -> Any:
        """A value whose class may have code of its own."""
        if issubclass(kind, list):  # its content, whatever it says about itself
            return self._encode_parts(list.__iter__(value), depth)
        if issubclass(kind, (dict, tuple, set, frozenset)) or plain_fields(kind):
            return self._encode_object(value, kind, depth)
        if not self._conversion.may_call(kind):
            self.exact = False
            return {TAG: "unreadable", "value": type_name(value)}
        try:
            reduced = value if issubclass(kind, (Enum, Mapping)) else plain(value)
            if type(reduced) is not kind:  # a value of NumPy, pandas or pendulum: its plain value is equivalent
                return self.encode(reduced, depth + 1)
            return self._encode_object(value, kind, depth)
        except BaseException as error:  # noqa: BLE001 - the item is more important than a broken __repr__ or property
            self.exact = False
            return {TAG: "unreadable", "value": type_name(error)}

    def _encode_object(self, value: Any, kind: type, depth: int) -> Any:
        self.exact = False
        name = clean(f"{kind.__module__}:{type_name(value)}", 200)
        return {TAG: "object", "class": name, "value": self._content(value, kind, depth)}

    def _content(self, value: Any, kind: type, depth: int) -> Any:
        if issubclass(kind, Enum):
            return self.encode(value.value, depth + 1)
        if is_dataclass(kind):
            return self._encode_fields(value, depth)
        if issubclass(kind, Mapping):
            items = dict.items(value) if issubclass(kind, dict) else ((key, value[key]) for key in value)
            return self._encode_dict(items, depth)
        base: Any = next((each for each in (tuple, set, frozenset) if issubclass(kind, each)), None)
        if base is None:
            return self._short(str.__str__(repr(value))[:_MOST_TEXT])
        names = getattr(kind, "_fields", None) if base is tuple else None
        if names is not None:
            return self._encode_dict(zip(names, tuple.__iter__(value), strict=True), depth)
        return self._encode_parts(base.__iter__(value), depth)


_SOURCE_ITEMS = (SourceFile, SourceLine, Message)
"""Items of the provider's own sources. A message is acknowledged once its dead letter is committed: then the dead
letter is the only copy of the message."""

_TO_JSON: Mapping[type, Callable[[Any], Any]] = {
    float: repr,  # NaN and the infinities
    Decimal: str,
    JsonNumber: str,
    JsonText: str,
    complex: repr,
    UUID: str,
    date: date.isoformat,
    time: time.isoformat,
    datetime: datetime.isoformat,
    timedelta: lambda value: [value.days, value.seconds, value.microseconds],
    DayTime: lambda value: list(parts(value)[1:]),
    Interval: lambda value: list(parts(value)),
}
_OWN_WRITERS: Mapping[type, Callable[[_Encoder, Any, int], Any]] = {
    tuple: _Encoder._encode_parts,
    set: _Encoder._encode_set,
    frozenset: _Encoder._encode_set,
    bytes: _Encoder._encode_bytes,
    bytearray: _Encoder._encode_bytes,
    **dict.fromkeys(_SOURCE_ITEMS, _Encoder._encode_fields),
}
_FROM_JSON: Mapping[str, Callable[[Any], Any]] = {
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "bytes": lambda value: base64.b64decode(value, validate=True),
    "bytearray": lambda value: bytearray(base64.b64decode(value, validate=True)),
    "Decimal": Decimal,
    "JsonNumber": JsonNumber,
    "JsonText": JsonText,
    "complex": complex,
    "UUID": UUID,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "datetime": datetime.fromisoformat,
    "timedelta": lambda value: timedelta(*value),
    "DayTime": lambda value: DayTime(*value),
    "Interval": lambda value: Interval(*value),
    "float": float,
    "int": lambda value: int(value, 16),
    "dict": dict,
    "SourceFile": lambda content: SourceFile(**content),
    "SourceLine": lambda content: SourceLine(**content),
    "Message": lambda content: Message(**content),
}


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    if TAG not in value:
        return {key: _decode(item) for key, item in value.items()}
    kind, content = str(value[TAG]), _decode(value.get("value"))
    from_json = _FROM_JSON.get(kind)
    if from_json is not None:
        return from_json(content)
    return Opaque(value.get("class", kind), content)
