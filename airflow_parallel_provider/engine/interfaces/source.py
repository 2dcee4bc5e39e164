"""Where items come from: the contract of a source, and the source of plain iterables and functions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import PlanError

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.interfaces.sink import Sink


class Source:
    """Yields items, the same ones in the same order at each iteration.

    Resume rests on that: a chunk is identified by the position of its items, so a source whose order changes between
    two tries would skip the wrong ones. Subclass and implement :meth:`__iter__`; the engine iterates on its own thread.
    """

    def prepare(self) -> None:
        """Called once on the thread that called ``run`` (in Airflow: the task's main thread), before anything starts.

        The only place where a source may talk to Airflow (connections, Variables).
        """

    @property
    def is_in_memory(self) -> bool:
        """Whether all items are in memory, so that reading one never waits; they are then read in bulk."""
        return False

    def identity(self) -> str:
        """A short text that changes when the items change; stored with the load and compared on a retry."""
        return type(self).__qualname__

    def get_state(self) -> Mapping[str, Any] | None:
        """What this try has found and the items depend on (a listing, an upper bound), as plain JSON; None: nothing.

        Called after :meth:`prepare`, on the same thread. A sink with a ledger stores it with the load and gives it
        back to every later try, see :meth:`restore_state`.
        """
        return None

    def restore_state(self, state: Mapping[str, Any]) -> None:
        """Restore the state of the try that committed the first chunk. Called before the items are read, if at all.

        :raises LoadMismatch: when those items do not exist any more; name them.
        """

    def wrap_sink(self, sink: Sink) -> Sink:
        """The sink that the run uses; for sources that act on commits (a queue acknowledges then)."""
        return sink

    def interrupt(self) -> None:
        """The run is being torn down: stop waiting for an item. Called from another thread."""

    def __repr__(self) -> str:
        # Part of a serialized DAG: an address in it would make a new DAG version with every parse.
        return self.identity()

    def __iter__(self) -> Iterator[Any]:
        """Yield the items."""
        raise NotImplementedError


class WrappedSource(Source):
    """A wrapper around another source: every method that a subclass does not override is the inner source's."""

    def __init__(self, inner: Source) -> None:
        self.inner = inner

    def prepare(self) -> None:
        """Of the inner source."""
        self.inner.prepare()

    @property
    def is_in_memory(self) -> bool:
        """Of the inner source."""
        return self.inner.is_in_memory

    def get_state(self) -> Mapping[str, Any] | None:
        """Of the inner source."""
        return self.inner.get_state()

    def restore_state(self, state: Mapping[str, Any]) -> None:
        """Of the inner source."""
        self.inner.restore_state(state)

    def wrap_sink(self, sink: Sink) -> Sink:
        """Of the inner source."""
        return self.inner.wrap_sink(sink)

    def interrupt(self) -> None:
        """Of the inner source."""
        self.inner.interrupt()

    def identity(self) -> str:
        """Of the inner source: a load may go on with or without the wrapper."""
        return self.inner.identity()

    def __len__(self) -> int:
        """Of the inner source."""
        return len(self.inner)  # type: ignore[arg-type]  # a Source may be Sized

    def __iter__(self) -> Iterator[Any]:
        """Of the inner source."""
        return iter(self.inner)


class IterableSource(Source):
    """An iterable, or a function without arguments that returns one.

    :param origin: a list, range, tuple, generator object, any iterable; or a function (also a generator function).
    """

    def __init__(self, origin: Iterable[Any] | Callable[[], Iterable[Any]]) -> None:
        if isinstance(origin, (str, bytes, bytearray)):
            raise PlanError("Pipeline.source", origin, "a text is not a source of items; give a list, e.g. [text]")
        if not callable(origin) and not isinstance(origin, Iterable):
            raise PlanError("Pipeline.source", origin, "give an iterable, a function that returns one, or a Source")
        self.origin = origin

    @property
    def is_in_memory(self) -> bool:
        """True for the built-in sequences."""
        return type(self.origin) in (list, tuple, range)

    def identity(self) -> str:
        """Name of the function; for a sequence its type, length and ends. Not the content of every item."""
        if callable(self.origin):
            return f"function {getattr(self.origin, '__qualname__', type(self.origin).__qualname__)}"
        kind = type(self.origin).__name__
        if isinstance(self.origin, Sized) and hasattr(self.origin, "__getitem__"):
            size = len(self.origin)
            ends = [] if size == 0 else [_preview(self.origin, 0), _preview(self.origin, size - 1)]
            digest = hashlib.blake2b(repr(ends).encode(), digest_size=6).hexdigest()
            return f"{kind} of {size} {digest}"
        return kind

    def __len__(self) -> int:
        """Number of items where it is known.

        :raises TypeError: when it is not.
        """
        if isinstance(self.origin, Sized):
            return len(self.origin)
        raise TypeError(f"the length of {self.identity()} is not known")

    def __iter__(self) -> Iterator[Any]:
        """Yield the items; a function is called first.

        :raises PlanError: when the function returns something that cannot be iterated.
        """
        if not callable(self.origin):
            return iter(self.origin)
        items = self.origin()
        if isinstance(items, (str, bytes)) or not isinstance(items, Iterable):
            raise PlanError("Pipeline.source", items, f"{self.identity()} must return an iterable of items")
        return iter(items)


def _preview(origin: Any, index: int) -> str:
    try:
        return repr(origin[index])
    except (KeyError, IndexError, TypeError):  # a mapping, or another object without positions
        return ""


def as_source(origin: object) -> Source:
    """Turn the ``source`` argument of a pipeline into a :class:`Source`.

    :raises PlanError: when it is neither an iterable nor a function nor a Source.
    """
    if isinstance(origin, Source):
        return origin
    if isinstance(origin, type) and issubclass(origin, Source):
        cure = f"this is the class; give an instance: {origin.__name__}(...)"
        raise PlanError("Pipeline.source", origin, cure)
    return IterableSource(origin)  # type: ignore[arg-type]  # checked there


def source_length(source: Source) -> int | None:
    """Number of items, or None where the source does not know it before its end."""
    try:
        return len(source)  # type: ignore[arg-type]  # a Source may be Sized
    except TypeError:
        return None
