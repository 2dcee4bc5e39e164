"""Assertions on reports. Each failure shows what was expected, what came, and the whole report."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from airflow_parallel_provider.report import RunReport

if TYPE_CHECKING:
    from airflow_parallel_provider.engine.interfaces.records import DeadLetter

_FATES = ("items_committed", "items_filtered", "items_dead_lettered", "items_skipped", "items_unfinished")


def conservation_problems(report: RunReport) -> list[str]:
    """What in a report does not add up; empty when nothing got lost and nothing came from nowhere.

    Items read must be the sum of their fates. In a run that succeeded nothing may be unfinished, each stage must have
    received exactly what the stage before it handed on, and every dead letter must have a stage that gave it up.
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
            problems.append(f"stage {stage.name} received {stage.items_in} items, {before} handed on {arriving}")
        arriving, before = stage.items_out, f"stage {stage.name}"
    failed = sum(stage.failed for stage in report.stages)
    if report.items_dead_lettered > 0 and not failed:
        problems.append(f"{report.items_dead_lettered} dead letters, but no stage gave an item up")
    if failed and not report.items_dead_lettered:
        problems.append(f"stages gave up {failed} items, but there are no dead letters")
    return problems


def assert_conserved(report: RunReport) -> None:
    """Nothing got lost: see :func:`conservation_problems`.

    :raises AssertionError: with each thing that does not add up.
    """
    problems = conservation_problems(report)
    if problems:
        raise AssertionError("\n".join(["items are not conserved:", *problems, "", str(report)]))


def assert_all_committed(report: RunReport, *, allow_filtered: bool = False) -> None:
    """The run succeeded and every item it read has a row in the sink, from this run or an earlier try.

    :param allow_filtered: items may also have ended without a row of their own.
    :raises AssertionError: saying what became of the others.
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
    """Exactly the items at these positions of the source became dead letters.

    :param where: a :class:`ListSink` or anything else with ``dead_letters``, an iterable of dead letters, or a
        :class:`RunReport`. A report keeps counts and one sample per cause: then the number is compared, and that every
        sample is one of ``positions``.
    :param stage: name of the stage that must have given each of them up.
    :param cause: text that must occur in the cause of each of them.
    :raises AssertionError: naming the positions that are missing and those that are too many.
    """
    wanted = sorted(positions)
    if isinstance(where, RunReport):
        _assert_reported(where, wanted, stage, cause)
        return
    dead_letters: list[DeadLetter] = list(where.dead_letters if hasattr(where, "dead_letters") else where)
    found = sorted({letter.position for letter in dead_letters})
    if found != sorted(set(wanted)):
        missing = [each for each in wanted if each not in found]
        extra = [each for each in found if each not in wanted]
        shown = [f"  {letter.position}: {letter.stage}: {letter.cause}" for letter in dead_letters[:20]]
        text = f"dead letters at {found}, expected {wanted} (missing {missing}, too many {extra})"
        raise AssertionError("\n".join([text, *shown]))
    for letter in dead_letters:
        _assert_letter(letter.position, letter.stage, letter.cause, stage, cause)


def _assert_reported(report: RunReport, wanted: list[int], stage: str | None, cause: str | None) -> None:
    if report.items_dead_lettered != len(set(wanted)):
        text = f"{report.items_dead_lettered} dead letters, expected {len(set(wanted))}"
        raise AssertionError(f"{text}\n\n{report}")
    for each in report.failures:
        position = each["sample"]["position"]
        if position not in wanted:
            raise AssertionError(f"a dead letter at {position}, expected only {wanted}\n\n{report}")
        _assert_letter(position, each["stage"], each["cause"], stage, cause)


def _assert_letter(position: int | None, at: str, why: str, stage: str | None, cause: str | None) -> None:
    if stage is not None and at != stage:
        raise AssertionError(f"item {position} was given up by stage {at!r}, expected {stage!r} ({why})")
    if cause is not None and cause not in why:
        raise AssertionError(f"item {position} was given up because of {why!r}, expected {cause!r} in it")
