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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from airflow_parallel_provider.values.items import Message, SourceFile, SourceLine
from airflow_parallel_provider.values.json_text import JsonNumber
from airflow_parallel_provider.values.plain import plain

TAG = "$type"
_UNTAGGED = frozenset({type(None), bool, int, str})
_DEEPEST = 100
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

    A longer text is cut: only its beginning is kept, as text.
    """
    encoder = _Encoder()
    try:
        text = json.dumps(encoder.encode(value, 0), allow_nan=False)
    except Exception as error:  # noqa: BLE001  # the dead letter is more important than a broken __repr__ or property
        text, encoder.exact = json.dumps({TAG: "unreadable", "value": type(error).__name__}), False
    if len(text) <= cap:
        return text, encoder.exact
    short = json.dumps({TAG: "cut", "length": len(text), "value": ""})
    head = text[: max(cap - len(short), 0)]
    while len(wrapped := json.dumps({TAG: "cut", "length": len(text), "value": head})) > cap and head:
        head = head[: len(head) - max(1, (len(wrapped) - cap) // 2)]  # quotes in the head cost two characters
    return wrapped, False


def loads(text: str) -> Any:
    """The value of a text; what was written for people to read becomes :class:`Opaque`."""
    return _decode(json.loads(text))


class _Encoder:
    def __init__(self) -> None:
        self.exact = True

    def encode(self, value: Any, depth: int) -> Any:
        if depth > _DEEPEST:
            self.exact = False
            return {TAG: "deeper", "value": type(value).__qualname__}
        kind = type(value)
        if kind in _UNTAGGED or (kind is float and math.isfinite(value)):
            return value
        if kind is list:
            return [self.encode(item, depth + 1) for item in value]
        if kind is dict:
            return self._encode_dict(value, depth)
        to_json = _TO_JSON.get(kind)
        if to_json is not None:
            return {TAG: kind.__name__, "value": self.encode(to_json(value), depth + 1)}
        return self._encode_other(value, kind, depth)

    def _encode_dict(self, value: dict[Any, Any], depth: int) -> Any:
        if all(type(key) is str for key in value) and TAG not in value:
            return {key: self.encode(item, depth + 1) for key, item in value.items()}
        pairs = [[self.encode(key, depth + 1), self.encode(item, depth + 1)] for key, item in value.items()]
        return {TAG: "dict", "value": pairs}

    def _encode_other(self, value: Any, kind: type, depth: int) -> Any:
        reduced = value if isinstance(value, (Enum, tuple, Mapping)) else plain(value)
        if type(reduced) is not kind:  # a value of NumPy, pandas or pendulum: its plain value is equivalent
            return self.encode(reduced, depth + 1)
        if kind in _SOURCE_ITEMS:
            return {
                TAG: kind.__name__,
                "value": {f.name: self.encode(getattr(value, f.name), depth + 1) for f in fields(value)},
            }
        self.exact = False
        return {TAG: "object", "class": f"{kind.__module__}:{kind.__qualname__}", "value": self._content(value, depth)}

    def _content(self, value: Any, depth: int) -> Any:
        if isinstance(value, Enum):
            return self.encode(value.value, depth + 1)
        if is_dataclass(value):
            return {f.name: self.encode(getattr(value, f.name, None), depth + 1) for f in fields(value)}
        names = getattr(value, "_fields", None)
        if names is not None and isinstance(value, tuple):
            return self._encode_dict(dict(zip(names, value, strict=True)), depth)
        if isinstance(value, Mapping):
            return self._encode_dict(dict(value), depth)
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self.encode(item, depth + 1) for item in value]
        return repr(value)[:_MOST_TEXT]


_SOURCE_ITEMS = (SourceFile, SourceLine, Message)
"""Items of the provider's own sources. A message is acknowledged once its dead letter is committed: then the dead
letter is the only copy of the message."""

_TO_JSON: Mapping[type, Callable[[Any], Any]] = {
    tuple: list,
    set: lambda value: sorted(value, key=repr),
    frozenset: lambda value: sorted(value, key=repr),
    bytes: lambda value: base64.b64encode(value).decode("ascii"),
    bytearray: lambda value: base64.b64encode(value).decode("ascii"),
    float: repr,  # NaN and the infinities
    Decimal: str,
    JsonNumber: str,
    complex: repr,
    UUID: str,
    date: date.isoformat,
    time: time.isoformat,
    datetime: datetime.isoformat,
    timedelta: lambda value: [value.days, value.seconds, value.microseconds],
}
_FROM_JSON: Mapping[str, Callable[[Any], Any]] = {
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "bytes": lambda value: base64.b64decode(value, validate=True),
    "bytearray": lambda value: bytearray(base64.b64decode(value, validate=True)),
    "Decimal": Decimal,
    "JsonNumber": JsonNumber,
    "complex": complex,
    "UUID": UUID,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "datetime": datetime.fromisoformat,
    "timedelta": lambda value: timedelta(*value),
    "float": float,
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
