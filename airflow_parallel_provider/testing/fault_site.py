"""Where a fault strikes: beside a stage's function, in whatever worker calls it.

Everything here may travel to a worker process and imports little. Which faults have struck is kept as empty files in a
directory of the plan: making a file is atomic between threads and processes, and what a worker noted before it killed
itself stays noted.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NoReturn

from airflow_parallel_provider.errors import ItemTimeout, WorkerLost

FaultKind = Literal["error", "kill", "stall"]

RUNNING_INLINE: ContextVar[bool] = ContextVar("parallel_running_inline", default=False)
"""Set while ``run_inline`` runs: there is no worker to lose and no timeout, so both are told instead of done."""

released: dict[str, threading.Event] = {}
"""By a plan's directory: set when the run is over, so that stalled threads end."""


class InjectedFault(Exception):
    """What a stage's function raises where a :class:`Fail` says so."""


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault as one stage meets it."""

    number: int
    kind: FaultKind
    at: frozenset[int]
    share: int
    """Of 2**32: the part of the items that meet it, where ``at`` is empty."""
    times: int | None
    limit: int | None
    error: type[BaseException] | BaseException


@dataclass(slots=True)
class FaultSite:
    """One stage under faults.

    :param home: the task process; a fault never kills that one.
    """

    stage: str
    kind: str
    timeout: float | None
    seed: int
    directory: str
    home: int
    strikes: tuple[Strike, ...]
    _used_up: set[int] = field(default_factory=set)

    def meet(self, positions: Iterable[int]) -> Strike | None:
        """The fault that strikes a call with these items now, if one does; it is noted before it is acted out."""
        seed, strikes = self.seed, self.strikes  # this loop is on the way of every item: nothing is called in it
        for position in positions:
            for strike in strikes:
                if strike.at:
                    if position not in strike.at:
                        continue
                # Hashes of tuples of ints are the same in every process, unlike those of texts.
                elif (hash((seed, strike.number, position)) & 0xFFFFFFFF) >= strike.share:
                    continue
                if self._claim(strike, position):
                    return strike
        return None

    def _claim(self, strike: Strike, position: int) -> bool:
        if strike.number in self._used_up:
            return False
        stem = f"{strike.number}.{position}"
        number = 0
        while (self._path(stem, number)).exists():
            number += 1
        if strike.times is not None and number >= strike.times:
            return False
        if strike.limit is not None and not self._first(f"limit.{strike.number}", strike.limit):
            self._used_up.add(strike.number)
            return False
        return self._first(stem, strike.times, number)

    def _first(self, stem: str, bound: int | None, number: int = 0) -> bool:
        """Make the first file that is not there yet; False when all ``bound`` of them are."""
        while bound is None or number < bound:
            try:
                os.close(os.open(self._path(stem, number), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            except FileExistsError:
                number += 1
            else:
                return True
        return False

    def _path(self, stem: str, number: int) -> Path:
        return Path(self.directory) / f"{stem}.{number}"

    # -- acting it out ------------------------------------------------------------------------------------------------

    def strike(self, positions: Iterable[int]) -> None:
        """In a plain function: meet the fault that is due, if any.

        :raises InjectedFault: or the error the fault names.
        """
        strike = self.meet(positions)
        if strike is None:
            return
        if strike.kind == "stall" and not RUNNING_INLINE.get():
            self._block()
        else:
            self._act(strike)

    async def strike_async(self, positions: Iterable[int]) -> None:
        """The same in a coroutine."""
        strike = self.meet(positions)
        if strike is None:
            return
        if strike.kind == "stall" and not RUNNING_INLINE.get():
            await asyncio.sleep(3600)
        self._act(strike)

    def _act(self, strike: Strike) -> NoReturn:
        if strike.kind == "kill":
            if os.getpid() != self.home:
                os.kill(os.getpid(), signal.SIGKILL)
            raise WorkerLost("the worker process died while it worked on this (simulated: the stage runs inline)")
        if strike.kind == "stall":
            raise ItemTimeout(f"a call took longer than timeout={self.timeout or 0:g} s (simulated)")
        if isinstance(strike.error, type):
            raise strike.error(f"injected at stage {self.stage}")
        raise strike.error

    def _block(self) -> None:
        if os.getpid() != self.home:
            while True:
                time.sleep(3600)  # until the worker ends this process
        # A thread cannot be ended: it stays only as long as it takes to be given up, or until the run is over.
        released.setdefault(self.directory, threading.Event()).wait(3 * (self.timeout or 0.0) + 1.0)
