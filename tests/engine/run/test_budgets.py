"""A budget stops the run cleanly: nothing beyond it is called, what is complete is committed, the next run goes on."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_parallel_provider import ListSink, Pipeline, PlanError, Retry, Stage
from airflow_parallel_provider.engine.interfaces.records import ChunkResult, CommittedChunk
from airflow_parallel_provider.errors import BudgetSpent, RetryAfter
from tests.support.running import RecordingSink, run_pipeline
from tests.support.saboteurs import same

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize("kind", ["thread", "process", "async"])
def test_no_call_beyond_it_and_whole_chunks_are_in(kind: Any) -> None:
    async def asynchronous(item: int) -> int:
        return item

    stage = Stage(asynchronous if kind == "async" else same, name="ask", kind=kind, workers=2, budget=45)

    ran = run_pipeline(range(100), [stage, Stage(same, name="after", batch_size=7)], chunk_size=10)

    assert isinstance(ran.error, BudgetSpent)
    assert (ran.error.reason, ran.report.state) == ("budget", "stopped")
    assert ran.report.stages[0].calls == 45
    assert len(ran.rows) % 10 == 0
    assert 10 <= len(ran.rows) <= 40
    assert "45 of budget=45 are spent, and the next call costs 1" in str(ran.error)


def test_with_one_worker_all_that_is_paid_and_complete_is_committed() -> None:
    ran = run_pipeline(range(100), [Stage(same, workers=1, budget=45)], chunk_size=10)

    assert ran.rows == list(range(40))


class Resumed(RecordingSink):
    """Knows what earlier tries have committed."""

    def __init__(self, earlier: dict[str, CommittedChunk]) -> None:
        super().__init__()
        self.earlier = earlier

    def open(self) -> dict[str, CommittedChunk]:
        return dict(self.earlier)

    def commit(self, chunk: ChunkResult) -> int:
        self.earlier[chunk.chunk_id] = CommittedChunk(chunk.chunk_id, chunk.items, len(chunk.rows), 0)
        return super().commit(chunk)


def test_each_try_goes_on_with_a_budget_of_its_own() -> None:
    earlier: dict[str, CommittedChunk] = {}
    rows: list[Any] = []
    errors = []
    for _ in range(4):
        ran = run_pipeline(range(100), [Stage(same, workers=1, budget=30)], Resumed(earlier), chunk_size=10)
        rows += ran.rows
        errors.append(type(ran.error))

    assert rows == list(range(100))
    assert errors == [BudgetSpent, BudgetSpent, BudgetSpent, type(None)]


def test_one_that_is_just_enough_is_none() -> None:
    assert run_pipeline(range(20), [Stage(same, budget=20)], chunk_size=10).error is None


def test_costs_and_second_attempts_count() -> None:
    tries: list[int] = []

    def refuse_once(item: int) -> int:
        tries.append(item)
        if tries.count(item) == 1:
            raise RetryAfter(0)
        return item

    stage = Stage(refuse_once, workers=1, retry=Retry(2, backoff=0), cost=lambda item: 10, budget=70)
    ran = run_pipeline(range(10), [stage], chunk_size=1)

    assert len(tries) == 7
    assert len(ran.rows) == 3


def test_a_chunk_that_never_fits_is_told() -> None:
    ran = run_pipeline(range(100), [Stage(same, budget=5)], chunk_size=50)

    assert "give a smaller one" in str(ran.error)
    assert ran.rows == []


def test_a_shard_has_its_share() -> None:
    stage = Stage(same, rate_limit="600/minute", budget=100).share(4)

    assert (stage.rate_limit, stage.budget) == (2.5, 25)
    plain = Stage(same)
    assert plain.share(4) is plain


def test_a_pause_that_the_service_asks_for_is_kept_by_all() -> None:
    """The pause is as long as the run could last: only the stop of its own ends it."""
    asked: list[int] = []

    def refuse(item: int) -> int:
        asked.append(item)
        raise RetryAfter(3_600)

    ran = run_pipeline(range(50), [Stage(refuse, workers=1, retry=Retry(3, backoff=0))], timeout=1.0)

    assert ran.error is not None
    assert len(asked) == 1


def test_an_inline_stage_waits_too() -> None:
    tries: list[int] = []

    def refuse_once(item: int) -> int:
        tries.append(item)
        if len(tries) == 1:
            raise RetryAfter(0.01)
        return item

    ran = run_pipeline(range(5), [Stage(refuse_once, kind="inline", retry=Retry(2, backoff=0))])

    assert (sorted(ran.rows), len(tries)) == ([0, 1, 2, 3, 4], 6)


def test_a_cost_after_a_process_stage_sees_the_item() -> None:
    seen: list[type] = []

    def cost(item: Any) -> float:
        seen.append(type(item))
        return 1.0

    stages = [
        Stage(lambda item: "x" * 200_000, kind="process", workers=1),
        Stage(len, kind="process", workers=1, cost=cost, rate_limit=1e6),
    ]
    ran = run_pipeline(range(6), stages)

    assert ran.rows == [200_000] * 6
    assert set(seen) == {str}


def test_a_cost_that_fails_is_in_the_report() -> None:
    ran = run_pipeline(range(3), [Stage(same, cost=lambda item: item["no"], rate_limit=1e6)])

    assert len(ran.rows) == 3
    assert any("cost= failed for an item, which counts 1" in each for each in ran.report.warnings)


@pytest.mark.parametrize(
    ("arguments", "field", "cure"),
    [
        ({"cost": len}, "cost", "rate_limit= or budget="),
        ({"cost": 5, "budget": 7}, "cost", "a function of an item"),
        ({"budget": 0}, "budget", "items, or their cost, more than 0"),
        ({"budget": 5, "kind": "inline"}, "budget", "no queue"),
        ({"rate_limit": "600/fortnight"}, "rate_limit", "600/minute"),
        ({"rate_limit": "lots"}, "rate_limit", "600/minute"),
        ({"rate_limit": "-5/minute"}, "rate_limit", "600/minute"),
        ({"rate_limit": "0/minute"}, "rate_limit", "600/minute"),
    ],
)
def test_what_is_refused(arguments: dict[str, Any], field: str, cure: str) -> None:
    with pytest.raises(PlanError) as caught:
        Stage(same, **arguments)

    assert caught.value.field == f"Stage(same).{field}"
    assert cure in caught.value.cure


@pytest.mark.parametrize(
    ("rate", "seconds"), [("600/minute", 10.0), ("2/s", 2.0), ("7200 per hour", 2.0), ("90_000 / min", 1500.0)]
)
def test_rates_with_a_unit(rate: str, seconds: float) -> None:
    assert Stage(same, rate_limit=rate).share(1).rate_limit == seconds


def test_templates() -> None:
    stage = Stage(same, rate_limit="{{ rate }}", budget="{{ budget }}", cost=len)

    made = stage.rendered({"{{ rate }}": "600/minute", "{{ budget }}": "50"}.get)

    assert (made.rate_limit, made.budget) == ("600/minute", 50)
    Pipeline([1], [made], ListSink())
