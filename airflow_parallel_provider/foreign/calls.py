# SPDX-License-Identifier: Apache-2.0
"""Calls of an object's own code (``__repr__``, properties, ...), which may hang, raise anything, or never end.

Such code runs on a thread of its own, for a limited time. The caller waits no longer than that, holds no lock, and
gets another answer instead.
"""

from __future__ import annotations

import _thread
import contextlib
import contextvars
from collections.abc import Callable
from types import MemberDescriptorType
from typing import Any, Final, TypeVar

Made = TypeVar("Made")

SECONDS: Final = 2.0
"""How long the code of one value may run."""

MOST_HUNG: Final = 20
"""Classes whose code hung before no further such code is called at all: each costs a thread, and time."""

_hung: dict[int, type] = {}
"""Classes whose code has not returned in time, by id: their own ``__hash__`` may be the metaclass's."""


class OwnCode(Exception):
    """A conversion needs the code of a value's class, and was not allowed to call it."""


class Conversion:
    """One conversion of a value to text or JSON.

    :param allowed: whether it may call code of the values' classes.
    """

    __slots__ = ("_allowed", "kind")

    def __init__(self, *, allowed: bool) -> None:
        self._allowed = allowed
        self.kind: type | None = None
        """The class whose code was called last."""

    def need_code(self) -> None:
        """What follows calls code of classes that are not known beforehand: to pickle does, for example.

        :raises OwnCode: when this conversion calls no such code, or too much of it hung before.
        """
        if not self._allowed:
            raise OwnCode
        if len(_hung) >= MOST_HUNG:
            raise TimeoutError("too many classes do not return in time")

    def may_call(self, kind: type) -> bool:
        """Whether code of this class may be called: not if it hung before.

        :raises OwnCode: when this conversion calls no such code.
        """
        if not self._allowed:
            raise OwnCode
        if hangs(kind) or len(_hung) >= MOST_HUNG:
            return False
        self.kind = kind
        return True


def hangs(kind: type) -> bool:
    """Whether code of this class did not return in time before."""
    return id(kind) in _hung


def convert(make: Callable[[Conversion], Made], otherwise: Made) -> Made:
    """What ``make`` returns; ``otherwise`` where code that it calls raises, or does not return in time.

    :param make: is called on this thread first, where it may not call code of the values' classes: most values need
        none. It is called once more, on a thread of its own, if they do. Without that code it must be quick.
    """
    try:
        return make(Conversion(allowed=False))
    except OwnCode:
        return _in_time(make, otherwise)
    except Exception:  # noqa: BLE001 - a built-in may refuse, for example the text of a huge number
        return otherwise


def _in_time(make: Callable[[Conversion], Made], otherwise: Made) -> Made:
    done, ending = _thread.allocate_lock(), _thread.allocate_lock()
    done.acquire()
    conversion = Conversion(allowed=True)
    made: list[Made] = []
    ended: list[bool] = []

    def run() -> None:
        try:
            made.append(make(conversion))
        except BaseException:  # noqa: BLE001, S110 - SystemExit and friends, too: there is no other answer then
            pass
        finally:
            with ending:
                ended.append(True)
            done.release()

    context = contextvars.copy_context()
    try:
        thread = _thread.start_new_thread(context.run, (run,))
    except RuntimeError:  # no more threads
        return otherwise
    if not done.acquire(timeout=SECONDS):
        kind = conversion.kind
        _hung[-len(_hung) - 1 if kind is None else id(kind)] = kind or object
        with ending:  # the thread cannot end meanwhile, and another one get its number
            if not ended:
                _end(thread)
        return otherwise
    return made[0] if made else otherwise


def _end(thread: int) -> None:
    """Raise in a thread that hangs, so that it ends if it runs Python code: one that spins slows down all others."""
    with contextlib.suppress(Exception):
        import ctypes

        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(SystemExit))


def plain_fields(kind: Any) -> bool:
    """Whether a class is a dataclass whose fields can be read without running code of it."""
    if "__dataclass_fields__" not in kind.__dict__ or kind.__getattribute__ is not object.__getattribute__:
        return False
    if hasattr(kind, "__getattr__"):
        return False
    for name in kind.__dict__["__dataclass_fields__"]:
        found = next((base.__dict__[name] for base in kind.__mro__ if name in base.__dict__), None)
        if hasattr(type(found), "__get__") and not isinstance(found, MemberDescriptorType):
            return False
    return True


def type_name(value: object) -> str:
    """The name of a value's class, whatever the class says about itself."""
    return str(_QUALNAME(type(value)))


_QUALNAME: Final[Callable[[Any], str]] = type.__dict__["__qualname__"].__get__
