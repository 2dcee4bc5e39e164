"""Which error of DuckDB says that another process has the file, and who that is."""

from __future__ import annotations

import pytest

from airflow_parallel_provider.sql.backends.duckdb.file_lock import lock_holder

duckdb = pytest.importorskip("duckdb")

REFUSED = 'IO Error: Could not set lock on file "/data/w.db": '


def test_holder_is_named_where_duckdb_knows_it() -> None:
    known = duckdb.IOException(f"{REFUSED}Conflicting lock is held in /usr/bin/python3.11 (PID 42). See also ...")

    assert lock_holder(known) == "/usr/bin/python3.11 (PID 42)"
    assert lock_holder(duckdb.IOException(f"{REFUSED}Resource temporarily unavailable")) == "another process"


def test_other_errors_say_nothing_of_a_holder() -> None:
    assert lock_holder(duckdb.IOException("IO Error: No space left on device")) is None
    assert lock_holder(OSError(REFUSED)) is None
