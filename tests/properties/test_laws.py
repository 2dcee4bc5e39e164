"""Laws 1, 3, 5 and 6 for random pipelines: whatever the stages, sizes and failures, the result is the serial one."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import Phase, example, given
from hypothesis import strategies as st

from airflow_parallel_provider import Pipeline
from airflow_parallel_provider.engine.interfaces.records import ChunkResult, CommittedChunk
from airflow_parallel_provider.errors import ToleranceExceeded
from tests.properties.model import Expected, Plan, Step, expected, plans
from tests.support.given import examples
from tests.support.running import Ran, RecordingSink, check_report, run_pipeline

IN_PROCESS_KINDS = ("thread", "inline", "async")
NO_SHRINKING = [Phase.explicit, Phase.generate]  # shrinking an example that hangs would take minutes
MANY = examples(120, long=1500, phases=NO_SHRINKING)
FEW = examples(12, long=100, phases=NO_SHRINKING)
"""Of pipelines with real worker processes."""


class Watched:
    """A source and a sink that know how many items are between them."""

    def __init__(self, items: int) -> None:
        self.items = items
        self.peak = 0
        self.sink = _WatchedSink(self)
        self._now = 0
        self._lock = threading.Lock()

    def __call__(self) -> Iterator[tuple[int, ...]]:
        for position in range(self.items):
            self.add(1)
            yield (position,)

    def add(self, count: int) -> None:
        with self._lock:
            self._now += count
            self.peak = max(self.peak, self._now)


class _WatchedSink(RecordingSink):
    def __init__(self, watched: Watched) -> None:
        super().__init__()
        self._watched = watched

    def commit(self, chunk: ChunkResult) -> int:
        rows = super().commit(chunk)
        self._watched.add(-chunk.items)
        return rows


def run_plan(plan: Plan, **options: Any) -> tuple[Ran, Expected, Watched]:
    watched = Watched(plan.items)
    stages = [step.stage() for step in plan.steps]
    ran = run_pipeline(watched, stages, watched.sink, **{"tolerance": 1.0, **plan.settings(), **options})
    return ran, expected(plan.items, plan.steps), watched


def assert_same(plan: Plan, ran: Ran, model: Expected, watched: Watched) -> None:
    assert ran.error is None, ran.error
    _assert_counts(plan, ran, model)
    _assert_rows(plan, ran, model, watched.sink.chunks)
    if plan.exact:
        _assert_dead_letters(ran, model)
    # One more than allowed: whether there is a further chunk is known only by asking the source for its first item.
    limit = plan.settings()["max_in_flight"]
    assert limit is None or watched.peak <= limit + 1


def _assert_counts(plan: Plan, ran: Ran, model: Expected) -> None:
    """Law 1, also per stage."""
    report = ran.report
    numbers = [(stage.items_in, stage.items_out, stage.failed) for stage in report.stages]
    assert numbers == model.passing
    assert report.items_read == plan.items
    assert report.rows_committed == len(model.rows)
    assert report.chunks_committed == -(-plan.items // plan.chunk_size)
    for stage, step in zip(report.stages, plan.steps, strict=True):
        if step.room and step.kind != "inline":
            assert stage.queue_size == step.room + (step.batch_size if step.batched else 0)
    if plan.exact:
        dead = model.dead_positions
        committed = {row[0] for row in model.rows} - dead
        assert report.items_dead_lettered == len(dead)
        assert report.items_committed == len(committed)
        assert report.items_filtered == plan.items - len(committed) - len(dead)


def _assert_rows(plan: Plan, ran: Ran, model: Expected, chunks: list[ChunkResult]) -> None:
    """Law 5, and exactly the model's rows; without ``ordered`` the rows of each chunk are in source order."""
    assert sorted(chunk.index for chunk in chunks) == list(range(len(chunks)))
    assert sum(chunk.items for chunk in chunks) == plan.items
    assert sum(chunk.items_filtered for chunk in chunks) == ran.report.items_filtered
    if plan.ordered:
        assert ran.rows == model.rows
        assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    assert sorted(ran.rows) == sorted(model.rows)
    for chunk in chunks:
        assert chunk.chunk_id == f"{chunk.index:08d}"
        assert chunk.first_position == chunk.index * plan.chunk_size
        last = chunk.first_position + chunk.items
        mine = [row for row in model.rows if chunk.first_position <= row[0] < last]
        assert (chunk.rows if plan.exact else sorted(chunk.rows)) == mine


def _assert_dead_letters(ran: Ran, model: Expected) -> None:
    """Law 6: exactly the guilty items, each with its stage and value."""
    dead_letters = [(each.position, each.stage, each.item) for each in ran.dead_letters]
    assert sorted(dead_letters) == model.dead
    assert all("Guilty" in each.cause and str(each.item) in each.cause for each in ran.dead_letters)
    counts: dict[str, int] = {}
    for each in ran.report.failures:
        counts[each["stage"]] = counts.get(each["stage"], 0) + each["count"]
    assert counts == {
        stage: sum(name == stage for _, name, _ in model.dead) for stage in {name for _, name, _ in model.dead}
    }


@MANY
@given(plans(*IN_PROCESS_KINDS))
def test_parallel_is_serial(plan: Plan) -> None:
    ran, model, watched = run_plan(plan)

    assert_same(plan, ran, model, watched)


@FEW
@given(plans(*IN_PROCESS_KINDS, "process", items=40, at_least_one="process"))
def test_parallel_is_serial_with_processes(plan: Plan) -> None:
    ran, model, watched = run_plan(plan)

    assert_same(plan, ran, model, watched)


def several_results_fail(first: str, second: str, kind: str = "thread") -> Plan:
    """A stage makes several results of each item, the next one several of each of these, the last one fails."""
    common = {"kind": kind, "workers": 2, "batch_size": 5, "room": 0, "slow": 0}
    steps = [
        Step(0, shape=first, salt=1, failing=0, dropping=0, **common),  # type: ignore[arg-type]
        Step(1, shape=second, salt=2, failing=7, dropping=0, **common),  # type: ignore[arg-type]
        Step(2, shape="map", salt=0, failing=3, dropping=5, **common),  # type: ignore[arg-type]
    ]
    return Plan(items=48, steps=steps, chunk_size=5, in_flight=0, ordered=False)


@MANY
@given(plans(*IN_PROCESS_KINDS).filter(lambda plan: plan.exact), st.booleans())
@example(plan=several_results_fail("double", "double"), enough=True)
@example(plan=several_results_fail("double", "double"), enough=False)
@example(plan=several_results_fail("yield", "double", "async"), enough=True)
def test_tolerance_is_a_number_of_dead_letters(plan: Plan, enough: bool) -> None:
    """As many dead letters as ``tolerance`` says are fine; one more is not, and its chunk is never committed."""
    failed = len(expected(plan.items, plan.steps).dead)
    if not enough and failed == 0:
        return

    ran, model, watched = run_plan(plan, tolerance=failed if enough else failed - 1)

    if enough:
        assert_same(plan, ran, model, watched)
    else:
        assert isinstance(ran.error, ToleranceExceeded)
        assert set(ran.rows) <= set(model.rows)
        assert len(set(ran.rows)) == len(ran.rows)
        assert len(ran.dead_letters) <= failed - 1


@MANY
@given(plans(*IN_PROCESS_KINDS).filter(lambda plan: plan.exact), st.integers(0, 2**13))
@example(plan=several_results_fail("double", "double"), mask=0)
@example(plan=several_results_fail("yield", "yield", "inline"), mask=0b1011)
@example(plan=several_results_fail("double", "yield"), mask=0b101)
def test_tolerance_means_the_same_after_a_resume(plan: Plan, mask: int) -> None:
    """Whatever an earlier try has committed: a number counts dead letters, a fraction counts parts of items."""
    first, model, watched = run_plan(plan)  # tolerance=1.0: all items may fail
    assert_same(plan, first, model, watched)
    earlier = {
        chunk.chunk_id: CommittedChunk(
            chunk.chunk_id, chunk.items, len(chunk.rows), len(chunk.dead_letters), failed_items=chunk.failed_items
        )
        for chunk in watched.sink.chunks
        if mask >> (chunk.index % 13) & 1
    }
    assert sum(chunk.failed_items or 0.0 for chunk in watched.sink.chunks) == pytest.approx(float(model.failed_items))

    class Resumed(RecordingSink):
        def open(self) -> Mapping[str, CommittedChunk]:
            return earlier

    def passes(tolerance: float) -> bool:
        source = [(position,) for position in range(plan.items)]  # of known length: failures may come early
        stages = [step.stage() for step in plan.steps]
        ran = run_pipeline(source, stages, Resumed(), **{**plan.settings(), "tolerance": tolerance})
        assert ran.error is None or isinstance(ran.error, ToleranceExceeded), ran.error
        return ran.error is None

    assert passes(len(model.dead))
    assert passes(float(model.failed_items / plan.items) if plan.items else 0.0)
    if model.dead:
        assert not passes(len(model.dead) - 1)
        assert not passes(0.999 * float(model.failed_items / plan.items))


@MANY
@given(plans(*IN_PROCESS_KINDS), st.integers(0, 2**13))
def test_a_second_try_does_the_rest(plan: Plan, mask: int) -> None:
    """Law 2, without a database: chunks that are in already are skipped, all others come exactly once."""

    class Resumed(_WatchedSink):
        def open(self) -> Mapping[str, CommittedChunk]:
            return {
                f"{index:08d}": CommittedChunk(
                    f"{index:08d}", min(plan.chunk_size, plan.items - index * plan.chunk_size), 0
                )
                for index in range(plan.items // plan.chunk_size + 1)
                if mask >> (index % 13) & 1
            }

    watched = Watched(plan.items)
    sink = Resumed(watched)
    skipped = {int(chunk_id) for chunk_id in sink.open()}

    ran = run_pipeline(watched, [step.stage() for step in plan.steps], sink, tolerance=1.0, **plan.settings())

    model = expected(plan.items, plan.steps)
    rest = [row for row in model.rows if row[0] // plan.chunk_size not in skipped]
    assert ran.error is None, ran.error
    assert (ran.rows if plan.ordered else sorted(ran.rows)) == rest
    positions = [position for position in range(plan.items) if position // plan.chunk_size in skipped]
    assert ran.report.items_skipped == len(positions)
    assert ran.report.chunks_skipped == len({position // plan.chunk_size for position in positions})


@examples(40, phases=NO_SHRINKING)
@given(plans(*IN_PROCESS_KINDS), st.integers(0, 60))
def test_a_source_may_end_in_an_error_anywhere(plan: Plan, at: int) -> None:
    """What was committed before is whole chunks of the model's rows; the numbers still add up."""

    def source() -> Iterator[tuple[int, ...]]:
        for position in range(plan.items):
            if position == at:
                raise OSError("gone")
            yield (position,)

    ran = run_pipeline(source, [step.stage() for step in plan.steps], RecordingSink(), tolerance=1.0, **plan.settings())

    model = expected(plan.items, plan.steps)
    if at >= plan.items:
        assert ran.error is None, ran.error
        return
    assert ran.error is not None
    assert "gone" in str(ran.error)
    assert set(ran.rows) <= {row for row in model.rows if row[0] < at // plan.chunk_size * plan.chunk_size}
    assert len(set(ran.rows)) == len(ran.rows)


@examples(40, phases=NO_SHRINKING)
@given(plans(*IN_PROCESS_KINDS))
def test_stream_is_run(plan: Plan) -> None:
    pipeline = Pipeline(Watched(plan.items), [step.stage() for step in plan.steps], tolerance=1.0, **plan.settings())
    stream, rows = pipeline.stream(), []

    with pytest.raises(StopIteration) as ended:
        while True:
            rows.append(next(stream))

    model = expected(plan.items, plan.steps)
    assert (rows if plan.ordered else sorted(rows)) == model.rows
    check_report(ended.value.value)


def test_the_model_is_not_trivial() -> None:
    """The properties above would say nothing if the random pipelines never dropped, spread or failed anything."""
    seen: set[str] = set()

    @examples(200)
    @given(plans(*IN_PROCESS_KINDS))
    def look(plan: Plan) -> None:
        model = expected(plan.items, plan.steps)
        seen.update(step.shape for step in plan.steps)
        seen.update(name for name, hit in _happenings(plan, model).items() if hit)

    look()

    assert seen >= {"failures", "drops", "spreads", "several chunks", "no items", "no stages", "map", "compress"}


def _happenings(plan: Plan, model: Expected) -> dict[str, bool]:
    return {
        "failures": bool(model.dead),
        "drops": len({row[0] for row in model.rows}) + len(model.dead_positions) < plan.items,
        "spreads": len(model.rows) > plan.items > 0,
        "several chunks": plan.items > plan.chunk_size,
        "no items": plan.items == 0,
        "no stages": not plan.steps,
    }
