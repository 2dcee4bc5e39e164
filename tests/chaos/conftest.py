"""The databases of the sink's tests."""

from __future__ import annotations

from tests.sinks.conftest import database
from tests.support import airflow_env

__all__ = ["database"]

airflow_env.isolate()
