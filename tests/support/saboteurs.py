"""The fault zoo: what can go wrong inside one call, as functions that any process can import.

``AtBad(act)`` is a stage function: ten times the item, except that for the bad item it does ``act``.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

ITEMS = 40
BAD = 7
EXPECTED = [item * 10 for item in range(ITEMS)]
WITHOUT_BAD = [row for row in EXPECTED if row != BAD * 10]


def tenfold(item: int) -> int:
    """What every stage under test does with a good item."""
    return item * 10


def same(item: Any) -> Any:
    """For the stages before and after the one under test."""
    return item


@dataclass(frozen=True)
class AtBad:
    """``tenfold``, but the bad item meets ``act``; what ``act`` returns is the bad item's result."""

    act: Callable[[], Any]
    bad: int = BAD

    def __call__(self, item: int) -> Any:
        return self.act() if item == self.bad else tenfold(item)


@dataclass(frozen=True)
class AtBadBatch:
    """The same for a function of batches: ``act`` is met when the bad item is among the items."""

    act: Callable[[], Any]
    bad: tuple[int, ...] = (BAD,)

    def __call__(self, items: Sequence[int]) -> list[int]:
        if any(item in self.bad for item in items):
            self.act()
        return [tenfold(item) for item in items]


# -- the process dies ------------------------------------------------------------------------------------------------


def kill_self() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("survived SIGKILL")


def terminate_self() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(3600)


def exit_with_code() -> NoReturn:
    os._exit(3)


def exit_with_zero() -> NoReturn:
    os._exit(0)


def segfault() -> None:
    faulthandler.disable()
    faulthandler._sigsegv()  # type: ignore[attr-defined]


def abort() -> None:
    faulthandler.disable()
    os.abort()


def kill_while_sending() -> str:
    """Return 32 MB and die when about half of it has gone out."""
    whole = socket.socket.sendmsg, socket.socket.sendall, socket.socket.send

    def partly(self: socket.socket, data: Any, *flags: int) -> int:
        if len(data) > 1 << 20:
            whole[1](self, memoryview(data)[: len(data) // 2])
            kill_self()
        return whole[2](self, data, *flags)

    def sendmsg(self: socket.socket, buffers: Any, *rest: Any) -> int:
        return sum(partly(self, buffer) for buffer in buffers)

    def sendall(self: socket.socket, data: Any, *flags: int) -> None:
        view = memoryview(data)
        while view:
            view = view[partly(self, view, *flags) :]

    socket.socket.sendmsg = sendmsg  # type: ignore[method-assign,assignment]
    socket.socket.sendall = sendall  # type: ignore[method-assign,assignment]
    socket.socket.send = partly  # type: ignore[method-assign,assignment]
    return os.urandom(1 << 9).hex() * (32 << 10)  # text: large bytes would go through shared memory


def fork_and_die() -> NoReturn:
    """The worker is gone, but its child still holds the socket: no end of file tells of the death."""
    if os.fork() == 0:
        sleep_for_ever()
    kill_self()


def kill_parent() -> int:
    """End the process that forked this worker, and with it all its workers."""
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(3600)
    raise AssertionError("outlived its parent by an hour")


# -- the process is stuck --------------------------------------------------------------------------------------------


def sleep_for_ever() -> None:
    while True:
        time.sleep(3600)


def spin() -> None:
    while True:
        pass


def block_in_c() -> None:
    """Hold the interpreter lock in a C call, with every signal that can be ignored ignored."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    ctypes.PyDLL(None).sleep(3600)


def stop_self() -> None:
    """As an operator's ``kill -STOP`` would: the process is there but does nothing."""
    os.kill(os.getpid(), signal.SIGSTOP)


# -- the call raises -------------------------------------------------------------------------------------------------


class PickyError(Exception):
    """Its constructor wants more than the text, so unpickling a naive copy fails."""

    def __init__(self, code: int, *, detail: str) -> None:
        super().__init__(f"{code} {detail}")


class UnpicklableError(Exception):
    def __init__(self) -> None:
        super().__init__("holds a lock")
        self.lock = threading.Lock()


class MuteError(Exception):
    """Cannot even be printed."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


def raise_value() -> NoReturn:
    raise ValueError("seven is bad")


def raise_picky() -> NoReturn:
    raise PickyError(7, detail="picky")


def raise_unpicklable() -> NoReturn:
    raise UnpicklableError


def raise_mute() -> NoReturn:
    raise MuteError


def raise_system_exit() -> NoReturn:
    sys.exit("leaving")


def raise_keyboard_interrupt() -> NoReturn:
    raise KeyboardInterrupt


def raise_generator_exit() -> NoReturn:
    raise GeneratorExit


def raise_stop_iteration() -> NoReturn:
    raise StopIteration("nothing more")


def run_out_of_memory() -> bytearray:
    return bytearray(1 << 60)


def recurse() -> Any:
    return recurse()


# -- the result or the input cannot travel ---------------------------------------------------------------------------


def _explode(text: str) -> NoReturn:
    raise ValueError(text)


class BombOnLoad:
    """Pickles well, raises when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _explode, ("cannot be put together again",)


class ExitOnLoad:
    """Pickles well, ends the process that unpickles it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (5,)


class ExitOnDump:
    """Ends the process that pickles it."""

    def __reduce__(self) -> tuple[Any, ...]:
        os._exit(6)


class HangOnDump:
    """Is never done being pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        sleep_for_ever()
        return int, ()


def return_hang_on_dump() -> HangOnDump:
    return HangOnDump()


def return_lock() -> Any:
    return threading.Lock()


def return_bomb() -> BombOnLoad:
    return BombOnLoad()


def return_exit_on_dump() -> ExitOnDump:
    return ExitOnDump()


def return_too_deep() -> list[Any]:
    """Nested too deeply for pickle."""
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    return nested


def return_local_class() -> Any:
    class Local:
        value = BAD * 10

    return Local()
