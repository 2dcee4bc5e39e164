# SPDX-License-Identifier: Apache-2.0
"""The place where faults strike: in the worker, right before the call of a stage's function.

This module may be imported in worker processes, so it imports little. The faults that struck are recorded as empty
files in a directory of the plan: creating a file is atomic between threads and processes, and the record of a worker
stays after the worker has killed itself.
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
"""Set while ``run_inline`` runs. There is no worker to kill and no timeout, so both are simulated by an error."""

released: dict[str, threading.Event] = {}
"""By a plan's directory: set when the run has ended, so that stalled threads end."""


class InjectedFault(Exception):
    """The error that a :class:`Fail` raises unless it names another one."""


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault in the form that a stage's workers need."""

    number: int
    kind: FaultKind
    at: frozenset[int]
    share: int
    """The share of the items that meet it, as a part of 2**32; for an empty ``at``."""
    times: int | None
    limit: int | None
    error: type[BaseException] | BaseException


@dataclass(slots=True)
class FaultSite:
    """One stage under faults.

    :param home: pid of the task process, which a fault never kills.
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
        """The fault that strikes this call, if one does; it is recorded before it is carried out."""
        seed, strikes = self.seed, self.strikes  # every item passes this loop, so it calls no function
        for position in positions:
            for strike in strikes:
                if strike.at:
                    if position not in strike.at:
                        continue
                # Unlike those of texts, hashes of tuples of ints are the same in every process.
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
        """Create the first file that does not exist; False when all ``bound`` of them exist."""
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

    # -- carrying it out ----------------------------------------------------------------------------------------------

    def strike(self, positions: Iterable[int]) -> None:
        """Carry out the fault of this call, if there is one; before a plain function.

        :raises InjectedFault: or the error that the fault names.
        """
        strike = self.meet(positions)
        if strike is None:
            return
        if strike.kind == "stall" and not RUNNING_INLINE.get():
            self._block()
        else:
            self._act(strike)

    async def strike_async(self, positions: Iterable[int]) -> None:
        """The same before a coroutine function."""
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
                time.sleep(3600)  # until the worker is killed
        # A thread cannot be killed: it waits only until the engine has abandoned it, or until the run has ended.
        released.setdefault(self.directory, threading.Event()).wait(3 * (self.timeout or 0.0) + 1.0)
