"""The fault matrix as data: which saboteur, and what must be said of it afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.support import mischief
from tests.support import saboteurs as bad
from tests.support.saboteurs import AtBad


@dataclass(frozen=True)
class Fault:
    """One way for the bad item to go wrong in a process stage."""

    name: str
    function: Callable[[Any], Any]
    cause: tuple[str, ...]
    """Texts of which each must stand in the cause."""
    timeout: float | None = None
    lost: bool = False
    """Whether a worker is lost over it."""

    @property
    def timed_out(self) -> bool:
        return self.timeout is not None


def _at_bad(act: Callable[[], Any], *cause: str, timeout: float | None = None, lost: bool = False) -> Fault:
    return Fault(act.__name__, AtBad(act), cause, timeout, lost)


DEATHS = [
    _at_bad(bad.kill_self, "WorkerLost", "SIGKILL", lost=True),
    _at_bad(bad.terminate_self, "WorkerLost", "SIGTERM", lost=True),
    _at_bad(bad.exit_with_code, "WorkerLost", "exit code 3", lost=True),
    _at_bad(bad.exit_with_zero, "WorkerLost", "exit code 0", lost=True),
    _at_bad(bad.segfault, "WorkerLost", "SIGSEGV", lost=True),
    _at_bad(bad.abort, "WorkerLost", "SIGABRT", lost=True),
    _at_bad(bad.kill_while_sending, "WorkerLost", "SIGKILL", lost=True),
    _at_bad(bad.fork_and_die, "WorkerLost", "SIGKILL", lost=True),
    _at_bad(bad.return_exit_on_dump, "WorkerLost", "exit code 6", lost=True),
]

STALLS = [
    _at_bad(bad.sleep_for_ever, "ItemTimeout", timeout=1.0),
    _at_bad(bad.spin, "ItemTimeout", timeout=1.0),
    _at_bad(bad.block_in_c, "ItemTimeout", timeout=1.0),
    _at_bad(bad.stop_self, "ItemTimeout", timeout=1.0),
    _at_bad(bad.return_hang_on_dump, "ItemTimeout", timeout=1.0),
]

RAISES = [
    _at_bad(bad.raise_value, "ValueError", "seven is bad"),
    _at_bad(bad.raise_picky, "PickyError", "7 picky"),
    _at_bad(bad.raise_unpicklable, "UnpicklableError", "holds a lock"),
    _at_bad(bad.raise_mute, "MuteError"),
    _at_bad(bad.raise_system_exit, "SystemExit", "leaving"),
    _at_bad(bad.raise_keyboard_interrupt, "KeyboardInterrupt"),
    _at_bad(bad.raise_generator_exit, "GeneratorExit"),
    _at_bad(bad.raise_stop_iteration, "StopIteration", "nothing more"),
    _at_bad(bad.run_out_of_memory, "MemoryError"),
    _at_bad(bad.recurse, "RecursionError"),
]

RESULTS = [
    _at_bad(bad.return_lock, "TypeError", "lock"),
    _at_bad(bad.return_bomb, "ValueError", "cannot be put together again"),
    _at_bad(bad.return_too_deep, "recursion"),
]

ALL = [*DEATHS, *STALLS, *RAISES, *RESULTS]

HARMLESS = [
    mischief.close_stdout,
    mischief.flood_output,
    mischief.fork_and_wait,
    mischief.fork_and_both_return,
    mischief.fork_and_leave_child,
    mischief.leave_subprocess,
    mischief.leave_thread,
    mischief.ignore_signals,
    mischief.change_directory,
]
"""What the bad item does to its worker and gets away with: it must succeed, and nothing may be left of it."""
