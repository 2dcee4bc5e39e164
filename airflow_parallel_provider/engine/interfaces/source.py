# SPDX-License-Identifier: Apache-2.0
"""Where items come from: the contract of a source, and the source of plain iterables and functions."""

from __future__ import annotations

import hashlib
import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.errors import PlanError
from airflow_parallel_provider.foreign.calls import Conversion, convert
from airflow_parallel_provider.foreign.shown import full_text
from airflow_parallel_provider.foreign.text import clean

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.interfaces.records import Narrow
    from airflow_parallel_provider.engine.interfaces.sink import Sink

_LONGEST_PLACE = 300
"""Characters of a place in an error text."""


ChunkReader = Generator[tuple[int, Iterable[Any]], None, int]
"""Yields the number and the items of chunks, and returns how many the whole source has."""

_END: Any = object()


class Source:
    """Yields items, the same ones in the same order at each iteration.

    Resume rests on that: a chunk is identified by the position of its items, so a source whose order changes between
    two tries would skip the wrong ones. Subclass and implement :meth:`__iter__`; the engine iterates on its own thread.
    """

    # One method for each thing that a run asks of its source; nearly all have a default.

    def prepare(self) -> None:
        """Called once on the thread that called ``run`` (in Airflow: the task's main thread), before anything starts.

        The only place where a source may talk to Airflow (connections, Variables).
        """

    @property
    def is_in_memory(self) -> bool:
        """Whether all items are in memory, so that reading one never waits; they are then read in bulk."""
        return False

    @property
    def advice(self) -> str:
        """What makes this source faster, for a report that finds that the source limits the run; empty: see there."""
        return ""

    @property
    def figures(self) -> Mapping[str, Any]:
        """What this source has counted, plain JSON, for the report (``RunReport.source``); empty: nothing."""
        return {}

    @property
    def warnings(self) -> Sequence[str]:
        """What the author should know of how this source reads, for the report. Asked for after :meth:`prepare`."""
        return ()

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

    @property
    def narrow(self) -> Narrow | None:
        """Of a source that leaves out what earlier loads have committed: what does that; None: all is read.

        Called when the sink opens. The state that it returns is stored with the load and given to
        :meth:`restore_state`.
        """
        return None

    def check_sink(self, sink: Sink) -> None:
        """Check that the sink can tell what :attr:`narrow` asks for. Called where the pipeline is declared.

        :raises PlanError: if it cannot.
        """
        if self.narrow is not None:
            sink.check_narrow(f"{type(self).__name__}.narrow", True)

    @property
    def has_loose_chunks(self) -> bool:
        """Whether a chunk may have another number of items at a later try, and no item ever moves to another chunk.

        Then :meth:`chunks` reads the chunks that are not committed, and no others. Else one thread reads all items in
        turn, and a committed chunk that has another number of them now fails the run.
        """
        return False

    def check_shards(self) -> None:
        """Check that several runs may read this source at the same time, each some of its chunks.

        :raises PlanError: if they may not; says what to do instead.
        """

    def prepare_shard(self) -> None:
        """What :meth:`prepare` does, if :meth:`restore_state` is certain to follow."""
        self.prepare()

    def neighbors(self, chunk_size: int) -> int:  # noqa: ARG002 - other sources need it
        """How many chunks in a row one shard should have, because the source reads them together."""
        return 1

    @property
    def can_jump(self) -> bool:
        """Whether :meth:`chunks` reads little more than the wanted chunks: a shard then helps others at their end."""
        return False

    def chunk_lengths(self, chunk_size: int) -> Sequence[int] | None:  # noqa: ARG002 - other sources need it
        """How many items each chunk has, at most ``chunk_size``, where this source cuts them itself.

        The same at every try: they follow from what :meth:`get_state` has kept. A short chunk counts as a full one in
        ``max_in_flight``. None: ``chunk_size`` items each, the last one fewer.
        """
        return None

    def chunks(self, chunk_size: int, wanted: Callable[[int], bool]) -> ChunkReader:
        """Yield some chunks, in their order: number and items. All items of one are taken before the next is asked for.

        This default reads all items; a source that can jump overrides it.

        :param wanted: says by its number whether a chunk is to be read.
        :return: how many chunks the whole source has.
        """
        items = iter(self)
        number = 0
        for number in itertools.count():
            first = next(items, _END)
            if first is _END:
                break
            chunk = itertools.chain((first,), itertools.islice(items, chunk_size - 1))
            if wanted(number):
                yield number, chunk
            deque(chunk, maxlen=0)
        return number

    def send_lines(self, offer: object) -> None:
        """Send rows in a form that the sink's own database takes, if that is possible: no stage looks at them.

        Called before the source is read.

        :param offer: what :meth:`Sink.takes_lines` returned.
        """

    def place_of(self, position: int) -> str:  # noqa: ARG002  # of those that override it
        """Where an item comes from, for error texts: a page, or a file and its line; empty where that is not known.

        Called from any thread while the items are read, and after that.

        :param position: of the item in the source, from 0.
        """
        return ""

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


def advice_text(source: Source) -> str:
    """What a source says that makes it faster; empty if its code fails, or takes too long now or did before."""
    if type(source).advice is Source.advice:
        return ""

    def describe(conversion: Conversion) -> str:
        # Perhaps a class of the author's.
        return clean(source.advice, _LONGEST_PLACE) if conversion.may_call(type(source)) else ""

    return convert(describe, "")


def place_text(source: Source, position: int) -> str:
    """What a source says of the place of an item; empty if its code fails, or takes too long now or did before."""
    if type(source).place_of is Source.place_of:
        return ""

    def describe(conversion: Conversion) -> str:
        # Perhaps a class of the author's.
        return clean(source.place_of(position), _LONGEST_PLACE) if conversion.may_call(type(source)) else ""

    return convert(describe, "")


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

    def check_shards(self) -> None:
        """An iterator ends with its first reader.

        :raises PlanError: for an iterator.
        """
        if isinstance(self.origin, Iterator):
            cure = "it can be iterated only once, and each shard reads it: give the function, without parentheses"
            raise PlanError("Pipeline.source", self.origin, cure)

    @property
    def can_jump(self) -> bool:
        """True for the built-in sequences."""
        return self.is_in_memory

    def chunks(self, chunk_size: int, wanted: Callable[[int], bool]) -> ChunkReader:
        """Slices, where all items are in memory."""
        if self.is_in_memory:
            return slices(self.origin, chunk_size, wanted)
        return super().chunks(chunk_size, wanted)

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


def slices(
    items: Any, chunk_size: int, wanted: Callable[[int], bool], lengths: Sequence[int] | None = None
) -> ChunkReader:
    """The wanted chunks of a sequence; see :meth:`Source.chunks`.

    :param lengths: see :meth:`Source.chunk_lengths`.
    """
    if lengths is None:
        firsts: Sequence[int] = range(0, len(items) + chunk_size, chunk_size)
        count = -(-len(items) // chunk_size)
    else:
        firsts = list(itertools.accumulate(lengths, initial=0))
        count = len(lengths)
    for number in filter(wanted, range(count)):
        yield number, items[firsts[number] : firsts[number + 1]]
    return count


def _preview(origin: Any, index: int) -> str:
    try:
        item = origin[index]
    except (KeyError, IndexError, TypeError):  # a mapping, or another object without positions
        return ""
    return full_text(item)


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
