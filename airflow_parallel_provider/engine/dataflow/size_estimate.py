# SPDX-License-Identifier: Apache-2.0
"""A rough estimate of the bytes that values hold, so that a channel of large values does not fill the memory.

It runs under the locks of channels and chunks. So it calls no code of a value's class: only built-in methods, and
attributes of classes written in C or of well-known libraries.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from types import GetSetDescriptorType, MemberDescriptorType, MethodDescriptorType, WrapperDescriptorType
from typing import Any, Final

_SAMPLE = 16
_UNKNOWN = 64
"""Bytes of an object that cannot be asked."""
_TRUSTED: Final = frozenset({"numpy", "pandas", "pyarrow", "polars", "xarray", "torch"})
_OF_C: Final = (GetSetDescriptorType, MemberDescriptorType)
_METHOD_OF_C: Final = (MethodDescriptorType, WrapperDescriptorType)
_BUILT_IN: Final = (list, tuple, dict, set)
_SERIALIZED: Final = f"{__name__.partition('.')[0]}.engine.ipc.serialized"


def estimate_bytes(values: Sequence[Any]) -> int:
    """Bytes of a bundle's values, estimated from the first one: the values of a stage are alike."""
    try:
        return len(values) * _bytes_of(values[0], 2) if values else 0
    except Exception:  # noqa: BLE001 - an estimate is not worth a failed run
        return _UNKNOWN * len(values)


def _bytes_of(value: Any, depth: int) -> int:
    kind = type(value)
    if kind is int or kind is str or kind is float or kind is bytes:
        return sys.getsizeof(value)
    for built_in in _BUILT_IN:
        if kind is built_in or issubclass(kind, built_in):
            return _bytes_of_container(value, built_in, depth)
    if kind.__name__ == "DataFrame" and kind.__module__.startswith("pandas."):
        return _bytes_of_frame(value)
    size: object = value.nbytes if _may_ask(kind, "nbytes", _OF_C) else _own_fields(value, kind).get("nbytes")
    if type(size) is int:
        return int(size)
    return sys.getsizeof(value, _UNKNOWN) if _may_ask(kind, "__sizeof__", _METHOD_OF_C) else _UNKNOWN


def _bytes_of_container(value: Any, kind: Any, depth: int) -> int:
    own = int(kind.__sizeof__(value))
    count = int(kind.__len__(value))
    if not depth or not count:
        return own
    sample = list(itertools.islice(dict.values(value) if kind is dict else kind.__iter__(value), _SAMPLE))
    inside = sum(_bytes_of(each, depth - 1) for each in sample)
    return own + inside * count // len(sample)


def _bytes_of_frame(frame: Any) -> int:
    """Of pandas. Its own estimate asks each object of a column."""
    objects = sum(bool(getattr(each, "hasobject", False)) for each in frame.dtypes)
    return int(frame.memory_usage(index=False, deep=False).sum()) + _UNKNOWN * objects * int(frame.shape[0])


def _own_fields(value: Any, kind: type) -> Any:
    """The attributes that an object itself has."""
    for base in kind.__mro__:
        if "__dict__" in base.__dict__:
            found = base.__dict__["__dict__"]
            return found.__get__(value) if type(found) is GetSetDescriptorType else {}
    return {}


def _may_ask(kind: type, name: str, of_c: tuple[type, ...]) -> bool:
    """Whether an attribute of a class runs no code of the pipeline's author."""
    for base in kind.__mro__:
        if name in base.__dict__:
            module = base.__module__
            trusted = module.partition(".")[0] in _TRUSTED or module == _SERIALIZED
            return trusted or isinstance(base.__dict__[name], of_c)
    return False
