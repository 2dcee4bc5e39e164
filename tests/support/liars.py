"""Objects whose own methods hang, raise what no method raises, or lie."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NoReturn

RELEASED = threading.Event()
"""Set at the end of a test: whatever hangs ends."""


def hang() -> NoReturn:
    """Python code that does not return."""
    while not RELEASED.wait(0.01):
        pass
    raise SystemExit


def leave() -> NoReturn:
    raise SystemExit(3)


def interrupt() -> NoReturn:
    raise KeyboardInterrupt


def close() -> NoReturn:
    raise GeneratorExit


ACTS: list[Callable[[], NoReturn]] = [hang, leave, interrupt, close]

METHODS = ["__repr__", "__str__", "__eq__", "__len__", "__bool__", "__hash__", "__iter__", "__sizeof__", "nbytes"]


def liar(method: str, act: Callable[[], Any], base: type = object) -> Any:
    """A new class, since a class that hung once is not asked again; all its objects do this in this method.

    :param method: ``__class__`` and ``nbytes`` are properties.
    """
    if method in ("__class__", "nbytes"):
        return type("Liar", (base,), {method: property(lambda _: act())})
    return type(
        "Liar", (base,), {method: lambda *_: act(), **({"__hash__": object.__hash__} if method == "__eq__" else {})}
    )


class LyingList(list[Any]):
    """Its length is not that of its content."""

    def __init__(self, content: Any, length: int) -> None:
        super().__init__(content)
        self.length = length

    def __len__(self) -> int:
        return self.length


class RefusingList(list[Any]):
    """It has no length."""

    def __len__(self) -> int:
        raise RuntimeError("no length")


class LyingTuple(tuple[Any, ...]):
    """Neither its length nor its parts are those that it holds."""

    __slots__ = ()

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Any:
        return iter(("a lie",))

    def __getitem__(self, _: Any) -> Any:
        return "a lie"


class LyingDict(dict[str, Any]):
    """It says that it is empty."""

    def __len__(self) -> int:
        return 0

    def __iter__(self) -> Any:
        return iter(())

    def keys(self) -> Any:
        return ()

    def items(self) -> Any:
        return ()

    def get(self, *_: Any) -> Any:
        return "a lie"


class LyingInt(int):
    def __int__(self) -> int:
        return 99

    __index__ = __int__


class LyingFloat(float):
    def __float__(self) -> float:
        return 99.0


class LyingBytes(bytes):
    def __bytes__(self) -> bytes:
        return b"a lie"


class Lazy(dict[str, Any]):
    """It holds nothing as a dict, and makes its values when it is asked."""

    def __iter__(self) -> Any:
        return iter(("id", "v"))

    def keys(self) -> Any:
        return ("id", "v")

    def __getitem__(self, key: str) -> Any:
        return {"id": 2, "v": "b"}[key]

    def __len__(self) -> int:
        return 2
