# SPDX-License-Identifier: Apache-2.0
"""Errors as text: a message and a traceback that stay short, whatever the error's ``str``, its chain and its notes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from airflow_parallel_provider.foreign.calls import convert, hangs, type_name
from airflow_parallel_provider.foreign.frames import frames_text
from airflow_parallel_provider.foreign.shown import UNSHOWN, message_of
from airflow_parallel_provider.foreign.text import clean

MESSAGE_LENGTH: Final = 2000
"""Most characters of a message."""

TRACEBACK_LENGTH: Final = 8000
"""Most characters of a traceback; the end is kept."""

_CHAIN, _GROUP, _NOTES = 6, 10, 5
"""Most errors of a chain, errors shown of a group, and notes of an error."""

_CAUSED: Final = "\nThe above exception was the direct cause of the following exception:\n\n"
_MEANWHILE: Final = "\nDuring handling of the above exception, another exception occurred:\n\n"


def error_text(error: BaseException) -> str:
    """``ValueError: no such airport``: type and message of an error, clean; on any thread, within a bounded time."""
    return f"{clean(type_name(error), 200)}: {message_text(error)}"


def raisable(error: BaseException) -> BaseException:
    """The error itself, if its text can be had; else an error in its place, with the same traceback."""
    if all(_has_text(each) for each, _ in _chain(error)):
        return error
    return RuntimeError(error_text(error)).with_traceback(trace_of(error))


def _has_text(error: BaseException) -> bool:
    text: str | None = convert(lambda conversion: message_of(error, conversion, MESSAGE_LENGTH), None)
    return text is not None and not hangs(type(error))


def message_text(error: BaseException) -> str:
    """The message of an error, clean; on any thread, within a bounded time."""
    message = convert(lambda conversion: message_of(error, conversion, MESSAGE_LENGTH), UNSHOWN)
    return clean(message, MESSAGE_LENGTH)


def traceback_text(error: BaseException) -> str:
    """The traceback of an error and of those it was raised from, clean; never raises."""
    try:
        parts = []
        for each, link in reversed(list(_chain(error))):
            parts += [_one(each), link]
        text = "".join(parts)
        return clean(text if len(text) <= TRACEBACK_LENGTH else "…" + text[1 - TRACEBACK_LENGTH :])
    except BaseException:  # noqa: BLE001 - the failure is more important
        return ""


def _chain(error: BaseException | None) -> Iterator[tuple[BaseException, str]]:
    """The error, and those before it; each with the line between it and the next one."""
    link, seen = "", set[int]()
    while error is not None and id(error) not in seen and len(seen) < _CHAIN:
        seen.add(id(error))
        yield error, link
        cause = _CAUSE.__get__(error)
        link = _MEANWHILE if cause is None else _CAUSED
        error = cause if cause is not None else None if _SUPPRESS.__get__(error) else _CONTEXT.__get__(error)


def _one(error: BaseException) -> str:
    head = f"Traceback (most recent call last):\n{frames}" if (frames := frames_text(trace_of(error))) else ""
    text = f"{head}{_headed(error)}\n"
    notes = _DICT.__get__(error).get("__notes__")
    for note in notes[:_NOTES] if type(notes) is list else ():
        text += f"{str.__str__(note)[:MESSAGE_LENGTH]}\n" if isinstance(note, str) else ""
    if issubclass(type(error), BaseExceptionGroup):
        members = _MEMBERS.__get__(error)
        text += "".join(f"  {number}: {_headed(each)}\n" for number, each in enumerate(members[:_GROUP], 1))
        text += f"  and {len(members) - _GROUP} more\n" if len(members) > _GROUP else ""
    return text


def cause_of(error: BaseException) -> BaseException | None:
    """The error that this one was raised from, or while handling; no code of its class is run."""
    cause: BaseException | None = _CAUSE.__get__(error)
    return cause if cause is not None else _CONTEXT.__get__(error)


def _headed(error: BaseException) -> str:
    kind, name = type(error), type_name(error)
    module = kind.__module__
    if isinstance(module, str) and module not in ("builtins", "__main__"):
        name = f"{module}.{name}"
    message = message_text(error)
    return f"{name}: {message}" if message else name


def trace_of(error: BaseException) -> Any:
    """The traceback of an error, whatever its class says."""
    return _TRACE.__get__(error)


_TRACE: Final = BaseException.__dict__["__traceback__"]
_CAUSE: Final = BaseException.__dict__["__cause__"]
_CONTEXT: Final = BaseException.__dict__["__context__"]
_SUPPRESS: Final = BaseException.__dict__["__suppress_context__"]
_DICT: Final = BaseException.__dict__["__dict__"]
_MEMBERS: Final = BaseExceptionGroup.__dict__["exceptions"]
