# SPDX-License-Identifier: Apache-2.0
"""Assertions on reports. Each failure shows the expected and the actual value, and the whole report."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.report import RunReport

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.interfaces.records import DeadLetter

_FATES = ("items_committed", "items_filtered", "items_dead_lettered", "items_skipped", "items_unfinished")


def conservation_problems(report: RunReport) -> list[str]:
    """The counts of a report that do not add up; empty when no item was lost and none appeared.

    Items read must be the sum of items committed, filtered, dead-lettered, skipped and unfinished. In a successful run
    no item may be unfinished, each stage must have received exactly the items that the stage before it passed on, and
    dead letters must have a stage where they failed.
    """
    counts = {name: int(getattr(report, name)) for name in _FATES}
    problems = [f"{name} is negative: {count}" for name, count in counts.items() if count < 0]
    if report.items_read != sum(counts.values()):
        shown = " + ".join(f"{count} {name.removeprefix('items_')}" for name, count in counts.items())
        problems.append(f"{report.items_read} items were read, but {shown} = {sum(counts.values())}")
    problems += [
        f"stage {stage.name}: {stage.queue_peak} items waited in a queue of {stage.queue_size}"
        for stage in report.stages
        if not 0 <= stage.queue_peak <= stage.queue_size
    ]
    if report.state == "success":
        problems += _success_problems(report)
    return problems


def _success_problems(report: RunReport) -> list[str]:
    problems = []
    if report.items_unfinished:
        problems.append(f"the run succeeded with {report.items_unfinished} items unfinished")
    arriving, before = report.items_read - report.items_skipped, "the source"
    for stage in report.stages:
        if stage.items_in != arriving:
            problems.append(f"stage {stage.name} received {stage.items_in} items, {before} passed on {arriving}")
        arriving, before = stage.items_out, f"stage {stage.name}"
    failed = sum(stage.failed for stage in report.stages)
    if report.items_dead_lettered > 0 and not failed:
        problems.append(f"{report.items_dead_lettered} dead letters, but no stage has failed items")
    if failed and not report.items_dead_lettered:
        problems.append(f"stages have {failed} failed items, but there are no dead letters")
    return problems


def assert_conserved(report: RunReport) -> None:
    """Assert that no item was lost, see :func:`conservation_problems`.

    :raises AssertionError: naming each count that does not add up.
    """
    problems = conservation_problems(report)
    if problems:
        raise AssertionError("\n".join(["items are not conserved:", *problems, "", str(report)]))


def assert_all_committed(report: RunReport, *, allow_filtered: bool = False) -> None:
    """Assert that the run succeeded and that the sink has a row of every item, from this run or an earlier try.

    :param allow_filtered: items may also have ended without a row.
    :raises AssertionError: with the number of other items.
    """
    assert_conserved(report)
    done = report.items_committed + report.items_skipped + (report.items_filtered if allow_filtered else 0)
    if report.state == "success" and done == report.items_read:
        return
    others = report.items_read - done
    text = f"the run's state is {report.state!r} and {others} of {report.items_read} items were not committed"
    raise AssertionError(f"{text}\n\n{report}")


def assert_dead_letters(
    where: Any, positions: Iterable[int], *, stage: str | None = None, cause: str | None = None
) -> None:
    """Assert that exactly the items at these positions of the source became dead letters.

    :param where: a :class:`ListSink` or another object with ``dead_letters``, an iterable of dead letters, or a
        :class:`RunReport`. A report has only counts and one sample per cause: then the number must match, and every
        sample must be one of ``positions``.
    :param stage: name of the stage where all of them must have failed.
    :param cause: text that the cause of each of them must contain.
    :raises AssertionError: naming the missing and the unexpected positions.
    """
    expected = sorted(positions)
    if isinstance(where, RunReport):
        _assert_reported(where, expected, stage, cause)
        return
    dead_letters: list[DeadLetter] = list(where.dead_letters if hasattr(where, "dead_letters") else where)
    found = sorted({each.position for each in dead_letters})
    if found != sorted(set(expected)):
        missing = [each for each in expected if each not in found]
        extra = [each for each in found if each not in expected]
        shown = [f"  {each.position}: {each.stage}: {each.cause}" for each in dead_letters[:20]]
        text = f"dead letters at {found}, expected {expected} (missing {missing}, unexpected {extra})"
        raise AssertionError("\n".join([text, *shown]))
    for each in dead_letters:
        _assert_failure(each.position, each.stage, each.cause, stage, cause)


def _assert_reported(report: RunReport, expected: list[int], stage: str | None, cause: str | None) -> None:
    if report.items_dead_lettered != len(set(expected)):
        text = f"{report.items_dead_lettered} dead letters, expected {len(set(expected))}"
        raise AssertionError(f"{text}\n\n{report}")
    for each in report.failures:
        position = each["sample"]["position"]
        if position not in expected:
            raise AssertionError(f"a dead letter at {position}, expected only {expected}\n\n{report}")
        _assert_failure(position, each["stage"], each["cause"], stage, cause)


def _assert_failure(position: int | None, at: str, why: str, stage: str | None, cause: str | None) -> None:
    if stage is not None and at != stage:
        raise AssertionError(f"item {position} failed in stage {at!r}, expected {stage!r} ({why})")
    if cause is not None and cause not in why:
        raise AssertionError(f"item {position} failed because of {why!r}, expected {cause!r} in it")
