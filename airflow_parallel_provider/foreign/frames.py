# SPDX-License-Identifier: Apache-2.0
"""Where an error was raised, for the author of a pipeline: in a file of theirs, not in a library that they call.

The rule: of the frames of a traceback the innermost one in the author's own files. These are all files but those of
the standard library, of ``site-packages`` and of this package. Where there is none: the innermost one of code without a
file (``exec``, generated methods), else of installed packages and of this one's sources and rows, else of the standard
library.
"""

from __future__ import annotations

import functools
import linecache
import os
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Final

Place = tuple[FrameType, int]
"""A frame, and the line at which it was."""

_OWN, _UNFILED, _INSTALLED, _STANDARD, _ENGINE = range(5)
_SHOWN: Final = 12
"""Most frames of a traceback in text; the outer ones are left out."""


def location_of(trace: TracebackType | None, *, own_only: bool = False) -> str:
    """``file.py:31`` of the frame that the rule chooses; empty without frames.

    :param own_only: also empty where none is in a file of the author's.
    """
    place = _chosen(list(_places(trace)))
    if place is None:
        return ""
    frame, line = place
    if own_only and _kind(frame.f_code.co_filename) != _OWN:
        return ""
    return f"{_slashes(frame.f_code.co_filename).rpartition('/')[2]}:{line}"


def frames_text(trace: TracebackType | None) -> str:
    """The innermost frames as Python shows them, without those of the engine around the author's function."""
    places = list(_places(trace))
    chosen = _chosen(places)
    while len(places) > 1 and _kind(places[0][0].f_code.co_filename) == _ENGINE:
        del places[0]
    left_out = len(places) - _SHOWN
    if left_out <= 0:
        return "".join(map(_frame_text, places))
    places = places[left_out:]
    if chosen is not None and chosen not in places:
        places[0] = chosen
    return f"  ({left_out} frames left out)\n" + "".join(map(_frame_text, places))


def _places(trace: TracebackType | None) -> Iterator[Place]:
    while trace is not None:
        yield trace.tb_frame, trace.tb_lineno
        trace = trace.tb_next


def _chosen(places: list[Place]) -> Place | None:
    kinds = [_kind(frame.f_code.co_filename) for frame, _ in places]
    if not kinds:
        return None
    best = min(kinds)
    return next(place for place, kind in zip(reversed(places), reversed(kinds), strict=True) if kind == best)


@functools.lru_cache(1024)
def _kind(filename: str) -> int:
    name = _slashes(filename)
    if name.startswith(_PACKAGE):
        return _ENGINE if name.startswith(_AROUND_CALLS) else _INSTALLED
    if name.startswith("<"):
        return _OWN if name.startswith(("<ipython-input", "<stdin")) else _STANDARD if "frozen" in name else _UNFILED
    if "/site-packages/" in name or "/dist-packages/" in name:
        return _INSTALLED
    return _STANDARD if name.startswith(_LIBRARY) else _OWN


def _frame_text(place: Place) -> str:
    frame, number = place
    code = frame.f_code
    line = linecache.getline(code.co_filename, number, frame.f_globals).strip()
    head = f'  File "{code.co_filename}", line {number}, in {code.co_name}\n'
    return f"{head}    {line}\n" if line else head


def _slashes(path: str) -> str:
    return path.replace("\\", "/")


def _folder_of(path: str) -> str:
    return _slashes(path).rpartition("/")[0] + "/"


_PACKAGE: Final = _folder_of(_folder_of(__file__)[:-1])
_AROUND_CALLS: Final = (f"{_PACKAGE}engine/", f"{_PACKAGE}foreign/", f"{_PACKAGE}testing/")
_LIBRARY: Final = (_folder_of(os.__file__), _folder_of(os.path.realpath(os.__file__)))
