"""Numbers as people read them: the same text in the log, the report, the command line and on the Pipeline tab."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from airflow_parallel_provider import formats
from tests.support.javascript import call

DURATIONS = {
    0: "0 s",
    0.00035: "350 µs",
    0.0052: "5.2 ms",
    0.523: "0.52 s",
    41.34: "41.3 s",
    119.9: "119.9 s",
    120: "2 min 00 s",
    250: "4 min 10 s",
    3599.6: "60 min 00 s",
    7200: "2 h 00 min",
    7500: "2 h 05 min",
    100_000: "27 h 46 min",
}
ESTIMATES = {0.4: "0 s", 0.004: "0 s", 9.7: "10 s", 74.2: "74 s", 250.4: "4 min 10 s", 12_000: "3 h 20 min"}
CALLS = {
    0: "0 ms",
    0.35: "350 µs",
    1.25: "1.3 ms",
    41.4: "41 ms",
    999.4: "999 ms",
    1200: "1.20 s",
    200_000: "3 min 20 s",
}
SIZES = {0: "0 B", 999: "999 B", 1536: "1.5 KiB", 312 * 2**20: "312 MiB", 2**31: "2.0 GiB", 5 * 2**50: "5120 TiB"}
NUMBERS = {0: "0", 0.0001: "<0.001", 0.0333: "0.033", 4.25: "4.3", 66: "66", 66.04: "66", 99.96: "100", 1234.5: "1,235"}
SHARES = {0: "0%", 0.125: "13%", 0.714: "71%", 1: "100%"}

TABLES: dict[str, tuple[Callable[[Any], str], str, Mapping[Any, str]]] = {
    "durations": (formats.format_duration, "dom.seconds(value)", DURATIONS),
    "estimates": (lambda each: formats.format_duration(each, estimate=True), "dom.seconds(value, true)", ESTIMATES),
    "calls": (formats.format_milliseconds, "dom.milliseconds(value)", CALLS),
    "sizes": (formats.format_bytes, "dom.bytes(value)", SIZES),
    "numbers": (formats.format_number, "dom.short(value)", NUMBERS),
    "shares": (formats.format_share, "dom.percent(value)", SHARES),
}


@pytest.mark.parametrize("name", TABLES)
def test_as_a_person_says_it(name: str) -> None:
    shown, _, expected = TABLES[name]

    assert {value: shown(value) for value in expected} == expected


@pytest.mark.parametrize("name", TABLES)
def test_the_page_shows_the_same(name: str) -> None:
    """Also where a number lies between two, and at the borders of a unit."""
    pytest.importorskip("playwright")
    shown, expression, expected = TABLES[name]
    dice = random.Random(17)
    values = [*expected, *(dice.choice((1, 8)) * 10 ** dice.uniform(-5, 7) for _ in range(400))]
    values += [each / 8 for each in range(1, 900)]

    on_page = call("dom", f"values.map((value) => {expression})", values=values)

    assert on_page == [shown(value) for value in values]


def test_what_is_not_done_is_not_100_percent() -> None:
    pairs = [(0, 7), (995, 1000), (999_999, 1_000_000), (7, 7), (9, 7), (0, 0)]
    expected = ["0%", "99%", "99%", "100%", "100%", "100%"]

    assert [formats.format_done(*pair) for pair in pairs] == expected
    assert call("dom", "pairs.map(([done, total]) => dom.percentDone(done, total))", pairs=pairs) == expected


def test_a_long_name_keeps_both_ends() -> None:
    names = ["fetch", "x" * 24, "score the second model of the north", "größe von straßen und plätzen"]
    expected = ["fetch", "x" * 24, "score the se…f the north", "größe von st…und plätzen"]

    assert [formats.cut_middle(name, 24) for name in names] == expected
    assert call("dom", "names.map((name) => dom.cutMiddle(name, 24))", names=names) == expected
