"""Failures counted by cause: ten thousand failures of three causes are three lines of a report (law 5)."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import Any

from airflow_parallel_provider.engine.functions.outcome import CallFailure

MAX_CAUSES = 200
"""Most causes counted separately; further ones are counted together, so that a report stays small."""

_NUMBERS = re.compile(r"\d+")
_SHOWN = 200


@dataclass(slots=True)
class Cause:
    """One cause at one stage."""

    stage: str
    cause: str
    count: int
    sample: dict[str, Any]

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
        with self._lock:
            self.total += 1
            other = key not in self._causes and len(self._causes) >= MAX_CAUSES
            if other:
                key = (stage, "other", "")
            known = self._causes.get(key)
            if known is not None:
                known.count += 1
                return
            text = f"other causes (more than {MAX_CAUSES} in all)" if other else cause_text(failure)
            self._causes[key] = Cause(stage, text, 1, _sample(failure, position, item))

    def add_rejected(self, cause: str, rows: int, position: int | None) -> None:
        """Count rows that the sink has rejected. A report never shows their values; the table of rejected rows does."""
        key = ("sink", cause, "")
        with self._lock:
            self.total += rows
            if key not in self._causes and len(self._causes) >= MAX_CAUSES:
                key, cause = ("sink", "other", ""), f"other causes (more than {MAX_CAUSES} in all)"
            sample = {"position": position, "item": "see the table of rejected rows", "message": ""}
            self._causes.setdefault(key, Cause("sink", cause, 0, sample)).count += rows

    def listed(self) -> list[Cause]:
        """The causes, most frequent first."""
        with self._lock:
            copies = [Cause(each.stage, each.cause, each.count, each.sample) for each in self._causes.values()]
        return sorted(copies, key=lambda each: (-each.count, each.stage, each.cause))


def cause_text(failure: CallFailure) -> str:
    """One line: type, text and location."""
    message = " ".join(failure.message.split())
    if len(message) > _SHOWN:
        message = message[: _SHOWN - 3] + "..."
    text = f"{failure.error}: {message}" if message else failure.error
    return f"{text} ({failure.location})" if failure.location else text


def _sample(failure: CallFailure, position: int | None, item: object) -> dict[str, Any]:
    try:
        shown = repr(item)
    except Exception:  # noqa: BLE001 - a broken __repr__ must not hide the failure
        shown = f"<{type(item).__qualname__}>"
    shown = shown if len(shown) <= _SHOWN else shown[: _SHOWN - 3] + "..."
    return {"position": position, "item": shown, "message": failure.message[:_SHOWN]}
