"""A pipeline under faults: items carry their position through every stage, so that a fault finds its item anywhere.

The source tags each item, every stage's function is called with the bare items and its results are tagged again, and
the sink takes the tags off. Names, reports, dead letters and rows look as they do without faults.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from types import CoroutineType, GeneratorType
from typing import Any

from airflow_parallel_provider.engine.functions.calls import is_table
from airflow_parallel_provider.engine.interfaces.drop import DROP
from airflow_parallel_provider.testing.fault_site import FaultSite

Tag = int | tuple[int, ...]
"""Position of an item in the source; of a result that stands for several items, all of theirs."""

_SPECIAL = frozenset({type(DROP), GeneratorType, CoroutineType})


class Tagged(tuple[Tag, Any]):
    """An item with its position. Looks like the item in reports."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(self[1])


class TaggedTable:
    """A table of rows with the positions of the batch it came from; still a table in the eyes of the engine."""

    __slots__ = ("tag", "value")

    def __init__(self, tag: Tag, value: Any) -> None:
        self.tag = tag
        self.value = value

    def __repr__(self) -> str:
        return repr(self.value)

    @property
    def columns(self) -> Any:
        """What makes a table a table."""
        return self.value.columns

    def __dataframe__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("a table on its way through a pipeline under faults cannot be exchanged")


def tag_of(item: Any) -> Tag:
    """The item's position or positions."""
    return item.tag if isinstance(item, TaggedTable) else item[0]


def bare(item: Any) -> Any:
    """The item itself."""
    return item.value if isinstance(item, TaggedTable) else item[1]


def positions_of(tags: Iterable[Tag]) -> list[int]:
    """Every position in ``tags``, each once, in order of appearance."""
    found: dict[int, None] = {}
    for tag in tags:
        if isinstance(tag, int):
            found[tag] = None
        else:
            found.update(dict.fromkeys(tag))
    return list(found)


def tag_result(tag: Tag, result: Any) -> Any:
    """What a function returned for one item."""
    if type(result) not in _SPECIAL:
        return Tagged((tag, result))
    if isinstance(result, GeneratorType):
        return (each if each is DROP else Tagged((tag, each)) for each in result)
    return result  # DROP; or a coroutine, for which the engine has its own word


def tag_results(tags: list[Tag], result: Any) -> Any:
    """What a function returned for a batch. What is no batch of results goes on as it is: the engine says so."""
    if is_table(result):
        return TaggedTable(tuple(positions_of(tags)), result)
    wrong = result is None or isinstance(result, (str, bytes, Mapping, CoroutineType))
    if wrong or not isinstance(result, Iterable):
        return result
    made = list(result)
    if len(made) != len(tags):
        # Which result came of which item is not known: a fault of any of the items may strike each of them later.
        tags = [tuple(positions_of(tags))] * len(made)
    return [each if each is DROP else Tagged((tag, each)) for tag, each in zip(tags, made, strict=True)]


# -- functions -------------------------------------------------------------------------------------------------------


class _UnderFault:
    """A stage's function with a fault site beside it."""

    def __init__(self, site: FaultSite, inner: Any, *, batched: bool) -> None:
        self.site = site
        self.inner = inner
        self.batched = batched
        # So that a function of a file that no worker process can import still travels by value.
        self.__module__ = getattr(inner, "__module__", None) or type(inner).__module__

    def _open(self, given: Any) -> tuple[Any, Any]:
        if self.batched:
            return [tag_of(each) for each in given], [bare(each) for each in given]
        return given if type(given) is Tagged else (given.tag, given.value)

    def _positions(self, tags: Any) -> Iterable[int]:
        if self.batched:
            return positions_of(tags)
        return (tags,) if type(tags) is int else tags

    def _close(self, tags: Any, result: Any) -> Any:
        return tag_results(tags, result) if self.batched else tag_result(tags, result)

    def _call(self, call: Callable[..., Any], given: Any, *resource: Any) -> Any:
        tags, value = self._open(given)
        self.site.strike(self._positions(tags))
        return self._close(tags, call(value, *resource))

    async def _call_async(self, call: Callable[..., Any], given: Any, *resource: Any) -> Any:
        tags, value = self._open(given)
        await self.site.strike_async(self._positions(tags))
        return self._close(tags, await call(value, *resource))

    async def _generate(self, call: Callable[..., Any], given: Any, *resource: Any) -> AsyncGenerator[Any, None]:
        tags, value = self._open(given)
        await self.site.strike_async(self._positions(tags))
        made = [each async for each in call(value, *resource)]
        results = tag_results(tags, made) if self.batched else list(tag_result(tags, (each for each in made)))
        for each in results:
            yield each


class PlainFunction(_UnderFault):
    """Of a thread, process or inline stage."""

    def __call__(self, given: Any, *resource: Any) -> Any:
        return self._call(self.inner, given, *resource)


class AsyncFunction(_UnderFault):
    """A coroutine function."""

    async def __call__(self, given: Any, *resource: Any) -> Any:
        return await self._call_async(self.inner, given, *resource)


class AsyncGenerating(_UnderFault):
    """An async generator function."""

    async def __call__(self, given: Any, *resource: Any) -> AsyncGenerator[Any, None]:
        async for each in self._generate(self.inner, given, *resource):
            yield each


class _ObjectUnderFault(_UnderFault):
    """A class with a ``process`` method, or an instance of one; each worker has its own."""

    worker: Any = None

    def setup(self) -> Any:
        """Make the worker's object; what its ``setup`` returns may have to be awaited."""
        # An instance was copied together with this object.
        self.worker = self.inner() if isinstance(self.inner, type) else self.inner
        setup = getattr(self.worker, "setup", None)
        return None if setup is None else setup()

    def teardown(self) -> Any:
        """End the worker's object."""
        teardown = getattr(self.worker, "teardown", None)
        return None if teardown is None else teardown()


class PlainObject(_ObjectUnderFault):
    """Of a thread, process or inline stage."""

    def process(self, given: Any) -> Any:
        """One call."""
        return self._call(self.worker.process, given)


class AsyncObject(_ObjectUnderFault):
    """With a coroutine method."""

    async def process(self, given: Any) -> Any:
        """One call."""
        return await self._call_async(self.worker.process, given)


class AsyncGeneratingObject(_ObjectUnderFault):
    """With an async generator method."""

    async def process(self, given: Any) -> AsyncGenerator[Any, None]:
        """One call."""
        async for each in self._generate(self.worker.process, given):
            yield each


def under_fault(site: FaultSite, function: Any, *, has_process: bool, batched: bool) -> Any:
    """The wrapper that looks to the engine like the function it wraps."""
    target = function.process if has_process else function
    target = target if inspect.isroutine(target) else getattr(target, "__call__", target)  # noqa: B004
    kinds: tuple[type[_UnderFault], type[_UnderFault]]
    if inspect.isasyncgenfunction(target):
        kinds = AsyncGenerating, AsyncGeneratingObject
    elif inspect.iscoroutinefunction(target):
        kinds = AsyncFunction, AsyncObject
    else:
        kinds = PlainFunction, PlainObject
    return kinds[has_process](site, function, batched=batched)
