"""Random pipelines and what they must do: a serial model of a few lines, without threads, channels or chunks.

A value is a tuple that remembers its way: ``(position,)`` at the source, one more number per stage. So every row is
unique, shows which item it came from, and sorts in source order.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

from airflow_parallel_provider import DROP, Stage

Value = tuple[int, ...]
SHAPES = ("map", "yield", "batch", "batch yields", "double", "compress")


class Guilty(Exception):
    """Raised for the items that a stage must fail for."""


@dataclass(frozen=True)
class Step:
    """One stage of a random pipeline: how its function behaves for which value, and how it is run."""

    number: int
    kind: Any
    shape: str
    workers: int
    batch_size: int
    room: int
    salt: int
    failing: int
    dropping: int
    slow: int

    # -- what it does with one value: the model -----------------------------------------------------------------------

    def residue(self, value: Value, modulus: int) -> int:
        return (sum((at + 1) * part for at, part in enumerate(value)) + self.salt) % modulus

    def fails(self, value: Value) -> bool:
        return self.failing > 1 and self.residue(value, self.failing) == 1

    def results(self, value: Value) -> list[Value]:
        """What one good value becomes."""
        if self.shape == "double":
            return [(*value, 0), (*value, 1)]
        if self.dropping > 1 and self.residue(value, self.dropping) == 0:
            return []
        count = 1 + self.residue(value, 3) if self.shape == "yield" else 1
        return [(*value, at) for at in range(count)]

    # -- what it does in the pipeline ---------------------------------------------------------------------------------

    @property
    def batched(self) -> bool:
        return self.shape in ("batch", "batch yields", "double", "compress")

    @property
    def name(self) -> str:
        return f"step{self.number}"

    def stage(self) -> Stage:
        functions: dict[str, Callable[..., Any]] = {
            "map": Map(self),
            "yield": Yield(self),
            "batch": Batch(self),
            "double": Batch(self),
            "compress": Compress(self),
            "batch yields": YieldBatch(self),
        }
        function = functions[self.shape]
        if self.kind == "async":
            function = AsyncYield(self) if self.shape == "yield" else Async(function)
        batch = self.batch_size if self.batched else None
        return Stage(
            function,
            name=self.name,
            kind=self.kind,
            workers=1 if self.kind == "inline" else self.workers,
            batch_size=batch,
            queue_size=None if self.room == 0 else self.room + (batch or 0),
        )

    def call(self, value: Value) -> list[Value]:
        """One value, as the functions below treat it; some are slow, so that later ones overtake them."""
        if self.slow > 1 and self.residue(value, self.slow) == 0:
            time.sleep(0.0005)
        if self.fails(value):
            raise Guilty(str(value))
        return self.results(value)


@dataclass(frozen=True)
class Map:
    step: Step

    def __call__(self, value: Value) -> Any:
        results = self.step.call(value)
        return results[0] if results else DROP


@dataclass(frozen=True)
class Yield:
    step: Step

    def __call__(self, value: Value) -> Iterator[Any]:
        for result in self.step.call(value):
            yield result
            yield DROP


@dataclass(frozen=True)
class Batch:
    """A dropped item leaves DROP in its place, so it is known which one it was."""

    step: Step

    def __call__(self, values: list[Value]) -> list[Any]:
        assert 1 <= len(values) <= self.step.batch_size
        return [result for value in values for result in self.step.call(value) or [DROP]]


@dataclass(frozen=True)
class YieldBatch:
    step: Step

    def __call__(self, values: list[Value]) -> Iterator[Any]:
        yield from Batch(self.step)(values)


@dataclass(frozen=True)
class Compress:
    """Dropped items leave no trace: the pipeline cannot know which ones they were, only how many."""

    step: Step

    def __call__(self, values: list[Value]) -> list[Any]:
        return [result for value in values for result in self.step.call(value)]


@dataclass(frozen=True)
class Async:
    function: Callable[[Any], Any]

    async def __call__(self, value: Any) -> Any:
        return self.function(value)


@dataclass(frozen=True)
class AsyncYield:
    step: Step

    async def __call__(self, value: Value) -> AsyncIterator[Value]:
        for result in self.step.call(value):
            yield result


@dataclass(frozen=True)
class Expected:
    """What a pipeline must give: by the model, one value after the other, one stage after the other."""

    rows: list[Value]
    dead: list[tuple[int, str, Value]]
    """Position, stage and value of every failure."""
    passing: list[tuple[int, int, int]]
    """Of each stage: values in, results out, failures."""
    failed_items: Fraction
    """What the failures add up to: the results of one value are equal parts of it."""

    @property
    def dead_positions(self) -> set[int]:
        return {position for position, _, _ in self.dead}


def expected(items: int, steps: list[Step]) -> Expected:
    values: list[Value] = [(position,) for position in range(items)]
    dead: list[tuple[int, str, Value]] = []
    passing: list[tuple[int, int, int]] = []
    shares = {value: Fraction(1) for value in values}
    failed_items = Fraction(0)
    for step in steps:
        guilty = [value for value in values if step.fails(value)]
        good = {value: step.results(value) for value in values if not step.fails(value)}
        results = [result for made in good.values() for result in made]
        failed_items += sum(shares[value] for value in guilty)
        shares = {result: shares[value] / len(made) for value, made in good.items() for result in made}
        dead += [(value[0], step.name, value) for value in guilty]
        passing.append((len(values), len(results), len(guilty)))
        values = results
    return Expected(values, sorted(dead), passing, failed_items)


@dataclass(frozen=True)
class Plan:
    """A random pipeline."""

    items: int
    steps: list[Step]
    chunk_size: int
    in_flight: int
    ordered: bool

    @property
    def exact(self) -> bool:
        """Whether it can be known which item every result came from."""
        return all(step.shape != "compress" for step in self.steps)

    def settings(self) -> dict[str, Any]:
        return {
            "chunk_size": self.chunk_size,
            "max_in_flight": None if self.in_flight == 0 else self.chunk_size + self.in_flight - 1,
            "ordered": self.ordered,
            "timeout": 10.0,  # a hang is a failure of this example, not of the whole module
        }


def plans(*kinds: str, items: int = 60, at_least_one: str | None = None) -> st.SearchStrategy[Plan]:
    """Pipelines of up to three stages of the given kinds."""

    def steps(kind: st.SearchStrategy[str], number: int) -> st.SearchStrategy[Step]:
        return st.builds(
            Step,
            number=st.just(number),
            kind=kind,
            shape=st.sampled_from(SHAPES),
            workers=st.integers(1, 3),
            batch_size=st.integers(1, 7),
            room=st.integers(0, 9),
            salt=st.integers(0, 11),
            failing=st.sampled_from([0, 0, 3, 7, 20]),
            dropping=st.sampled_from([0, 0, 2, 5]),
            slow=st.sampled_from([0, 0, 2, 5]),
        )

    any_kind = st.sampled_from(kinds)
    lists = [st.tuples(*(steps(any_kind, number) for number in range(count))).map(list) for count in range(4)]
    if at_least_one is not None:
        one = st.just(at_least_one)
        lists = [
            st.tuples(*(steps(one if number == where else any_kind, number) for number in range(count))).map(list)
            for count in (1, 2, 3)
            for where in range(count)
        ]
    return st.builds(
        Plan,
        items=st.integers(0, items),
        steps=st.one_of(lists),
        chunk_size=st.integers(1, 13),
        in_flight=st.integers(0, 20),
        ordered=st.booleans(),
    )
