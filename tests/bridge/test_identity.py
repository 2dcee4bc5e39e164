"""A retry belongs to the load before it, a Clear does not."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.bridge.identity import RunIdentity
from tests.support.airflow_doubles import STARTED

if TYPE_CHECKING:
    from collections.abc import Callable


def key(context: dict[str, Any]) -> str:
    return RunIdentity.from_context(context).load_key


def test_retry_goes_on_with_the_load(context_of: Callable[..., dict[str, Any]]) -> None:
    """Seen on Airflow 3.3.2: max_tries and the start of the run stay, the try number rises."""
    first = RunIdentity.from_context(context_of(try_number=1, max_tries=2))
    second = RunIdentity.from_context(context_of(try_number=2, max_tries=2))

    assert first.load_key == second.load_key
    assert (first.attempt, second.attempt) == (1, 2)


def test_cleared_task_starts_another_load(context_of: Callable[..., dict[str, Any]]) -> None:
    """Seen on Airflow 3.3.2, also for a task cleared while it ran: max_tries = tries made + retries."""
    assert key(context_of(try_number=1, max_tries=2)) != key(context_of(try_number=2, max_tries=3))


def test_all_loads_of_a_task_instance_are_one_family(context_of: Callable[..., dict[str, Any]]) -> None:
    first, cleared = (RunIdentity.from_context(context_of(max_tries=each)) for each in (2, 3))
    other = RunIdentity.from_context(context_of(map_index=7))

    assert first.family == cleared.family
    assert first.family not in (first.load_key, cleared.load_key, other.family)


def test_run_made_anew_under_the_same_id_starts_another_load(context_of: Callable[..., dict[str, Any]]) -> None:
    later = STARTED + timedelta(microseconds=1)

    assert key(context_of()) != key(context_of(started=later))


def test_editing_retries_between_two_tries_changes_nothing(context_of: Callable[..., dict[str, Any]]) -> None:
    """The task's own ``retries`` are not looked at, only what Airflow noted when the run was made."""
    before, after = context_of(try_number=1, max_tries=2), context_of(try_number=2, max_tries=2)
    before["ti"].task = type("Task", (), {"retries": 2})
    after["ti"].task = type("Task", (), {"retries": 5})

    assert key(before) == key(after)


def test_every_task_instance_has_a_load_of_its_own(context_of: Callable[..., dict[str, Any]]) -> None:
    contexts = [
        context_of(),
        context_of(dag_id="other"),
        context_of(task_id="other"),
        context_of(run_id="other"),
        context_of(map_index=0),
        context_of(map_index=1),
        # the same characters, cut in other places
        context_of(dag_id="flights/score", task_id="x"),
        context_of(dag_id="flights", task_id="score/x"),
    ]

    assert len({key(context) for context in contexts}) == len(contexts)


def test_load_key_is_readable_and_bounded(context_of: Callable[..., dict[str, Any]]) -> None:
    ordinary = key(context_of(map_index=3))
    longest = context_of(dag_id="d" * 250, task_id="t" * 250, run_id="r" * 250)
    neighbor = context_of(dag_id="d" * 250, task_id="t" * 250, run_id="r" * 249 + "s")

    assert ordinary.startswith("flights/score[3]/manual__2026-11-21T08:00:00+00:00#")
    assert len(key(longest)) <= 200
    assert key(longest) != key(neighbor)


def test_labels_are_texts_for_people(context_of: Callable[..., dict[str, Any]]) -> None:
    labels = RunIdentity.from_context(context_of(map_index=None)).labels

    assert labels == {
        "dag_id": "flights",
        "run_id": "manual__2026-11-21T08:00:00+00:00",
        "task_id": "score",
        "map_index": "-1",
        "generation": "2026-11-21T08:00:01.500000+00:00/2",
    }


def test_a_context_without_a_run_is_enough(context_of: Callable[..., dict[str, Any]]) -> None:
    context = context_of(started=None)
    del context["dag_run"]

    assert RunIdentity.from_context(context).generation == "-/2"
