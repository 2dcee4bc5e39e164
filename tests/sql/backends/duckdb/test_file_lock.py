"""Which error of DuckDB says that another process has the file, and who that is."""

from __future__ import annotations

import pytest

from airflow_parallel_provider.sql.backends.duckdb.file_lock import holder_of

duckdb = pytest.importorskip("duckdb")

REFUSED = 'IO Error: Could not set lock on file "/data/w.db": '


def test_holder_is_named_where_duckdb_knows_it() -> None:
    known = duckdb.IOException(f"{REFUSED}Conflicting lock is held in /usr/bin/python3.11 (PID 42). See also ...")

    assert holder_of(known) == "/usr/bin/python3.11 (PID 42)"
    assert holder_of(duckdb.IOException(f"{REFUSED}Resource temporarily unavailable")) == "another process"


def test_other_errors_say_nothing_of_a_holder() -> None:
    assert holder_of(duckdb.IOException("IO Error: No space left on device")) is None
    assert holder_of(OSError(REFUSED)) is None
