"""Loads with ``write_disposition="replace"``, one after another into one table, while a reader reads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow_parallel_provider.engine.interfaces.records import LoadSpec
from airflow_parallel_provider.sinks.ledger.definitions import load_id, staging_name
from tests.chaos.campaign import POINTS, Campaign, Figures
from tests.chaos.reader import Reader
from tests.support.databases import TestDatabase

SWAP_POINTS = ("before_swap", "in_swap", "after_rename", "before_commit_of_swap", "after_swap")
"""``in_swap`` and ``before_commit_of_swap`` are in the transaction of a swap; MySQL has ``after_rename`` instead."""
TABLE = "scores"
WHOLE = "SELECT COUNT(*), MIN(made_by), MAX(made_by), COUNT(DISTINCT id) FROM {}"


def rows_of(load: int, chunk: int, size: int) -> list[dict[str, int]]:
    """The rows of a chunk: each load has all ids, and says who has made them."""
    return [{"id": chunk * size + at, "made_by": load} for at in range(size)]


def replace_attempt(
    database: TestDatabase, load: int, chunks: int, size: int, number: int = 1, cls: Any = None, **options: Any
) -> None:
    """One attempt at a load that replaces all rows."""
    spec = LoadSpec(f"load {load}", size, f"range({chunks * size})", attempt=number)
    with database.hook(TABLE, cls, write_disposition="replace", **options) as hook:
        done = hook.open(spec)
        for chunk in range(chunks):
            if f"{chunk:08d}" not in done:
                hook.write_chunk(f"{chunk:08d}", rows_of(load, chunk, size), first_position=chunk * size)
        hook.consolidate()


def watching(database: TestDatabase, rows: int, *, there: bool) -> Reader:
    """Sees all rows of one load at each look, and never those of an earlier one again."""
    return Reader(database, WHOLE.format(database.place(TABLE)), whole(rows), may_be_absent=not there)


def whole(rows: int) -> Callable[[Any], str | None]:
    """What is wrong about a look at the table."""
    latest = [-1]

    def judge(row: Any) -> str | None:
        count, first, last, different = row
        if (count, different) != (rows, rows) or first != last:
            return f"half a load: {count} rows, {different} ids, of loads {first} to {last}"
        if last < latest[0]:
            return f"load {last} is back after load {latest[0]}"
        latest[0] = last
        return None

    return judge


def staging_of(database: TestDatabase, load: int) -> str:
    """The staging table of a load."""
    longest = {"postgres": 63, "mariadb": 64}.get(database.name)
    return staging_name(TABLE, load_id(f"load {load}", TABLE, database.schema), longest)


class ReplacingCampaign(Campaign):
    """Loads that replace each other: readers see one of them, whole; an attempt that comes later finishes a swap."""

    points = (*POINTS[2:], *SWAP_POINTS, *SWAP_POINTS)
    kinds = ("point",) * 6 + ("moment", "none")

    def run(self, kills: int) -> Figures:
        """As in the base class, while a reader reads."""
        with watching(self.database, self.chunks * self.size, there=False) as reader:
            figures = super().run(kills)
        figures.looks = reader.looks
        return figures

    @property
    def table(self) -> str:
        """Always the same."""
        return TABLE

    @property
    def load_key(self) -> str:
        """Each load's own."""
        return f"load {self.figures.loads}"

    def attempt(self, database: TestDatabase, number: int, cls: Any = None) -> None:
        """What one process does."""
        replace_attempt(database, self.figures.loads, self.chunks, self.size, number, cls, lock_timeout=30)

    def compare(self) -> None:
        """The table is whole, of the load before or of this one; what the ledger has of this one is somewhere, once."""
        for _ in range(200):
            before = self.ledger()
            by = self._made_by()
            ids = self.ids(staging_of(self.database, self.figures.loads))
            if before == self.ledger() and by == self._made_by():
                break
        if by == [self.figures.loads]:
            assert before == self.all_chunks()
            assert len(ids) in (0, self.chunks * self.size)  # copied: dropped when all is done
        else:
            assert by == ([self.figures.loads - 1] if self.figures.loads else []), (
                f"rows of {by} in load {self.load_key}"
            )
            self.require_whole(ids, before)

    def require_complete(self) -> None:
        """The new rows are in the table and in the ledger."""
        chunks = range(self.chunks)
        expected = [tuple(row.values()) for chunk in chunks for row in rows_of(self.figures.loads, chunk, self.size)]
        assert self.database.rows(TABLE, "id, made_by") == expected
        assert self.ledger() == self.all_chunks()

    def _made_by(self) -> list[int]:
        if not self.database.exists(TABLE):
            return []
        return [int(row[0]) for row in self.database.rows(TABLE, "DISTINCT made_by")]
