"""Snowflake: each chunk once, whatever dies and whoever else loads, with no key to rely on."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from airflow_parallel_provider.errors import SinkError
from tests.support.attempts import Gate, holding_hook
from tests.support.children import KILLED, Child, attempt, everything, killing_hook, rows_of
from tests.support.snowflake import SnowflakeDatabase

pytestmark = [pytest.mark.airflow, pytest.mark.system]
POINTS = ["after_claim", "after_rows", "before_commit", "after_commit"]
CHUNKS, SIZE = 4, 10
WAYS = pytest.mark.parametrize(
    "options",
    [{}, {"write_disposition": "merge", "primary_key": "id"}, {"write_disposition": "replace"}],
    ids=["append", "merge", "replace"],
)


def test_a_load_goes_by_files_and_leaves_none(snowflake: SnowflakeDatabase) -> None:
    attempt(snowflake, CHUNKS, SIZE, 1)

    assert snowflake.rows(columns='"id", "name"') == everything(CHUNKS, SIZE)
    assert [row[2] for row in snowflake.ledger()] == [SIZE] * CHUNKS
    assert snowflake.staged_files() == []


def test_the_ledger_has_no_key(snowflake: SnowflakeDatabase) -> None:
    """Else the other tests here would show nothing."""
    with snowflake.opened() as hook:
        hook.write_chunk("00000000", rows_of(0, SIZE))
    ledger = snowflake.place("airflow_parallel_ledger")

    snowflake.execute(f"INSERT INTO {ledger} SELECT * FROM {ledger}")

    assert len(snowflake.ledger()) == 2


@WAYS
@pytest.mark.parametrize("point", POINTS)
def test_killed_attempt_is_gone_on_with(snowflake: SnowflakeDatabase, point: str, options: dict[str, Any]) -> None:
    first = Child(lambda: attempt(snowflake, CHUNKS, SIZE, 1, killing_hook(3, point), **options))
    assert first.wait() == KILLED
    snowflake.end_sessions()

    attempt(snowflake, CHUNKS, SIZE, 2, **options)

    survived = 3 if point == "after_commit" else 2
    assert snowflake.rows(columns='"id", "name"') == everything(CHUNKS, SIZE)
    assert [row[4] for row in snowflake.ledger()] == [1] * survived + [2] * (CHUNKS - survived)


@pytest.mark.parametrize("point", ["before_swap", "in_swap", "before_commit_of_swap", "after_swap"])
def test_killed_at_the_swap(snowflake: SnowflakeDatabase, point: str) -> None:
    """Readers find the old rows or the new ones."""
    place = snowflake.place("scores")
    snowflake.execute(
        f'CREATE TABLE {place} ("id" NUMBER(38,0), "name" VARCHAR)', f"INSERT INTO {place} VALUES (-1, 'old')"
    )
    first = Child(lambda: attempt(snowflake, 2, SIZE, 1, killing_hook(1, point), write_disposition="replace"))
    assert first.wait() == KILLED
    snowflake.end_sessions()
    assert snowflake.rows(columns='"id", "name"') == (everything(2, SIZE) if point == "after_swap" else [(-1, "old")])

    attempt(snowflake, 2, SIZE, 2, write_disposition="replace")

    assert snowflake.rows(columns='"id", "name"') == everything(2, SIZE)


@WAYS
def test_two_attempts_at_once(snowflake: SnowflakeDatabase, options: dict[str, Any]) -> None:
    others = [Child(partial(attempt, snowflake, 8, SIZE, number, **options)) for number in (1, 2)]
    codes = [other.wait() for other in others]

    assert codes == [0, 0]
    assert snowflake.rows(columns='"id", "name"') == everything(8, SIZE)
    assert len(snowflake.ledger()) == 8
    assert snowflake.staged_files() == []


@pytest.mark.parametrize("point", ["after_claim", "before_commit"])
def test_second_attempt_waits_and_takes_the_word_of_the_first(snowflake: SnowflakeDatabase, point: str) -> None:
    gate = Gate()
    with snowflake.opened() as hook:
        hook.write_chunk("00000000", rows_of(0, SIZE))

    def first_attempt() -> None:
        with snowflake.opened(cls=holding_hook(gate, point)) as hook:
            hook.write_chunk("00000001", rows_of(1, SIZE), first_position=SIZE)

    def second_attempt() -> None:
        with snowflake.opened() as hook:
            receipt = hook.write_chunk("00000001", rows_of(1, SIZE), first_position=SIZE)
            assert receipt.already_committed

    first = Child(first_attempt)
    gate.wait_until_held()
    second = Child(second_attempt)
    gate.open()
    assert (first.wait(), second.wait()) == (0, 0)
    gate.close()

    assert snowflake.rows(columns='"id", "name"') == everything(2, SIZE)
    assert len(snowflake.ledger()) == 2


def test_without_the_lock_rows_come_twice(snowflake: SnowflakeDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """The race is one: without lock, then look, it doubles chunks. So the tests above can fail."""
    from airflow_parallel_provider.sinks.ledger import chunks

    monkeypatch.setattr(chunks.ChunkLedger, "prove_transactional", lambda *_: True)
    with snowflake.opened() as first, snowflake.opened() as second:
        for hook in (first, second):
            hook.write_chunk("00000000", rows_of(0, SIZE))

    assert len(snowflake.rows()) == 2 * SIZE


def test_a_file_that_loads_too_few_rows_fails_the_chunk(
    snowflake: SnowflakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_parallel_provider.sql.backends.snowflake import fields, row_dml

    monkeypatch.setattr(row_dml, "write_file", lambda table, path: fields.write_file(table.slice(1), path))
    with snowflake.opened() as hook, pytest.raises(SinkError, match=r"of 10 rows that were sent .* has written 9"):
        hook.write_chunk("00000000", rows_of(0, SIZE))

    assert snowflake.ledger() == []
