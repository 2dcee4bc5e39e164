# SPDX-License-Identifier: Apache-2.0
"""The settings of a load test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, get_args

from airflow_parallel_provider.errors import PlanError
from airflow_parallel_provider.testing.fault_site import FaultKind

DEFAULT_RATES: Final[dict[FaultKind, float]] = {"error": 0.01, "kill": 0.001, "stall": 0.0005}
"""Shares of the items. Stalls are rare, since each one costs a worker the whole timeout."""

EXPECTED: Final = 5
"""With a known number of items, a default share is raised so that about this many items meet the fault."""


@dataclass(frozen=True, slots=True)
class Injection:
    """One kind of fault; ``rate`` None: depends on the number of items."""

    kind: FaultKind
    rate: float | None

    def rate_for(self, items: int | None) -> float:
        """Share of the items that meet the fault at each stage."""
        if self.rate is not None:
            return self.rate
        default = DEFAULT_RATES[self.kind]
        return default if items is None else min(0.5, max(default, EXPECTED / items))


@dataclass(frozen=True, slots=True)
class LoadTestSettings:
    """The options of ``loadtest``; see ``docs/load-test.md``."""

    items: int | None = None
    seconds: float | None = None
    inject: tuple[Injection, ...] = ()
    seed: int = 0
    real_sink: bool = False
    keep_tolerance: bool = False
    stall_timeout: float = 1.0
    max_slowdown: float = 0.3
    max_variation: float = 0.5
    max_growth: float = 16 * 2**20
    """Bytes."""


def parse_injection(text: str) -> tuple[Injection, ...]:
    """``kill,stall,error:0.05`` as objects.

    :raises PlanError: for an unknown kind, a kind that is given twice, or a share out of range.
    """
    found: dict[str, Injection] = {}
    kinds: tuple[FaultKind, ...] = get_args(FaultKind)
    for part in text.split(","):
        name, _, share = part.strip().partition(":")
        kind = next((each for each in kinds if each == name), None)
        if kind is None or name in found:
            wrong = f"{name!r} is unknown" if kind is None else f"{name!r} is given twice"
            cure = f"give each of {', '.join(kinds)} once at most, separated by commas"
            raise PlanError("--inject", text, f"{wrong}: {cure}")
        found[name] = Injection(kind, _share(text, share) if share else None)
    return tuple(found.values())


def _share(text: str, share: str) -> float:
    try:
        value = float(share)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise PlanError("--inject", text, f"{share!r} is not a share of the items: give a number above 0, at most 1")
    return value
