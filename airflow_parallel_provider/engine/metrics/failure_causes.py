# SPDX-License-Identifier: Apache-2.0
"""Failures counted by cause: ten thousand failures of three causes are three lines of a report (law 5)."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from typing import Any, Final

from airflow_parallel_provider.engine.functions.outcome import CallFailure
from airflow_parallel_provider.foreign.shown import shown
from airflow_parallel_provider.foreign.text import clean, one_line

MAX_CAUSES = 200
"""Most causes counted separately; further ones are counted together, so that a report stays small."""

_NUMBERS = re.compile(r"\d+")
_SHOWN = 200
_GAP: Final = "…"


@dataclass(slots=True)
class CommonText:
    """What the messages of one cause have in common: ``invalid literal for int(): …``.

    The message of the first failure alone would say of all of them what holds for one.
    """

    start: str
    end: str = ""
    differs: bool = False
    """Whether a gap stands between start and end."""

    def add(self, text: str) -> None:
        """Take another message into account."""
        if not self.differs:
            if text == self.start:
                return
            start, end = self.start, self.start
        else:
            start, end = self.start, self.end
            if len(text) >= len(start) + len(end) and text.startswith(start) and text.endswith(end):
                return
        self.start = _common_words(start, text)
        rest = end if self.differs else end[len(self.start) :]
        self.end = _common_words(rest[::-1], text[len(self.start) :][::-1])[::-1]
        self.differs = True

    def __str__(self) -> str:
        if not self.differs:
            return self.start
        start, end = self.start.rstrip(), self.end.lstrip()
        return f"{self.start}{_GAP}{self.end}" if start or end else ""


def _common_words(first: str, second: str) -> str:
    """The words with which both texts begin. A part of a word, a number or a name would be a part of a value."""
    pairs = enumerate(zip(first, second, strict=False))
    length = next((at for at, (one, other) in pairs if one != other), min(len(first), len(second)))
    while length and (first[length - 1].isalnum() or first[length - 1] in "_.-+"):
        length -= 1
    return first[:length]


@dataclass(slots=True)
class Cause:
    """One cause at one stage."""

    stage: str
    error: str
    """Type of the error, or the whole text."""
    count: int
    sample: dict[str, Any]
    location: str = ""
    message: CommonText = field(default_factory=lambda: CommonText(""))

    @property
    def cause(self) -> str:
        """One line: type, what the messages have in common, and location."""
        return _cause_text(self.error, str(self.message), self.location)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"stage": self.stage, "cause": self.cause, "count": self.count, "sample": self.sample}


class Causes:
    """Thread-safe counter of failures."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._causes: dict[tuple[str, str, str], Cause] = {}
        self.total = 0

    def add(self, stage: str, failure: CallFailure, *, position: int | None, item: object) -> None:
        """Count one dead letter. Failures of one type raised at one location are one cause."""
        key = (stage, failure.error, failure.location or _NUMBERS.sub("#", failure.message))
        message = one_line(failure.message, _SHOWN)
        with self._lock:
            self.total += 1
            if self._counted(key, message):
                return
        # Without the lock: the code of the item's class may take its time, and the monitor needs the lock.
        sample = {"position": position, "item": shown(item, _SHOWN), "message": clean(failure.message, _SHOWN)}
        with self._lock:
            if self._counted(key, message):
                return
            if len(self._causes) < MAX_CAUSES:
                self._causes[key] = Cause(stage, failure.error, 1, sample, failure.location, CommonText(message))
            else:
                self._causes[stage, "other", ""] = Cause(stage, _OTHERS, 1, sample)

    def _counted(self, key: tuple[str, str, str], message: str) -> bool:
        """Count a failure of a known cause; called with the lock."""
        known = self._causes.get(key)
        if known is not None:
            known.message.add(message)
        elif len(self._causes) >= MAX_CAUSES:
            known = self._causes.get((key[0], "other", ""))
        if known is None:
            return False
        known.count += 1
        return True

    def add_rejected(self, cause: str, rows: int, position: int | None) -> None:
        """Count rows that the sink has rejected. A report never shows their values; the table of rejected rows does."""
        key, cause = ("sink", cause, ""), clean(cause, 5 * _SHOWN)
        with self._lock:
            self.total += rows
            if key not in self._causes and len(self._causes) >= MAX_CAUSES:
                key, cause = ("sink", "other", ""), _OTHERS
            sample = {"position": position, "item": "see the table of rejected rows", "message": ""}
            self._causes.setdefault(key, Cause("sink", cause, 0, sample)).count += rows

    def listed(self) -> list[dict[str, Any]]:
        """The causes as plain JSON, most frequent first."""
        with self._lock:
            found = [each.as_dict() for each in self._causes.values()]
        return sorted(found, key=lambda each: (-each["count"], each["stage"], each["cause"]))


_OTHERS: Final = f"other causes (more than {MAX_CAUSES} in all)"


def cause_text(failure: CallFailure) -> str:
    """One line: type, text and location of one failure."""
    return _cause_text(failure.error, one_line(failure.message, _SHOWN), failure.location)


def _cause_text(error: str, message: str, location: str) -> str:
    text = f"{error}: {message}" if message else error
    return f"{text} ({location})" if location else text
