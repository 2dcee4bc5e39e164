"""``HttpPagesSource(since=)``: each load asks for what has changed since the last complete one began."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_parallel_provider import HttpPagesSource, ListSink, Pipeline, PlanError, RunFailed, SinkTable, Stage
from airflow_parallel_provider.sources import changed_since
from airflow_parallel_provider.sources.changed_since import ChangedSince
from tests.sources.http.conftest import Serve
from tests.support.pages import Answer, Pages

pytestmark = pytest.mark.airflow


class Clock:
    """The time, as the source reads it."""

    hour = 10

    @classmethod
    def now(cls, _zone: Any) -> datetime:
        return datetime(2026, 11, 1, cls.hour, 30, 15, 999_999, tzinfo=UTC)

    fromisoformat = datetime.fromisoformat


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> type[Clock]:
    monkeypatch.setattr(Clock, "hour", 10)
    monkeypatch.setattr(changed_since, "datetime", Clock)
    return Clock


@pytest.fixture
def pages(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pages:
    """A server with one page of an item, and a database for it."""
    database = {"conn_type": "sqlite", "host": str(tmp_path / "warehouse.db")}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(database))

    def answer(_path: str, query: dict[str, str]) -> Answer:
        return 200, {}, [{"id": 1}] if query.get("page", "1") == "1" else []

    return serve(answer)


def same(row: Any) -> Any:
    return row


def fails(_row: Any) -> Any:
    raise ValueError("not today")


def load(key: str, function: Any = same, **options: Any) -> Any:
    given = {"conn_id": "api", "readers": 1, "since": "updated_after", **options}
    sink = SinkTable("items", conn_id="warehouse", write_disposition="merge", primary_key=["id"])
    return Pipeline(HttpPagesSource("/items", **given), [Stage(function)], sink, load_key=key).run()


def test_each_load_asks_from_when_the_last_one_began(pages: Pages, clock: type[Clock]) -> None:
    load("monday", until="updated_before")
    clock.hour = 11
    with pytest.raises(RunFailed, match="not today"):
        load("tuesday", fails, until="updated_before")
    clock.hour = 12
    load("wednesday", until="updated_before", since_lag=timedelta(0))

    asked = [(query.get("updated_after"), query["updated_before"]) for _, query in pages.asked if query["page"] == "1"]
    assert asked == [
        (None, "2026-11-01T10:30:15Z"),
        ("2026-11-01T10:29:15Z", "2026-11-01T11:30:15Z"),  # a minute earlier: clocks differ
        ("2026-11-01T10:30:15Z", "2026-11-01T12:30:15Z"),  # the one that failed does not count
    ]


def test_a_retry_asks_for_the_same_period(pages: Pages, clock: type[Clock]) -> None:
    load("sunday", until="to")
    clock.hour = 11
    load("monday", until="to")
    clock.hour = 12
    report = load("monday", until="to")

    assert report.items_skipped == 1
    periods = [(query.get("updated_after"), query["to"]) for _, query in pages.asked if query["page"] == "1"]
    assert periods[1] == periods[2]


def test_other_parameters_are_another_stream(pages: Pages, clock: type[Clock]) -> None:
    for tenant in ("a", "b", "a"):
        load(f"{tenant} {clock.hour}", parameters={"tenant": tenant})
        clock.hour += 1

    asked = [query.get("updated_after") for _, query in pages.asked if query["page"] == "1"]
    assert asked == [None, None, "2026-11-01T10:29:15Z"]


def test_in_the_body_of_a_post(pages: Pages, clock: type[Clock]) -> None:
    options = {"json": {"filter": {"kind": 1}}, "since": "filter.after", "since_format": "epoch"}
    for key in ("monday", "tuesday"):
        load(key, page_size=1, repeated_page="end", **options)

    first, *_, last = [body["filter"] for body in pages.bodies]
    seconds = int(datetime(2026, 11, 1, 10, 29, 15, tzinfo=UTC).timestamp())
    assert (first, last) == ({"kind": 1}, {"kind": 1, "after": seconds})


@pytest.mark.parametrize(("form", "text"), [("iso", "2026-11-01T09:00:00Z"), ("%d.%m.%y %H:%M", "01.11.26 09:00")])
def test_form_of_the_moment(form: str, text: str) -> None:
    changed = ChangedSince.checked("Source", "after", None, timedelta(hours=1), form)

    assert changed is not None
    assert changed.values({"low": "2026-11-01T10:00:00+00:00", "high": ""}) == {"after": text}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"since": ""}, r"HttpPagesSource\.since=''"),
        ({"since": None, "until": "to"}, r"HttpPagesSource\.until='to': it goes with since="),
        ({"until": "after"}, r"HttpPagesSource\.until='after': since= has the same name"),
        ({"since_lag": 5}, r"HttpPagesSource\.since_lag=5: give a timedelta"),
        ({"since_lag": timedelta(-1)}, r"HttpPagesSource\.since_lag="),
        ({"since_format": "unix"}, r"HttpPagesSource\.since_format='unix': give 'iso', 'epoch'"),
    ],
)
def test_what_contradicts_is_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(PlanError, match=complaint):
        HttpPagesSource("/items", **{"conn_id": "api", "since": "after", **options})


def test_the_table_must_merge_since_items_come_again() -> None:
    source = HttpPagesSource("/items", conn_id="api", since="after")
    with pytest.raises(PlanError, match=r"SinkTable\.write_disposition='append': HttpPagesSource\.since='after' reads"):
        Pipeline(source, [], SinkTable("items", conn_id="warehouse"))
    with pytest.raises(PlanError, match=r"HttpPagesSource\.since='after': the ledger of a SinkTable"):
        Pipeline(source, [], ListSink())
