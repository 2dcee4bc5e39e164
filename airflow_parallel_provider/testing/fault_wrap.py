# SPDX-License-Identifier: Apache-2.0
"""A pipeline under faults: items keep their position through every stage, so that a fault finds its item anywhere.

The source tags each item with its position. Every stage's function gets the items without tags, and its results are
tagged again. The sink removes the tags. Names, reports, dead letters and rows are the same as without faults.
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
"""Position of an item in the source; for a result of several items, all of their positions."""

_SPECIAL = frozenset({type(DROP), GeneratorType, CoroutineType})


class Tagged(tuple[Tag, Any]):
    """An item with its position. Its ``repr`` is that of the item, for reports."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(self[1])


class TaggedTable:
    """A table of rows with the positions of the batch it came from; the engine still takes it for a table."""

    __slots__ = ("tag", "value")

    def __init__(self, tag: Tag, value: Any) -> None:
        self.tag = tag
        self.value = value

    def __repr__(self) -> str:
        return repr(self.value)

    @property
    def columns(self) -> Any:
        """The attribute by which the engine recognizes a table."""
        return self.value.columns

    def __dataframe__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("a table in a pipeline under faults does not support the dataframe interchange protocol")


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
    """The tagged result of a function for one item."""
    if type(result) not in _SPECIAL:
        return Tagged((tag, result))
    if isinstance(result, GeneratorType):
        return (each if each is DROP else Tagged((tag, each)) for each in result)
    return result  # DROP; or a coroutine, for which the engine raises its own error


def tag_results(tags: list[Tag], result: Any) -> Any:
    """The tagged results of a function for a batch. An invalid result stays as it is: the engine rejects it."""
    if is_table(result):
        return TaggedTable(tuple(positions_of(tags)), result)
    wrong = result is None or isinstance(result, (str, bytes, Mapping, CoroutineType))
    if wrong or not isinstance(result, Iterable):
        return result
    made = list(result)
    if len(made) != len(tags):
        # It is unknown which result belongs to which item: a later fault of any of the items strikes each result.
        tags = [tuple(positions_of(tags))] * len(made)
    return [each if each is DROP else Tagged((tag, each)) for tag, each in zip(tags, made, strict=True)]


# -- functions -------------------------------------------------------------------------------------------------------


class _UnderFault:
    """A stage's function with the site of its faults."""

    def __init__(self, site: FaultSite, inner: Any, *, batched: bool) -> None:
        self.site = site
        self.inner = inner
        self.batched = batched
        # So that a function of a file that worker processes cannot import is still pickled by value.
        self.__module__ = getattr(inner, "__module__", None) or type(inner).__module__

    def _untag(self, given: Any) -> tuple[Any, Any]:
        if self.batched:
            return [tag_of(each) for each in given], [bare(each) for each in given]
        return given if type(given) is Tagged else (given.tag, given.value)

    def _positions(self, tags: Any) -> Iterable[int]:
        if self.batched:
            return positions_of(tags)
        return (tags,) if type(tags) is int else tags

    def _tag(self, tags: Any, result: Any) -> Any:
        return tag_results(tags, result) if self.batched else tag_result(tags, result)

    def _call(self, call: Callable[..., Any], given: Any, *resource: Any) -> Any:
        tags, value = self._untag(given)
        self.site.strike(self._positions(tags))
        return self._tag(tags, call(value, *resource))

    async def _call_async(self, call: Callable[..., Any], given: Any, *resource: Any) -> Any:
        tags, value = self._untag(given)
        await self.site.strike_async(self._positions(tags))
        return self._tag(tags, await call(value, *resource))

    async def _generate(self, call: Callable[..., Any], given: Any, *resource: Any) -> AsyncGenerator[Any, None]:
        tags, value = self._untag(given)
        await self.site.strike_async(self._positions(tags))
        made = [each async for each in call(value, *resource)]
        results = tag_results(tags, made) if self.batched else list(tag_result(tags, (each for each in made)))
        for each in results:
            yield each


class PlainFunction(_UnderFault):
    """A plain function, of a thread, process or inline stage."""

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
        """Create the worker's object; the result of its ``setup`` may have to be awaited."""
        # An instance has been copied together with this object.
        self.worker = self.inner() if isinstance(self.inner, type) else self.inner
        setup = getattr(self.worker, "setup", None)
        return None if setup is None else setup()

    def teardown(self) -> Any:
        """Tear the worker's object down."""
        teardown = getattr(self.worker, "teardown", None)
        return None if teardown is None else teardown()


class PlainObject(_ObjectUnderFault):
    """An object with a plain method, of a thread, process or inline stage."""

    def process(self, given: Any) -> Any:
        """One call."""
        return self._call(self.worker.process, given)


class AsyncObject(_ObjectUnderFault):
    """An object with a coroutine method."""

    async def process(self, given: Any) -> Any:
        """Make one call."""
        return await self._call_async(self.worker.process, given)


class AsyncGeneratingObject(_ObjectUnderFault):
    """An object with an async generator method."""

    async def process(self, given: Any) -> AsyncGenerator[Any, None]:
        """Make one call."""
        async for each in self._generate(self.worker.process, given):
            yield each


def under_fault(site: FaultSite, function: Any, *, has_process: bool, batched: bool) -> Any:
    """A wrapper that the engine treats like the function it wraps."""
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
