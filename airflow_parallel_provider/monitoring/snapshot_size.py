# SPDX-License-Identifier: Apache-2.0
"""Makes a snapshot fit into its size limit: what is worth least goes first, and the snapshot says what it left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow_parallel_provider.monitoring.json_values import json_size, to_json_value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_parallel_provider.monitoring.history import History

SIZE_LIMIT: Final = 30_000
"""Most bytes of one snapshot as JSON: it is written every few seconds and read by every open page."""


@dataclass(frozen=True, slots=True)
class _Limits:
    """Most entries of each list, most samples of the history, most characters of one text."""

    text: int
    failures: int
    workers: int
    decisions: int
    warnings: int
    stages: int
    shards: int
    samples: int


_STEPS: Final = (
    _Limits(text=500, failures=200, workers=24, decisions=40, warnings=50, stages=400, shards=60, samples=120),
    _Limits(text=300, failures=60, workers=24, decisions=40, warnings=20, stages=200, shards=60, samples=60),
    _Limits(text=200, failures=40, workers=12, decisions=20, warnings=10, stages=100, shards=40, samples=30),
    _Limits(text=200, failures=20, workers=6, decisions=10, warnings=5, stages=60, shards=20, samples=16),
    _Limits(text=80, failures=10, workers=0, decisions=5, warnings=5, stages=50, shards=10, samples=8),
    _Limits(text=80, failures=5, workers=0, decisions=0, warnings=3, stages=50, shards=5, samples=0),
    _Limits(text=80, failures=0, workers=0, decisions=0, warnings=0, stages=0, shards=0, samples=0),
)
"""Tried in this order. Curves stay longer than lists of workers: they show what a reader cannot get elsewhere, and the
report has the workers (issue 17, A7)."""


def fit(value: Mapping[str, Any], history: History, limit: int = SIZE_LIMIT) -> dict[str, Any]:
    """``value`` with the history as plain JSON of at most ``limit`` bytes; the numbers of the run always stay.

    ``omitted`` says what was left out: how many ``failures`` (with their ``failed_items``), ``workers``, ``decisions``,
    ``warnings``, ``stages`` and ``shards``, and whether the ``history``.

    :param history: loses resolution where it does not fit.
    """
    plain: dict[str, Any] = {}
    for limits in _STEPS:
        plain = _cut(value, history, limits)
        if json_size(plain) <= limit:
            return plain
    return {name: each for name, each in plain.items() if not isinstance(each, (list, dict, str)) or len(each) < 100}


def _cut(value: Mapping[str, Any], history: History, limits: _Limits) -> dict[str, Any]:
    found = dict(value)
    omitted: dict[str, Any] = dict(value.get("omitted") or {})
    for name in ("failures", "workers", "decisions", "warnings", "stages", "shards"):
        entries = list(found.get(name) or ())
        most = getattr(limits, name)
        if len(entries) > most:
            kept = _most_worth(name, entries, most)
            omitted[name] = omitted.get(name, 0) + len(entries) - len(kept)
            if name == "failures":
                omitted["failed_items"] = sum(map(_count, entries)) - sum(map(_count, kept))
            found[name] = kept
    while limits.samples and len(history) > limits.samples:
        history.halve()
    if limits.samples:
        found["history"] = history.as_dict()
    else:
        found["history"], omitted["history"] = {}, True
    if omitted:
        found["omitted"] = omitted
    plain: dict[str, Any] = to_json_value(found, text_limit=limits.text)
    return plain


def _most_worth(name: str, entries: list[Any], most: int) -> list[Any]:
    """At most ``most`` entries: the latest decisions, workers that failed or worked most, shards that are not done."""
    if name == "decisions":
        return entries[len(entries) - most :]
    if name == "shards":
        return sorted(entries, key=lambda shard: shard.get("state") == "success")[:most]
    if name != "workers":
        return entries[:most]
    worth = sorted(range(len(entries)), key=lambda at: _worth(entries[at]), reverse=True)
    return [entries[at] for at in sorted(worth[:most])]


def _worth(worker: Any) -> tuple[Any, ...]:
    return tuple(worker.get(each) or 0 for each in ("failed", "lost", "busy_seconds"))


def _count(cause: Any) -> int:
    count = cause.get("count") if isinstance(cause, dict) else None
    return count if isinstance(count, int) else 1
