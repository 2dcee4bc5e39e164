"""What an error says about when to come back; one that lies, hangs or says nothing is no reason to wait."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from airflow_parallel_provider.engine.functions.retry_after import LONGEST, retry_after_of
from airflow_parallel_provider.errors import RetryAfter


class Refused(Exception):
    def __init__(self, **attributes: Any) -> None:
        super().__init__("refused")
        vars(self).update(attributes)


def answer(**headers: str) -> SimpleNamespace:
    return SimpleNamespace(headers={name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (RetryAfter(30), 30.0),
        (Refused(retry_after=7), 7.0),
        (Refused(retry_after="7.5"), 7.5),
        (Refused(retry_after=b"7"), 7.0),
        (Refused(retry_after=timedelta(minutes=2)), 120.0),
        (Refused(retry_after=None, response=answer(Retry_After="12")), 12.0),
        (Refused(response=answer(Retry_After="12")), 12.0),
        (Refused(retry_after=-5), 0.0),
        (Refused(retry_after=1e9), LONGEST),
        (Refused(retry_after=datetime(2001, 1, 1, tzinfo=UTC)), 0.0),
        (ValueError("plain"), None),
        (Refused(retry_after=float("nan")), None),
        (Refused(retry_after="soon"), None),
        (Refused(retry_after=True), None),
        (Refused(retry_after=lambda: 5), None),
        (Refused(response=answer()), None),
        (Refused(response=None), None),
    ],
)
def test_what_it_says(error: BaseException, seconds: float | None) -> None:
    assert retry_after_of(error) == seconds


def test_a_date() -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)

    for said in (format_datetime(soon), soon):
        assert retry_after_of(Refused(retry_after=said)) == pytest.approx(3600, abs=60)


class Hostile(Exception):
    @property
    def retry_after(self) -> NoReturn:
        raise SystemExit


def test_a_property_that_raises_anything() -> None:
    assert retry_after_of(Hostile()) is None


def test_it_survives_pickling() -> None:
    for error in (RetryAfter(3), RetryAfter(3, "busy")):
        again = pickle.loads(pickle.dumps(error))
        assert (str(again), again.retry_after) == (str(error), 3)
    assert str(RetryAfter(3)) == "the service asks to come back in 3 s"
