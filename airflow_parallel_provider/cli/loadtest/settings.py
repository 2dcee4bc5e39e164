"""What a load test is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, get_args

from airflow_parallel_provider.errors import PlanError
from airflow_parallel_provider.testing.fault_site import FaultKind

DEFAULT_RATES: Final[dict[FaultKind, float]] = {"error": 0.01, "kill": 0.001, "stall": 0.0005}
"""Shares of the items; a stall is dear: it costs a worker the whole timeout."""

WANTED: Final = 5
"""With a known number of items, a share that is left out is raised until about so many meet the fault."""


@dataclass(frozen=True, slots=True)
class Injection:
    """One kind of fault; ``rate`` None: chosen for the number of items."""

    kind: FaultKind
    rate: float | None

    def rate_for(self, items: int | None) -> float:
        """Share of the items that meet it at each stage."""
        if self.rate is not None:
            return self.rate
        default = DEFAULT_RATES[self.kind]
        return default if items is None else min(0.5, max(default, WANTED / items))


@dataclass(frozen=True, slots=True)
class LoadSettings:
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

    :raises PlanError: for a kind that does not exist, comes twice, or a share out of range.
    """
    found: dict[str, Injection] = {}
    kinds: tuple[FaultKind, ...] = get_args(FaultKind)
    for part in text.split(","):
        name, _, share = part.strip().partition(":")
        kind = next((each for each in kinds if each == name), None)
        if kind is None or name in found:
            raise PlanError("--inject", text, f"give each of {', '.join(kinds)} once at most, separated by commas")
        found[name] = Injection(kind, _share(text, share) if share else None)
    return tuple(found.values())


def _share(text: str, share: str) -> float:
    try:
        value = float(share)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise PlanError("--inject", text, f"{share!r} is no share of the items: more than 0, at most 1")
    return value
