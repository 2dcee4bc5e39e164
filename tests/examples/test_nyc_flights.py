"""The example that `make demo` runs: its functions, a month through the engine, the whole year in numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from airflow_parallel_provider import ListSink, Pipeline, Stage

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.airflow  # a DAG file imports Airflow

RowOf = Callable[[str, int], dict[str, Any]]
FLIGHTS = 336_776
JANUARY = 27_004
"""Flights of January 2013."""


@pytest.fixture(scope="module")
def lookups(flights: Any, flights_dir: Path) -> Any:
    return flights.load_lookups()


@pytest.fixture
def row_of(flights: Any, days: list[str], lookups: Any) -> RowOf:
    """The row of one flight, by day and number."""

    def score(day: str, flight_id: int) -> dict[str, Any]:
        path = next(each for each in days if each.endswith(f"{day}.csv"))
        flight = next(each for each in flights.read_day(path) if each["flight_id"] == str(flight_id))
        row: dict[str, Any] = flights.score_flight(flight, lookups)
        return row

    return score


def test_year_is_laid_out_as_one_file_a_day(days: list[str], flights_dir: Path) -> None:
    names = [path.rsplit("/", 1)[-1] for path in days]

    assert len(names) == 365
    assert (names[0], names[31], names[-1]) == ("2013-01-01.csv", "2013-02-01.csv", "2013-12-31.csv")
    assert sorted(each.name for each in flights_dir.iterdir()) == ["airports.csv", "days", "planes.csv", "weather.csv"]


def test_laying_out_again_changes_nothing(flights: Any, flights_dir: Path, tmp_path: Path, days: list[str]) -> None:
    first, again = flights.write_days(tmp_path), flights.write_days(tmp_path)

    assert first == again
    assert (tmp_path / "days" / "2013-06-30.csv").read_bytes() == (flights_dir / "days" / "2013-06-30.csv").read_bytes()


def test_every_flight_of_the_year_is_read_once(flights: Any, days: list[str]) -> None:
    ids = sorted(int(flight["flight_id"]) for day in days for flight in flights.read_day(day))

    assert ids == list(range(1, FLIGHTS + 1))


def test_files_hold_the_flights_of_their_day(flights: Any, days: list[str]) -> None:
    for path in days[::40]:
        year, month, day = path.rsplit("/", 1)[-1].removesuffix(".csv").split("-")
        found = {(flight["year"], flight["month"], flight["day"]) for flight in flights.read_day(path)}
        assert found == {(year, str(int(month)), str(int(day)))}


def test_first_flight_of_the_year(row_of: RowOf) -> None:
    row = row_of("2013-01-01", 1)

    # 2 minutes late out of Newark, 11 late in Houston, 227 in the air: United 1545, a Boeing 737-824 of 1999.
    lateness = 0.75 * 11 + 0.25 * 2
    severity = 0.4 * 12.65858 / 40
    assert row["delay_score"] == round(100 * lateness / (lateness + 60) * (1 - severity / 2), 2) == 11.92
    assert row["great_circle_miles"] == pytest.approx(1398, abs=2)
    del row["delay_score"], row["great_circle_miles"]
    assert row == {
        "flight_id": 1,
        "day": "2013-01-01",
        "scheduled": "05:15",
        "carrier": "UA",
        "flight": 1545,
        "tailnum": "N14228",
        "origin": "EWR",
        "dest": "IAH",
        "status": "flown",
        "dep_delay": 2,
        "arr_delay": 11,
        "made_up_minutes": -9,
        "air_minutes": 227,
        "speed_mph": 370.0,
        "stated_miles": 1400,
        "distance_confirmed": True,
        "plane_model": "737-824",
        "plane_seats": 149,
        "plane_age": 14,
        "temperature_f": 39.02,
        "wind_mph": pytest.approx(12.65858),
        "visibility_miles": 10.0,
        "rain_inches": 0.0,
        "weather_severity": 0.127,
    }


def test_canceled_flight_has_a_row_without_what_never_happened(row_of: RowOf) -> None:
    row = row_of("2013-01-01", 839)

    never = {key for key, value in row.items() if value is None}
    assert row["status"] == "canceled"
    assert never == {"dep_delay", "arr_delay", "made_up_minutes", "air_minutes", "speed_mph"}
    assert row["delay_score"] == pytest.approx(100 * (1 - row["weather_severity"] / 2), abs=0.05)


def test_diverted_flight_left_but_never_arrived(row_of: RowOf) -> None:
    row = row_of("2013-01-01", 472)

    assert row["status"] == "diverted"
    assert row["dep_delay"] is not None
    assert row["arr_delay"] is None
    assert row["delay_score"] > 50


def test_stated_miles_that_are_not_the_great_circle_are_found(row_of: RowOf) -> None:
    row = row_of("2013-07-27", 275946)

    # The one flight of the year from Newark to LaGuardia, next door: 17 miles stated, 16.6 in truth.
    assert (row["origin"], row["dest"], row["stated_miles"], row["great_circle_miles"]) == ("EWR", "LGA", 17, 16.6)
    assert row["distance_confirmed"] is False


@pytest.mark.parametrize("airport", ["BQN", "SJU", "STT", "PSE"])
def test_airports_missing_from_the_table_have_no_distance(
    flights: Any, days: list[str], lookups: Any, airport: str
) -> None:
    flight = next(each for day in days for each in flights.read_day(day) if each["dest"] == airport)

    row = flights.score_flight(flight, lookups)

    assert (row["great_circle_miles"], row["distance_confirmed"]) == (None, None)
    assert row["stated_miles"] > 1000


def test_unknown_plane_and_hour_are_none_and_not_an_error(flights: Any) -> None:
    flight = {
        "flight_id": "7", "year": "2013", "month": "3", "day": "4", "dep_delay": "60", "arr_delay": "60", "hour": "9",
        "minute": "5", "carrier": "XX", "flight": "12", "tailnum": "NA", "origin": "JFK", "dest": "LAX",
        "air_time": "300", "distance": "2475", "time_hour": "2013-03-04T14:00:00Z",
    }  # fmt: skip

    row = flights.score_flight(flight, flights.Lookups({}, {}, {}))

    unknown = {key for key, value in row.items() if value is None}
    assert unknown == {
        "tailnum", "great_circle_miles", "distance_confirmed", "plane_model", "plane_seats", "plane_age",
        "temperature_f", "wind_mph", "visibility_miles", "rain_inches", "weather_severity",
    }  # fmt: skip
    assert row["delay_score"] == 50.0  # an hour late at both ends, and no weather to excuse it


@pytest.mark.parametrize(
    ("ends", "miles"),
    [
        ((0.0, 0.0, 0.0, 0.0), 0.0),
        ((0.0, 0.0, 0.0, 90.0), math.pi / 2 * 3958.76),  # a quarter of the equator
        ((90.0, 0.0, -90.0, 0.0), math.pi * 3958.76),  # pole to pole
        ((0.0, 179.5, 0.0, -179.5), math.radians(1) * 3958.76),  # across the date line, one degree
        ((40.639751, -73.778925, 33.942536, -118.408075), 2475.0),  # JFK to LAX as airlines state it: no perfect sphere
    ],
)
def test_great_circle_miles(flights: Any, ends: tuple[float, float, float, float], miles: float) -> None:
    assert flights.great_circle_miles(*ends) == pytest.approx(miles, rel=3e-3, abs=1e-9)
    assert flights.great_circle_miles(*ends[2:], *ends[:2]) == pytest.approx(miles, rel=3e-3, abs=1e-9)


@pytest.mark.parametrize(
    ("departure", "arrival", "severity", "score"),
    [
        (-5, -20, 0.0, 0.0),  # early is not better than on time
        (0, 60, 0.0, 42.86),  # 45 of 105
        (60, 0, 0.0, 20.0),  # 15 of 75: made up in the air
        (60, 60, 1.0, 25.0),  # the worst weather excuses half
        (60, 60, None, 50.0),  # weather that is not recorded excuses nothing
        (None, None, 0.5, 75.0),  # canceled
        (10, None, 0.0, 100.0),  # diverted
    ],
)
def test_delay_score(
    flights: Any, departure: int | None, arrival: int | None, severity: float | None, score: float
) -> None:
    assert flights.delay_score(departure, arrival, severity) == score


@pytest.mark.parametrize(
    ("wind", "visibility", "rain", "severity"),
    [
        ("0", "10", "0", 0.0),
        ("40", "0", "0.3", 1.0),
        ("80", "10", "9", 0.6),
        ("20", "5", "0", 0.4),
        ("NA", "NA", "NA", 0.0),
    ],
)
def test_weather_severity(flights: Any, wind: str, visibility: str, rain: str, severity: float) -> None:
    weather = {"wind_speed": wind, "visib": visibility, "precip": rain}

    assert flights.weather_severity(weather) == pytest.approx(severity)
    assert flights.weather_severity({}) is None


def test_january_through_the_engine_is_the_plain_loop(flights: Any, days: list[str], lookups: Any) -> None:
    january = days[:31]
    expected = [flights.score_flight(flight, lookups) for day in january for flight in flights.read_day(day)]
    sink = ListSink()

    report = Pipeline(
        january,
        [
            Stage(flights.read_day, workers=4),
            Stage(flights.score_flights, kind="process", workers=2, batch_size=500, setup=flights.load_lookups),
        ],
        sink,
        chunk_size=10,
        ordered=True,
    ).run()

    assert len(sink.rows) == JANUARY == report.rows_committed
    assert sink.rows == expected
    assert (report.state, report.items_committed, report.chunks_committed) == ("success", 31, 4)


@pytest.mark.slow  # six seconds of CPU; `make demo` counts the rows of the year, too
@pytest.mark.timeout(180)
def test_year_in_numbers(flights: Any, days: list[str], lookups: Any) -> None:
    """Day by day: with all rows of the year in memory the garbage collector took as long as the test."""
    ids: set[int] = set()
    statuses: Counter[str] = Counter()
    confirmed: Counter[bool | None] = Counter()
    rows = 0
    for day in days:
        of_day = flights.score_flights(list(flights.read_day(day)), lookups)
        rows += len(of_day)
        ids.update(row["flight_id"] for row in of_day)
        statuses.update(row["status"] for row in of_day)
        confirmed.update(row["distance_confirmed"] for row in of_day)
        assert all(0 <= row["delay_score"] <= 100 for row in of_day)
        numbers = (value for row in of_day for value in row.values() if isinstance(value, float))
        assert all(map(math.isfinite, numbers))  # missing is None, never NaN

    assert len(ids) == rows == FLIGHTS
    assert (statuses["canceled"], statuses["diverted"]) == (8_255, 1_175)
    assert confirmed[False] == 1
    assert confirmed[None] == 5_819 + 896 + 522 + 365  # SJU, BQN, STT, PSE
