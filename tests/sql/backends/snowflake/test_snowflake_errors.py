"""Snowflake's errors by number and state, and what may be said of them; needs neither connector nor server."""

from __future__ import annotations

import pytest

from airflow_parallel_provider.sql.backends.error_classifier import Refusal
from airflow_parallel_provider.sql.backends.registry import backend_class
from airflow_parallel_provider.sql.backends.snowflake.error_classifier import SnowflakeErrorClassifier

CLASSIFIER = SnowflakeErrorClassifier("snowflake")


class ProgrammingError(Exception):
    """As the connector's."""

    def __init__(self, errno: int, sqlstate: str, text: str = "") -> None:
        super().__init__(text)
        self.errno, self.sqlstate = errno, sqlstate


class OperationalError(ProgrammingError):
    """As the connector's."""


@pytest.mark.parametrize(
    ("error", "transient", "value"),
    [
        (ProgrammingError(625, "57014"), True, False),
        (ProgrammingError(390114, "08001"), True, False),
        (OperationalError(253003, ""), True, False),
        (ProgrammingError(100038, "22018"), False, True),
        (ProgrammingError(100072, "22000"), False, True),
        (ProgrammingError(100078, "22000"), False, True),
        (ProgrammingError(2003, "42S02"), False, False),
        (ProgrammingError(3001, "42501"), False, False),
        (ProgrammingError(1003, "42000"), False, False),
    ],
)
def test_what_may_pass_and_what_is_a_value(error: Exception, transient: bool, value: bool) -> None:
    assert (CLASSIFIER.is_transient(error), CLASSIFIER.is_about_value(error)) == (transient, value)


def test_a_message_is_not_shown() -> None:
    error = ProgrammingError(100078, "22000", "String 'my secret' is too long")

    assert CLASSIFIER.explain(error) == "ProgrammingError 100078 (22000)"
    assert CLASSIFIER.refusal(ProgrammingError(3001, "42501")) is Refusal.RIGHT


def test_the_connector_has_the_backend() -> None:
    assert backend_class("snowflake", "snowflake").__name__ == "SnowflakeBackend"
