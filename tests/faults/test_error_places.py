"""What a failure says of itself: the author's own line and the item's position, in stages of every kind."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_parallel_provider import Stage
from airflow_parallel_provider.errors import ToleranceExceeded, WrongReturn
from tests.support.running import run_pipeline

HERE = Path(__file__).name
KINDS = ["thread", "process", "async", "inline"]


def parse(text: str) -> Any:
    return json.loads(text)  # parses


def parse_all(texts: list[str]) -> list[Any]:
    return list(map(json.loads, texts))  # maps


def parse_parts(text: str) -> Iterator[Any]:
    yield json.loads(text)  # yields


def rewrap(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise LookupError(f"no flight in {text!r}") from error  # wraps


async def parse_later(text: str) -> Any:
    return json.loads(text)  # awaits


class Parser:
    def process(self, text: str) -> Any:
        return json.loads(text)  # processes


TEXTS = ['{"id": 1}', "{a", '{"id": 2}', "{b", '{"id": 3}']


def line(comment: str) -> str:
    """``this_file.py:17`` of the line with this comment."""
    lines = Path(__file__).read_text().splitlines()
    return f"{HERE}:{next(number for number, text in enumerate(lines, 1) if text.endswith(f'# {comment}'))}"


@pytest.mark.parametrize(
    ("function", "kind", "batch", "comment"),
    [
        *((parse, kind, None, "parses") for kind in ("thread", "process", "inline")),
        *((parse_all, kind, 2, "maps") for kind in ("thread", "process", "inline")),
        (parse_parts, "thread", None, "yields"),
        (parse_parts, "process", None, "yields"),
        (rewrap, "process", None, "wraps"),
        (parse_later, "async", None, "awaits"),
        (Parser, "process", None, "processes"),
        (lambda text: json.loads(text)["id"], "process", None, ""),
    ],
)  # fmt: skip
def test_the_place_of_a_failure_is_the_authors(function: Any, kind: Any, batch: int | None, comment: str) -> None:
    """In an earlier version all of these were ``decoder.py:355``."""
    ran = run_pipeline(TEXTS, [Stage(function, name="parse", kind=kind, batch_size=batch)], tolerance=2)

    (cause,) = ran.report.failures
    assert cause["cause"].endswith(f"({line(comment)})" if comment else ")")
    assert f"({HERE}:" in cause["cause"]
    assert cause["count"] == 2
    assert cause["sample"]["position"] in (1, 3)
    assert HERE in ran.dead_letters[0].traceback
    assert ran.positions == [1, 3]


def named(number: int) -> None:
    raise ValueError(f"flight {number} of day {number % 2} has no seat")


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_a_cause_does_not_say_of_all_what_holds_for_one(kind: Any) -> None:
    ran = run_pipeline(range(10, 30), [Stage(named, kind=kind, workers=1)], chunk_size=5)

    assert isinstance(ran.error, ToleranceExceeded)
    run = run_pipeline(range(10, 30), [Stage(named, kind=kind, workers=1)], tolerance=1.0)
    (cause,) = run.report.failures
    assert cause["cause"].startswith("ValueError: flight … has no seat (")
    position = cause["sample"]["position"]
    assert cause["sample"]["message"] == f"flight {10 + position} of day {position % 2} has no seat"
    assert f"{cause['cause']}, first item {position}: {cause['sample']['message']}" in str(run.report)
    assert {letter.cause.partition(" (")[0] for letter in run.dead_letters} == {
        f"ValueError: flight {number} of day {number % 2} has no seat" for number in range(10, 30)
    }, "a dead letter says what was wrong with its item"


def test_one_failure_keeps_its_whole_text_and_the_error_names_its_position() -> None:
    ran = run_pipeline(["1", "2", "x7"], [Stage(lambda text: 10 * int(text))])

    assert "ValueError: invalid literal for int() with base 10: 'x7'" in str(ran.error)
    assert "), item 2" in str(ran.error)


@pytest.mark.parametrize(("batch", "where"), [(None, "item 3"), (2, "batch from item 2")])
def test_a_return_that_no_stage_may_return_names_the_item(batch: int | None, where: str) -> None:
    def function(value: Any) -> Any:
        return None if value == [2, 3] else value

    async def later() -> None: ...

    def forgets(value: int) -> Any:
        return later() if value == 3 else value

    chosen: Callable[[Any], Any] = forgets if batch is None else function
    ran = run_pipeline(range(4), [Stage(chosen, name="seats", batch_size=batch, workers=1)])

    assert isinstance(ran.error, WrongReturn)
    assert f"stage seats, {where}: the function returned" in str(ran.error)
