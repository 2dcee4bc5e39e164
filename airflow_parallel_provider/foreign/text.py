# SPDX-License-Identifier: Apache-2.0
"""Text that every place takes: XCom, databases, logs, pages. The one place that cleans.

PostgreSQL refuses NUL and half surrogate pairs, in JSONB too, so one exception's text could fail a task that had
loaded everything. Escape sequences of a terminal and marks that turn the direction of text make a log say what it does
not say.
"""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Final

LEAST: Final = -(2**63)
MOST: Final = 2**64 - 1
"""Whole numbers beyond these bounds are passed on as text: Airflow's supervisor takes none that are longer."""

_UNSAFE: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but tab and newline, separators of lines, overrides of the direction, surrogates."""


def clean(text: str, limit: int | None = None) -> str:
    r"""The text with unsafe characters written as Python writes them: ``\x00``, ``\ud800``.

    :param text: a text, also of a subclass of ``str``, whose own methods are not called.
    :param limit: most characters of the result; a longer text ends with an ellipsis.
    """
    text = str.__str__(text)
    if limit is not None and len(text) > limit:
        text = text[:limit] + "…"  # before the search: the text may have megabytes
    if _UNSAFE.search(text) is not None:
        text = _UNSAFE.sub(_escaped, text)
    return text if limit is None or len(text) <= limit else text[: limit - 1] + "…"


def encodable(text: str) -> str:
    """The text without NUL and half surrogate pairs; colors and the like stay. For what the author logs."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")


def one_line(text: str, limit: int) -> str:
    """The text as :func:`clean` gives it, in one line."""
    return clean(" ".join(str.__str__(text)[: 4 * limit].split()), limit)


def distinct(text: str, taken: Container[str]) -> str:
    """The text, with a number after it if it is taken: two keys of a dict must not become one."""
    number, found = 1, text
    while found in taken:
        number += 1
        found = f"{text} ({number})"
    return found


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
