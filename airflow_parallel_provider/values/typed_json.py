"""Values as JSON that can be turned back into the same values, without ever running code that the text names.

What JSON has is written as it is. Everything else becomes ``{"$type": name, "value": ...}``; a dict that has a key
``$type`` itself, or keys that are no texts, is written as a list of pairs. Objects of other classes can be written
(their fields or their text, for people to read) but not read back: :class:`Opaque` stands for them.
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

from airflow_parallel_provider.values.items import Message, SourceFile
from airflow_parallel_provider.values.plain import plain

TAG = "$type"
_AS_IT_IS = frozenset({type(None), bool, int, str})
_DEEPEST = 100
_TEXT = 1000
"""Characters kept of the text of an object that cannot be read back."""


@dataclass(frozen=True, slots=True)
class Opaque:
    """Stands for a value that was written for people only."""

    kind: str
    """``module:Class`` of the value."""
    content: Any
    """Its fields, its enum value, or the beginning of its text."""


def dumps(value: Any, cap: int) -> tuple[str, bool]:
    """A value as ASCII text of at most ``cap`` characters, and whether :func:`loads` gives the same value back.

    A value that is longer is cut: its place is taken by the beginning of the text.
    """
    encoder = _Encoder()
    try:
        text = json.dumps(encoder.encode(value, 0), allow_nan=False)
    except Exception as error:  # noqa: BLE001  # a broken __repr__ or property of an item must not lose the dead letter
        text, encoder.exact = json.dumps({TAG: "unreadable", "value": type(error).__name__}), False
    if len(text) <= cap:
        return text, encoder.exact
    short = json.dumps({TAG: "cut", "length": len(text), "value": ""})
    room = max(cap - len(short), 0)
    head = text[:room]
    while len(wrapped := json.dumps({TAG: "cut", "length": len(text), "value": head})) > cap and head:
        head = head[: len(head) - max(1, (len(wrapped) - cap) // 2)]  # quotes in the head cost two characters
    return wrapped, False


def loads(text: str) -> Any:
    """The value a text stands for; what was not exact comes back as :class:`Opaque`."""
    return _decode(json.loads(text))


class _Encoder:
    def __init__(self) -> None:
        self.exact = True

    def encode(self, value: Any, depth: int) -> Any:
        if depth > _DEEPEST:
            self.exact = False
            return {TAG: "deeper", "value": type(value).__qualname__}
        kind = type(value)
        if kind in _AS_IT_IS or (kind is float and math.isfinite(value)):
            return value
        if kind is list:
            return [self.encode(item, depth + 1) for item in value]
        if kind is dict:
            return self._encode_dict(value, depth)
        writer = _WRITERS.get(kind)
        if writer is not None:
            return {TAG: kind.__name__, "value": self.encode(writer(value), depth + 1)}
        return self._encode_other(value, kind, depth)

    def _encode_dict(self, value: dict[Any, Any], depth: int) -> Any:
        if all(type(key) is str for key in value) and TAG not in value:
            return {key: self.encode(item, depth + 1) for key, item in value.items()}
        pairs = [[self.encode(key, depth + 1), self.encode(item, depth + 1)] for key, item in value.items()]
        return {TAG: "dict", "value": pairs}

    def _encode_other(self, value: Any, kind: type, depth: int) -> Any:
        reduced = value if isinstance(value, (Enum, tuple, Mapping)) else plain(value)
        if type(reduced) is not kind:  # NumPy, pandas and pendulum values: the plain value does the same
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
        return repr(value)[:_TEXT]


_SOURCE_ITEMS = (SourceFile, Message)
"""Items of our own sources. A message is acknowledged with the letter about it, so the letter is all there is of it."""

_WRITERS: Mapping[type, Callable[[Any], Any]] = {
    tuple: list,
    set: lambda value: sorted(value, key=repr),
    frozenset: lambda value: sorted(value, key=repr),
    bytes: lambda value: base64.b64encode(value).decode("ascii"),
    bytearray: lambda value: base64.b64encode(value).decode("ascii"),
    float: repr,  # NaN and the infinities
    Decimal: str,
    complex: repr,
    UUID: str,
    date: date.isoformat,
    time: time.isoformat,
    datetime: datetime.isoformat,
    timedelta: lambda value: [value.days, value.seconds, value.microseconds],
}
_READERS: Mapping[str, Callable[[Any], Any]] = {
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "bytes": lambda value: base64.b64decode(value, validate=True),
    "bytearray": lambda value: bytearray(base64.b64decode(value, validate=True)),
    "Decimal": Decimal,
    "complex": complex,
    "UUID": UUID,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "datetime": datetime.fromisoformat,
    "timedelta": lambda value: timedelta(*value),
    "float": float,
    "dict": dict,
    "SourceFile": lambda content: SourceFile(**content),
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
    reader = _READERS.get(kind)
    if reader is not None:
        return reader(content)
    return Opaque(value.get("class", kind), content)
