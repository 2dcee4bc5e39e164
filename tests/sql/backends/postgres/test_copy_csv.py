"""Arrow tables into PostgreSQL: of an empty part of a table nothing is sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import pytest

from airflow_parallel_provider.sql.backends.postgres.copy_csv import copy_csv

pa = pytest.importorskip("pyarrow")


class Connection:
    """A connection of psycopg 3 that keeps what is sent to a COPY."""

    def __init__(self) -> None:
        self.sent = b""
        self.rowcount = -1

    def cursor(self) -> Connection:
        return self

    def copy(self, _: str) -> Connection:
        return self

    def write(self, data: bytes) -> None:
        self.sent += data

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.rowcount = self.sent.count(b"\n")


def numbers(*values: int) -> Any:
    return pa.table({"id": pa.array(values, pa.int64())})


def texts(*values: str) -> Any:
    return pa.table({"id": pa.array(values, pa.string())})


EMPTY = numbers()
LAYOUTS: dict[str, Callable[[], Any]] = {
    "empty first": lambda: pa.concat_tables([EMPTY, numbers(1, 2, 3)]),
    "empty in the middle": lambda: pa.concat_tables([numbers(1, 2), EMPTY, EMPTY, numbers(3)]),
    "empty at the end": lambda: pa.concat_tables([numbers(1, 2, 3), EMPTY]),
    "sliced": lambda: numbers(0, 1, 2, 3).slice(1),
    "a batch": lambda: pa.RecordBatch.from_pydict({"id": pa.array([1, 2, 3], pa.int64())}),
    "chunks of another length in each column": lambda: pa.table(
        {
            "a": pa.chunked_array([[], [1, 2], [], [3]], pa.int64()),
            "b": pa.chunked_array([[], [], [1], [2, 3], []], pa.int64()),
        }
    ),
    "many rows": lambda: numbers(*range(5_000)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_row_is_sent_once_and_nothing_else(layout: str) -> None:
    table = LAYOUTS[layout]()
    connection = Connection()

    count = copy_csv(connection, "t", "id", table)

    expected = "".join(",".join(map(str, row.values())) + "\n" for row in table.to_pylist())
    assert connection.sent == expected.encode()
    assert count == table.num_rows


@pytest.mark.parametrize(
    "table", [EMPTY, pa.concat_tables([EMPTY, EMPTY]), texts(), pa.RecordBatch.from_pydict({"id": []})]
)
def test_of_an_empty_table_nothing_is_sent(table: Any) -> None:
    connection = Connection()

    assert copy_csv(connection, "t", "id", table) == 0
    assert connection.sent == b""


def test_memory_of_before_is_never_sent() -> None:
    """Arrow's buffer holds what it last held: many allocations before make that visible."""
    for _ in range(50):
        secret = texts(*["a secret of another task"] * 500)
        copy_csv(Connection(), "t", "id", secret)
        del secret
        connection = Connection()
        copy_csv(connection, "t", "id", pa.concat_tables([texts(), texts("x")]))
        assert connection.sent == b'"x"\n'
