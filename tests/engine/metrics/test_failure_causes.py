"""Causes: many failures, few lines; broken errors and items do no harm."""

from __future__ import annotations

import json
import threading
from typing import NoReturn

import pytest

from airflow_parallel_provider.engine.functions.outcome import CallFailure, describe_error
from airflow_parallel_provider.engine.metrics.failure_causes import MAX_CAUSES, Causes, cause_text


def failure(error: str = "ValueError", message: str = "bad", place: str = "user.py:3") -> CallFailure:
    return CallFailure(error, message, place)


def test_ten_thousand_failures_of_three_causes_are_three_lines() -> None:
    causes = Causes()
    failures = {number: raised(number) for number in range(10)}
    for number in range(10_000):
        causes.add("fetch", failures[number % 10], position=number, item=number)

    listed = causes.listed()

    assert [(each["count"], each["cause"].partition(":")[0].partition(" ")[0]) for each in listed] == [
        (6_000, "ValueError"),
        (3_000, "KeyError"),
        (1_000, "TimeoutError"),
    ]
    assert causes.total == 10_000
    assert listed[0]["sample"] == {"position": 4, "item": "4", "message": "no such flight: 4"}


def raised(number: int) -> CallFailure:
    try:
        raise_for(number)
    except Exception as error:
        return describe_error(error)


def raise_for(number: int) -> NoReturn:
    if number % 10 == 0:
        raise TimeoutError(f"after {number} s")
    if number % 10 < 4:
        raise KeyError(number)
    raise ValueError(f"no such flight: {number}")


def test_one_type_at_two_places_is_two_causes() -> None:
    causes = Causes()
    causes.add("fetch", failure(place="user.py:3"), position=0, item=0)
    causes.add("fetch", failure(place="user.py:9"), position=1, item=1)

    assert len(causes.listed()) == 2


def test_one_cause_at_two_stages_is_two_causes() -> None:
    causes = Causes()
    causes.add("fetch", failure(), position=0, item=0)
    causes.add("save", failure(), position=0, item=0)

    assert [each["stage"] for each in causes.listed()] == ["fetch", "save"]


def test_without_a_place_texts_that_differ_in_numbers_are_one_cause() -> None:
    causes = Causes()
    for pid in (17, 4711):
        causes.add("score", failure("WorkerLost", f"process {pid} died", ""), position=pid, item=pid)
    causes.add("score", failure("WorkerLost", "the machine is on fire", ""), position=1, item=1)

    assert [each["count"] for each in causes.listed()] == [2, 1]


def test_distinct_causes_are_capped_and_still_all_counted() -> None:
    causes = Causes()
    for number in range(5_000):
        causes.add("fetch", failure(place=f"user.py:{number}"), position=number, item=number)

    listed = causes.listed()

    assert len(listed) <= MAX_CAUSES + 1
    assert sum(each["count"] for each in listed) == causes.total == 5_000


# In an earlier version the line of the many had the text and place of the first cause that did not fit, and read as
# if thousands of failures had that one cause.
def test_the_line_of_the_further_causes_does_not_name_one_of_them() -> None:
    causes = Causes()
    for number in range(MAX_CAUSES + 50):
        causes.add("fetch", failure(place=f"user.py:{number}"), position=number, item=number)

    most = causes.listed()[0]

    assert most["count"] == 50
    assert "user.py:200" not in most["cause"]
    assert "other" in most["cause"]


def test_a_listed_cause_does_not_change_any_more() -> None:
    causes = Causes()
    causes.add("fetch", failure(), position=0, item=0)
    before = causes.listed()[0]

    causes.add("fetch", failure(), position=1, item=1)

    assert before["count"] == 1


class Mute(Exception):
    """Neither text nor representation."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Quitter(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class NoText(Exception):
    __str__ = None  # type: ignore[assignment]


# In an earlier version Quitter ended the worker: only an Exception was caught there.
@pytest.mark.parametrize("error", [Mute(), NoText(), Quitter()], ids=lambda error: type(error).__name__)
def test_an_error_that_cannot_be_shown_is_counted_all_the_same(error: Exception) -> None:
    causes = Causes()

    causes.add("fetch", describe_error(error), position=0, item=error)

    (cause,) = causes.listed()
    assert cause["cause"].startswith(type(error).__name__)
    json.dumps(cause)


def test_an_item_without_a_working_repr_is_named_by_its_type() -> None:
    causes = Causes()

    causes.add("fetch", failure(), position=0, item=Mute())

    assert causes.listed()[0]["sample"]["item"] == "<Mute whose repr raises>"


def test_long_items_and_texts_are_cut() -> None:
    causes = Causes()

    causes.add("fetch", failure(message="very " * 1000 + "long"), position=0, item="x" * 10_000)

    (cause,) = causes.listed()
    assert len(cause["cause"]) < 250
    assert len(cause["sample"]["item"]) == 200
    assert cause["sample"]["item"].endswith("…")
    assert len(cause["sample"]["message"]) <= 200


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (failure(), "ValueError: bad (user.py:3)"),
        (failure(message=""), "ValueError (user.py:3)"),
        (failure(place=""), "ValueError: bad"),
        (failure(message="two\n   lines"), "ValueError: two lines (user.py:3)"),
    ],
)
def test_a_cause_is_one_line(given: CallFailure, text: str) -> None:
    assert cause_text(given) == text


def test_many_threads_count_every_failure() -> None:
    causes = Causes()

    def add() -> None:
        for number in range(500):
            causes.add("fetch", failure(place=f"user.py:{number % 7}"), position=number, item=number)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert causes.total == sum(each["count"] for each in causes.listed()) == 2_000


@pytest.mark.parametrize(
    ("messages", "common"),
    [
        (["bad", "bad"], "bad"),
        (["invalid literal: 'x17'", "invalid literal: 'x18'"], "invalid literal: '…'"),
        (["row 5: bad", "row 15: bad", "row 7: bad"], "row …: bad"),
        (["no such flight: 4", "no such flight: 5"], "no such flight: …"),
        (["17 of 20", "18 of 21"], ""),
        (["a b a", "a b a b a"], "a b …"),
        (["timeout of 1.5 s", "timeout of 1.75 s"], "timeout of … s"),
        (["abc", "xyz"], ""),
        (["x: 1", "x: 2", "y: 2"], ""),
    ],
)
def test_messages_of_one_cause_are_shown_by_what_they_have_in_common(messages: list[str], common: str) -> None:
    causes = Causes()
    for number, message in enumerate(messages):
        causes.add("fetch", failure(message=message), position=number, item=number)

    (cause,) = causes.listed()
    assert cause["cause"] == f"ValueError: {common} (user.py:3)" if common else "ValueError (user.py:3)"
    assert cause["sample"]["message"] == messages[0]


def test_the_monitor_lists_causes_while_the_repr_of_an_item_takes_its_time() -> None:
    causes = Causes()
    entered, go_on = threading.Event(), threading.Event()

    class Slow:
        def __repr__(self) -> str:
            entered.set()
            go_on.wait(5)
            return "slow"

    thread = threading.Thread(target=lambda: causes.add("fetch", failure(), position=0, item=Slow()))
    thread.start()
    entered.wait(5)
    try:
        assert causes.listed() == []  # without waiting
    finally:
        go_on.set()
        thread.join()
    assert causes.listed()[0]["sample"]["item"] == "slow"
