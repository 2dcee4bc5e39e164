"""What items, results and errors do in their own methods: they hang, raise ``SystemExit``, or lie. No row is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_parallel_provider import ListSink, Pipeline, Stage
from airflow_parallel_provider.errors import RunFailed, SinkFailed, SourceFailed
from airflow_parallel_provider.foreign import calls
from tests.support.liars import ACTS, METHODS, RELEASED, LyingList, RefusingList, hang, leave, liar
from tests.support.running import Ran, run_pipeline
from tests.support.saboteurs import BAD

ITEMS = 40
KINDS = ["thread", "async", "inline"]


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(calls, "SECONDS", 0.2)
    monkeypatch.setattr(calls, "_hung", {})
    RELEASED.clear()
    yield
    RELEASED.set()


def stage_of(kind: str, function: Callable[[Any], Any], **options: Any) -> Stage:
    if kind != "async":
        return Stage(function, name="own", kind=kind, **options)  # type: ignore[arg-type]

    async def call(item: Any) -> Any:
        return function(item)

    return Stage(call, name="own", kind="async", **options)


def with_one(value: Any) -> list[Any]:
    return [value if number == BAD else number for number in range(ITEMS)]


def refuse_objects(item: Any) -> Any:
    if type(item) is not int:
        raise ValueError("not a number")
    return item


def each_alone(function: Callable[[Any], Any]) -> Callable[[list[Any]], list[Any]]:
    return lambda batch: [function(item) for item in batch]


def assert_all_but_one(ran: Ran) -> None:
    assert ran.error is None, ran.error
    assert ran.positions == [BAD]
    assert sorted(ran.rows) == [number for number in range(ITEMS) if number != BAD]


@pytest.mark.parametrize("batch", [None, 8])
@pytest.mark.parametrize("act", [hang, leave])
@pytest.mark.parametrize("method", [*METHODS, "__class__"])
def test_no_method_of_an_item_that_fails_stops_the_run(method: str, act: Any, batch: int | None) -> None:
    function = refuse_objects if batch is None else each_alone(refuse_objects)
    items = with_one(liar(method, act)())

    ran = run_pipeline(items, [stage_of("thread", function, batch_size=batch)], tolerance=1, chunk_size=10)

    assert_all_but_one(ran)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
@pytest.mark.parametrize("method", ["__str__", "__repr__", "__class__", "__eq__"])
def test_no_method_of_an_error_stops_the_run(method: str, act: Any, kind: str) -> None:
    error = liar(method, act, ValueError)

    def function(item: int) -> int:
        if item == BAD:
            raise error("bad")
        return item

    ran = run_pipeline(range(ITEMS), [stage_of(kind, function)], tolerance=1)

    assert_all_but_one(ran)
    assert ran.dead_letters[0].cause.startswith("Liar")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("act", [hang, leave])
@pytest.mark.parametrize("method", METHODS)
def test_no_method_of_a_result_is_called_between_stages(method: str, act: Any, kind: str) -> None:
    made = liar(method, act)()
    first = stage_of(kind, lambda item: made if item == BAD else item)
    second = Stage(lambda item: item, name="second", batch_size=4)

    ran = run_pipeline(range(ITEMS), [first, second], ordered=True)

    assert ran.error is None
    assert ran.rows[BAD] is made
    assert len(ran.rows) == ITEMS


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [lambda made: LyingList(made, 0), lambda made: LyingList(made, 1 << 62), RefusingList])
def test_results_of_a_batch_are_counted_by_iteration(make: Any, kind: str) -> None:
    stage = stage_of(kind, lambda batch: make([number * 10 for number in batch]), batch_size=8)

    ran = run_pipeline(range(ITEMS), [stage], ordered=True)

    assert ran.rows == [number * 10 for number in range(ITEMS)]


# In an earlier version these lost the items that the function had taken out of its list, without a word.
@pytest.mark.parametrize("kind", [*KINDS, "process"])
@pytest.mark.parametrize("spoil", [list.clear, list.pop, list.reverse, lambda batch: batch.append(1)])
def test_a_function_that_spoils_its_batch_and_fails_loses_nothing(spoil: Any, kind: str) -> None:
    def function(batch: list[int]) -> list[int]:
        bad = BAD in batch
        made = list(batch)
        spoil(batch)
        if bad:
            raise ValueError("bad")
        return made

    ran = run_pipeline(range(ITEMS), [stage_of(kind, function, batch_size=8)], tolerance=1, ordered=True)

    assert_all_but_one(ran)
    assert ran.dead_letters[0].item == BAD


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
@pytest.mark.parametrize("method", ["__str__", "__class__", "__bool__"])
def test_a_source_whose_error_misbehaves_fails_the_run(method: str, act: Any) -> None:
    error = liar(method, act, OSError)

    def items() -> Iterator[int]:
        yield 1
        raise error("no disk")

    ran = run_pipeline(items, [Stage(lambda item: item)])

    assert isinstance(ran.error, SourceFailed)
    assert "the source raised Liar: " in str(ran.error)
    if method == "__str__":
        assert "its text cannot be shown" in str(ran.error.__cause__)


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_a_sink_whose_error_has_no_text_fails_the_run(act: Any) -> None:
    error = liar("__str__", act, OSError)

    class Broken(ListSink):
        def commit(self, _: Any) -> int:
            raise error("no disk")

        def describe(self) -> str:
            act()
            return ""

    with pytest.raises(SinkFailed, match=r"Broken failed: Liar: \(its text cannot be shown\)") as raised:
        Pipeline([1], [Stage(lambda item: item)], Broken()).run()

    assert not isinstance(raised.value.__cause__, error), "whoever logs it would ask it for its text"


def test_the_report_can_be_had_while_a_repr_hangs() -> None:
    began = threading.Event()

    def slow() -> None:
        began.set()
        hang()

    snapshots: list[float] = []

    def observe(_: Any) -> None:
        if began.is_set():
            snapshots.append(time.monotonic())

    calls.SECONDS = 1.5  # type: ignore[misc]  # monkeypatch resets it
    items = with_one(liar("__repr__", slow)())
    pipeline = Pipeline(items, [Stage(refuse_objects)], ListSink(), tolerance=1)

    report = pipeline.run(observe=observe, observe_every=0.1)

    assert report.items_dead_lettered == 1
    assert len(snapshots) > 3


class HangingPickle:
    def __reduce__(self) -> Any:
        hang()


class LeavingPickle:
    def __reduce__(self) -> Any:
        leave()


class HangsWhenRead:
    def __reduce__(self) -> Any:
        return hang_in_the_task, ()


def hang_in_the_task() -> Any:
    if threading.current_thread() is not threading.main_thread():  # in a worker process there is only the main thread
        hang()
    return 0


@pytest.mark.parametrize("make", [HangingPickle, LeavingPickle])
@pytest.mark.parametrize("batch", [None, 2])
def test_an_item_whose_pickling_hangs_or_exits_fails_alone(make: Any, batch: int | None) -> None:
    function = refuse_objects if batch is None else _refuse_all
    stage = Stage(function, name="own", kind="process", workers=1, batch_size=batch, timeout=0.5)

    ran = run_pipeline(with_one(make()), [stage], tolerance=1, chunk_size=10)

    assert_all_but_one(ran)


def _refuse_all(batch: list[Any]) -> list[Any]:
    return [refuse_objects(item) for item in batch]


def _make(item: int) -> Any:
    return HangsWhenRead() if item == BAD else item


def test_a_result_that_hangs_when_it_is_read_back_fails_alone() -> None:
    stage = Stage(_make, name="own", kind="process", workers=1, timeout=0.5)

    ran = run_pipeline(range(ITEMS), [stage], tolerance=1, chunk_size=10)

    assert_all_but_one(ran)
    assert "ItemTimeout" in ran.dead_letters[0].cause


def test_a_stop_ends_a_run_whose_source_hangs_in_an_item() -> None:
    with pytest.raises(RunFailed, match="timeout"):
        Pipeline((hang() for _ in [1]), [Stage(refuse_objects)], ListSink(), timeout=0.3).run()
