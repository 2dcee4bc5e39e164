"""Arrow's reader of CSV, once before the tests: its first call from the main thread opens a pipe for signals."""

from __future__ import annotations

import io

import pytest


@pytest.fixture(scope="session", autouse=True)
def pipe_of_arrow() -> None:
    """Open it, and keep it: no test has left it behind."""
    from pyarrow import csv

    csv.read_csv(io.BytesIO(b"a,b\n1,2\n"))
