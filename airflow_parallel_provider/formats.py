# SPDX-License-Identifier: Apache-2.0
"""Numbers as people read them. The log, the report and the command line use these; ``dom.js`` of the Pipeline tab does
the same, and a test compares both.
"""

from __future__ import annotations

import math

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def format_duration(seconds: float, *, estimate: bool = False) -> str:
    """Seconds as text: ``5.2 ms``, ``0.52 s``, ``41.3 s``, ``4 min 10 s``, ``2 h 05 min``.

    :param estimate: without fractions of a second: ``41 s``.
    """
    if seconds == 0:
        return "0 s"
    if 0 < seconds < 0.01 and not estimate:
        return format_milliseconds(seconds * 1000)
    if seconds < 120:
        return f"{_fixed(seconds, 0 if estimate else 2 if seconds < 10 else 1)} s"
    whole = _whole(seconds)
    if whole < 7200:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"


def format_milliseconds(milliseconds: float | None) -> str:
    """The duration of a call: ``350 µs``, ``1.2 ms``, ``41 ms``, ``1.20 s``; ``-`` for None."""
    if milliseconds is None:
        return "-"
    if milliseconds >= 1000:
        return format_duration(milliseconds / 1000)
    if milliseconds >= 10:
        return f"{_whole(milliseconds)} ms"
    if milliseconds >= 1:
        return f"{_fixed(milliseconds, 1)} ms"
    return f"{max(1, _whole(milliseconds * 1000))} µs" if milliseconds > 0 else "0 ms"


def format_bytes(size: float) -> str:
    """Bytes as text: ``512 B``, ``1.5 KiB``, ``312 MiB``, ``2.0 GiB``."""
    at = 0
    while size >= 1024 and at < len(_UNITS) - 1:
        size, at = size / 1024, at + 1
    return f"{_whole(size) if size >= 100 or at == 0 else _fixed(size, 1)} {_UNITS[at]}"


def format_number(value: float) -> str:
    """A rate or a mean: ``1,234``, ``66.5``, ``66``, ``0.033``, ``<0.001``."""
    if abs(value) >= 100:
        return f"{_whole(value):,}"
    if 0 < value < 0.0005:
        return "<0.001"
    text = _fixed(value, 1 if abs(value) >= 1 else 3)
    return text.rstrip("0").rstrip(".") if "." in text else text


def format_share(share: float) -> str:
    """A share as whole percent: ``71%``."""
    return f"{_whole(share * 100)}%"


def format_done(done: float, total: float) -> str:
    """How much is done, rounded down: ``100%`` is said only when nothing is left."""
    return f"{math.floor(min(done, total) * 100 / total) if total > 0 else 100}%"


def cut_middle(text: str, most: int) -> str:
    """A name of at most ``most`` characters: what a long one has in the middle is left out, as both ends tell apart."""
    if len(text) <= most:
        return text
    kept = most - 1
    return f"{text[: -(-kept // 2)].rstrip()}…{text[len(text) - kept // 2 :].lstrip()}"


def _whole(value: float) -> int:
    """The nearest whole number, halves up, as JavaScript's ``Math.round``."""
    return math.floor(value + 0.5)


def _fixed(value: float, digits: int) -> str:
    """So many digits after the point, as JavaScript's ``toFixed``: exact, halves up."""
    from decimal import ROUND_HALF_UP, Decimal  # 2 ms, which an import of the package need not take

    return str(Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))
