"""The soak's judgement: it must see what is missing, twice, wrong, and what grows. The soak itself is `make soak`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest

from tests.chaos import soak
from tests.chaos.soak_figures import COUNT, MIB, TASK_MEMORY, Checked, Figures, Sample, growth, growth_of_each
from tests.chaos.soak_stages import ALWAYS_HANGS, always_bad, value_of
from tests.support.databases import SqliteDatabase, TestDatabase

GOOD = Checked(items=100, rows=98, dead_letters=2, missing=0, twice=0, wrong=0)


def figures(**changes: object) -> Figures:
    """Of a soak that is passed, but for what is changed."""
    steady = [Sample(100 * MIB, 12, 4)] * 12
    running = [Sample(120 * MIB, 20, 20, server=number // 10, server_memory=30 * MIB) for number in range(30)]
    made = Figures(loads=[GOOD, GOOD], kills=20, between_loads=steady, in_loads=running, seconds=60.0)
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def test_a_soak_without_a_fault_is_passed() -> None:
    assert figures().problems() == []
    assert "**0, 0, 0**" in figures().table()
    assert "| memory of a fork server, first and last third | 30.0 MiB, 30.0 MiB |" in figures().table()


@pytest.mark.parametrize("what", ["missing", "twice", "wrong"])
def test_one_row_is_enough_to_fail_it(what: str) -> None:
    bad = dataclasses.replace(GOOD, **{what: 1})

    assert figures(loads=[GOOD, bad]).problems() == [f"load 2: 1 {what}"]


def growing(name: str, step: float) -> list[Sample]:
    steady = Sample(100 * MIB, 12, 4)
    return [dataclasses.replace(steady, **{name: int(getattr(steady, name) + step * at)}) for at in range(30)]


@pytest.mark.parametrize(
    ("name", "step", "complaint"),
    [
        ("task_memory", 2 * MIB, "memory of the task process grew"),
        ("descriptors", 1, "descriptors grew from"),
        ("threads", 0.25, "threads grew from"),
    ],
)
def test_what_grows_from_load_to_load_is_named(name: str, step: float, complaint: str) -> None:
    (problem,) = figures(between_loads=growing(name, step)).problems()

    assert problem.startswith(complaint)


def test_a_fork_server_that_grows_with_each_worker_is_named() -> None:
    leaking = [
        Sample(100 * MIB, 12, 4, server=number // 30, server_memory=(30 + number % 30) * MIB) for number in range(90)
    ]

    (problem,) = figures(in_loads=leaking).problems()

    assert problem.startswith("memory of a fork server grew")


def test_a_soak_that_did_nothing_is_not_passed() -> None:
    assert Figures().problems() == ["no load was completed", "no worker was killed"]


@pytest.mark.parametrize(
    ("samples", "flat"),
    [
        ([200.0, 10, 10, 10, 10, 10, 10, 10], True),  # it shrinks
        ([1.0, 2, 3, 10, 10, 10, 10, 10, 11, 10, 12, 10], True),  # warming up
        ([10.0, 10, 10, 10, 10, 99, 10, 10, 10, 10], True),  # one outlier
        ([10.0, 10, 10, 10, 11, 12, 13, 14, 15, 16], False),
    ],
)
def test_flat_is_judged_after_the_warm_up_by_medians(samples: Sequence[float], flat: bool) -> None:
    assert growth(samples, COUNT).flat is flat


def test_processes_that_lived_too_short_are_not_judged() -> None:
    assert growth_of_each([[1.0, 1e9]], TASK_MEMORY).flat


def test_the_check_sees_what_is_missing_twice_and_wrong(sqlite: SqliteDatabase) -> None:
    def put(statement: str, *values: tuple[int, ...]) -> None:
        sqlite.execute(*(f"{statement} VALUES {value}" for value in values))

    sqlite.execute('CREATE TABLE "t" (id, value, doubled)', 'CREATE TABLE "t__dead_letters" (position, cause)')
    good = [item for item in range(20) if not always_bad(item)]
    put('INSERT INTO "t"', *((item, value_of(item), 2 * item) for item in good))
    put('INSERT INTO "t__dead_letters"', *((item, 0) for item in range(20) if always_bad(item)))
    database: TestDatabase = sqlite

    assert soak.check(database, "t", 20) == Checked(20, len(good), 20 - len(good), 0, 0, 0)
    assert soak.check(database, "t", 22).missing == 2

    put('INSERT INTO "t"', (0, value_of(0), 0))  # twice in the table
    put('INSERT INTO "t__dead_letters"', (1, 0))  # in the table and given up
    put('INSERT INTO "t"', (5, value_of(5), 10))  # nobody can do it
    sqlite.execute('UPDATE "t" SET value = value + 1 WHERE id = 2')

    found = soak.check(database, "t", 20)
    assert (found.missing, found.twice, found.wrong) == (0, 3, 2)


def test_there_are_bad_items_of_each_stage() -> None:
    assert [item for item in range(1_300) if always_bad(item)] == [3, 5, 7, 986, 998, 1002, ALWAYS_HANGS]
    assert always_bad(ALWAYS_HANGS)


@pytest.mark.slow
@pytest.mark.airflow
@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_short(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"AIRFLOW_CONN_{soak.CONN_ID.upper()}", soak.as_json(database.connection))

    found = soak.Soak(database, load_seconds=6.0, seed=1).run(1.0)

    assert [(load.missing, load.twice, load.wrong) for load in found.loads] == [(0, 0, 0)]
    assert found.kills
    assert found.stops == 1
